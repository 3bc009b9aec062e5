"""What ended a cell, with a traceback that shows the user's own code and not the interpreter's."""

from __future__ import annotations

import os
import traceback

from .display import shorten

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIMIT = 20_000


def error_of(raised: BaseException) -> dict[str, str] | None:
    """Return an exception as name, value and traceback; None for one that is no failure (`sys.exit()`)."""
    if isinstance(raised, SystemExit) and raised.code in (None, 0):
        return None
    try:
        value = str(raised)
    except Exception:
        value = "(the error's own text could not be made)"
    return {
        "name": type(raised).__name__,
        "value": shorten(value, _LIMIT),
        "traceback": shorten(_trace(raised), _LIMIT),
    }


def _trace(raised: BaseException) -> str:
    try:
        report = traceback.TracebackException.from_exception(raised)
        _trim(report, set())
        return "".join(report.format())
    except Exception:
        return f"{type(raised).__name__}\n"


def _is_users(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(("<cell ", "/workspace/", "/home/"))


def _trim(report: traceback.TracebackException, seen: set[int]) -> None:
    """Keep the user's frames, and the last one, where the error arose."""
    if id(report) in seen:
        return
    seen.add(id(report))
    # A cell that is no Python has no frame of its own; the report names its line apart from the stack.
    unread = str(getattr(report, "filename", "")).startswith("<cell ")
    last = -1 if unread else len(report.stack) - 1
    kept = [frame for place, frame in enumerate(report.stack) if _is_users(frame) or place == last]
    own = [frame for frame in kept if not frame.filename.startswith(_OWN)]
    report.stack = traceback.StackSummary.from_list(own)
    for link in (report.__cause__, report.__context__):
        if link is not None:
            _trim(link, seen)
