"""What a cell gave, in a form that travels: text, tables, figures, errors."""

from __future__ import annotations

import base64
import io
import sys
import traceback
import warnings
from types import ModuleType
from typing import Any

MAX_TEXT = 200_000
MAX_PNG = 5 * 1024 * 1024
MAX_FIGURES = 50

warnings.filterwarnings("ignore", message=".*non-interactive, and thus cannot be shown")


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """Cut the middle out of a long text, and say so."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _rich(kind: str, data: str) -> dict[str, str]:
    return {"kind": kind, "data": data}


def rich_value(value: object) -> list[dict[str, str]]:
    """Return the representations of a cell's last value: a table as HTML and text, a figure as PNG, else its repr."""
    if value is None:
        return []
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        return _table(value, pandas)
    figure = sys.modules.get("matplotlib.figure")
    if figure is not None and isinstance(value, figure.Figure):
        return [] if _is_managed(value) else [_png(value)]
    return [_rich("text", shorten(repr(value)))]


def _table(value: Any, pandas: ModuleType) -> list[dict[str, str]]:
    frame = value.to_frame() if isinstance(value, pandas.Series) else value
    html = frame.to_html(max_rows=60, max_cols=40, show_dimensions=False, border=0)
    with pandas.option_context("display.width", 160, "display.max_columns", 40):
        text = repr(value)
    results = [_rich("text", shorten(text))]
    return [_rich("html", html), *results] if len(html) <= MAX_TEXT else results


def _is_managed(figure: Any) -> bool:
    """Say whether pyplot knows the figure; then it is captured with the others at the end of the cell."""
    manager = getattr(figure.canvas, "manager", None)
    return manager is not None and manager.num in _pyplot_numbers()


def _pyplot_numbers() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return list(pyplot.get_fignums()) if pyplot is not None else []


def figures() -> list[dict[str, str]]:
    """Return every open figure as a PNG, and close them all."""
    numbers = _pyplot_numbers()
    if not numbers:
        return []
    pyplot = sys.modules["matplotlib.pyplot"]
    try:
        return [_png(pyplot.figure(number)) for number in numbers[:MAX_FIGURES]]
    except Exception as error:
        return [_rich("text", f"[the figures could not be drawn: {type(error).__name__}: {error}]")]
    finally:
        pyplot.close("all")


def _png(figure: Any) -> dict[str, str]:
    try:
        for dpi in (figure.dpi, 72, 40):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
            if buffer.tell() <= MAX_PNG:
                return _rich("png", base64.b64encode(buffer.getvalue()).decode())
        problem = f"its image is larger than {MAX_PNG // 1024 // 1024} MiB"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return _rich("text", f"[a figure could not be drawn: {problem}]")


def error_of(raised: BaseException) -> dict[str, str] | None:
    """Return what ended a cell as name, message and a traceback that shows the user's own code."""
    if isinstance(raised, SystemExit) and raised.code in (None, 0):
        return None
    try:
        message = str(raised)
    except Exception:
        message = "(the error's own text could not be made)"
    return {
        "name": type(raised).__name__,
        "message": shorten(message, 20_000),
        "traceback": shorten(_trace(raised), 20_000),
    }


def _trace(raised: BaseException) -> str:
    try:
        report = traceback.TracebackException.from_exception(raised)
        _trim(report, set())
        return "".join(report.format())
    except Exception:
        return f"{type(raised).__name__}\n"


def _is_users(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(("<cell ", "/workspace/"))


def _trim(report: traceback.TracebackException, seen: set[int]) -> None:
    """Keep the user's frames, and the last one, where the error arose."""
    if id(report) in seen:
        return
    seen.add(id(report))
    last = len(report.stack) - 1
    kept = [frame for place, frame in enumerate(report.stack) if _is_users(frame) or place == last]
    own = [frame for frame in kept if "/guestd/" not in frame.filename]
    report.stack = traceback.StackSummary.from_list(own)
    for link in (report.__cause__, report.__context__):
        if link is not None:
            _trim(link, seen)
