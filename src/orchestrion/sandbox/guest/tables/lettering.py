"""Text in pictures: short, drawable by a font that is here, numbers a reader can take in."""

from __future__ import annotations

import math
from functools import cache
from itertools import groupby

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

LONGEST = 28
# Asked for in this order where they are installed; DejaVu comes with matplotlib.
_WANTED = [
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
]


@cache
def fonts() -> tuple[str, ...]:
    """Return the installed font families to fall back through."""
    here = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in _WANTED if name in here)


@cache
def _drawable() -> frozenset[int]:
    """Return every code point some font at hand can draw."""
    known: set[int] = set()
    for name in fonts():
        known |= set(FT2Font(font_manager.findfont(name)).get_charmap())
    return frozenset(known)


class Letters:
    """Makes labels for one picture; what no font can draw gets a number, explained in `key`."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def label(self, value: object, longest: int = LONGEST) -> str:
        """Return a label of at most `longest` characters on one line; a long one loses its middle.

        The middle, because the ends are what tells names apart.
        """
        text = " ".join(str(value).split()) or "(blank)"
        text = "".join(
            "".join(run) if drawable else self._number("".join(run))
            for drawable, run in groupby(text, key=lambda char: ord(char) in _drawable())
        )
        if len(text) <= longest:
            return text
        end = longest // 3
        return f"{text[: longest - end - 1].rstrip()}…{text[-end:].lstrip()}"

    def _number(self, text: str) -> str:
        return f"‹{self._numbers.setdefault(text, len(self._numbers) + 1)}›"

    @property
    def key(self) -> str:
        """Explain the numbers that stand for undrawable text; empty if there are none."""
        pairs = ", ".join(f"‹{number}› = {text}" for text, number in self._numbers.items())
        return f" No font here can draw some names: {pairs}." if pairs else ""


def figure(value: float) -> str:
    """Write a number for people: digits grouped, no false precision."""
    number = float(value)
    if not math.isfinite(number):
        return "n/a"
    if number == int(number) and abs(number) < 1e15:
        return f"{number:,.0f}"
    if abs(number) >= 1000:
        return f"{number:,.2f}"
    return f"{number:.4f}".rstrip("0").rstrip(".") if abs(number) >= 1 else f"{number:.4g}"


def signed(value: float) -> str:
    """Write a change for people, with its sign."""
    return f"+{figure(value)}" if value >= 0 else f"−{figure(-value)}"
