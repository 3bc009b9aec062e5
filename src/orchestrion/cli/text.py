"""Text for a terminal: made harmless, made short, made readable."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[@-Z\\-_])")
# C0 but tab and newline, DEL, C1, and the marks that turn the writing direction round.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def clean(text: str) -> str:
    """Take out everything that could steer a terminal.

    What a model, a tool or a file name says is data; an escape sequence in it must not reach the user's screen.
    """
    text = _SEQUENCES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")


def one_line(text: str, limit: int = 80) -> str:
    """Return `text` on one line of at most `limit` characters."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit else flat[: max(limit - 1, 0)].rstrip() + "…"


def size(count: int) -> str:
    """Return a number of bytes for people: `12.3 kB`."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def seconds(value: float) -> str:
    """Return a time span for people: `0.3 s`, `2 min 5 s`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago `moment` was: `3 min ago`."""
    gone = max(((now or datetime.now(UTC)) - moment).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if gone >= length:
            return f"{int(gone // length)} {unit} ago"
    return "just now"


def tail(text: str, lines: int) -> tuple[list[str], int]:
    """Return the last non-empty `lines` of `text`, and how many stand before them.

    Lines that begin with `@@` are left out: code prints them for the model to read.
    """
    kept = [line.rstrip() for line in clean(text).splitlines() if line.strip() and not line.startswith("@@")]
    return kept[-lines:], max(len(kept) - lines, 0)
