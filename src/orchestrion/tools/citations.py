"""Checks quotes against stored sources.

A quote holds if its words stand in the source in this order, letter for letter. Three things are forgiven, because
they change no word: runs of whitespace, the style of quotation marks and dashes (“ and ", – and -), and composed or
decomposed accents. Quotation marks or dots that a writer put around the whole quote are dropped if it doesn't hold
with them. What a report then shows is never the writer's version but the source's own text, widened to whole words
and numbers, so that “rose by 5” can't be cut out of “rose by 50 %”.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

MAX_QUOTE = 5000
_LONGEST_WORD = 80
_EQUIVALENT = ['"“”„‟«»″〝〞', "'‘’‚‛′`´ʼ", "-‐‑‒–—―−﹣", "<‹", ">›"]
_SAME = str.maketrans({letter: group[0] for group in _EQUIVALENT for letter in group})
_RESIZED = re.compile(r"\s{2,}|[^\S ]|…")
_LOOKED_AT = 1000
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_MARKS = " \t\n\"“”„‟«»'‘’‚"
_DOTS = "…."
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]"
)
_NUMBER_AFTER = re.compile(r"[.,]?\d")
_NUMBER_BEFORE = re.compile(r"\d[.,]?$")


@dataclass(frozen=True)
class Quote:
    """A quote that was found.

    Attributes:
        offset: Where it begins in the source's text.
        end: Where it ends.
        text: The source's own text there, with single spaces for runs of whitespace.
    """

    offset: int
    end: int
    text: str


def locate(text: str, quote: str) -> Quote | None:
    """Find a quote in a source's text.

    Args:
        text: The source's text.
        quote: As the writer gives it.

    Returns:
        The source's own text at that place, or None if it isn't there.
    """
    for wanted in dict.fromkeys([quote, quote.strip(_MARKS), quote.strip(_MARKS + _DOTS)]):
        span = _best_span(text, wanted)
        if span:
            start, end = _whole_words(text, *span)
            return Quote(start, end, " ".join(text[start:end].split()))
    return None


def _best_span(text: str, quote: str) -> tuple[int, int] | None:
    """Return where a quote stands, better where it cuts no word than where it does."""
    if len(quote) > MAX_QUOTE or not any(letter.isalnum() for letter in quote):
        return None
    folded = _fold(text)
    first: tuple[int, int] | None = None
    for span in islice(folded.find(_folded_quote(quote)), _LOOKED_AT):
        if _whole_words(text, *span) == span:
            return span
        first = first or span
    return first


def _folded_quote(quote: str) -> str:
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFC", quote)).replace("…", "...")
    return " ".join(plain.translate(_SAME).split())


@dataclass(frozen=True)
class _Folded:
    """A text with all that is forgiven made equal.

    Attributes:
        text: Single spaces, straight quotation marks, plain dashes.
        marks: Positions in it after which the distance to the source's own positions changes.
        origins: The source's positions there.
    """

    text: str
    marks: list[int]
    origins: list[int]

    def find(self, wanted: str) -> Iterator[tuple[int, int]]:
        """Yield where it stands in the source. `str.find` is linear, where a pattern would not be on hostile text."""
        at = self.text.find(wanted)
        while at >= 0:
            end = at + len(wanted)
            yield self._origin(at), self._origin(end)
            at = self.text.find(wanted, end)

    def _origin(self, position: int) -> int:
        nearest = bisect_right(self.marks, position) - 1
        origin = self.origins[nearest] + position - self.marks[nearest]
        return min(origin, self.origins[nearest + 1]) if nearest + 1 < len(self.origins) else origin


@lru_cache(maxsize=4)
def _fold(text: str) -> _Folded:
    parts: list[str] = []
    marks, origins, length, done = [0], [0], 0, 0
    for found in _RESIZED.finditer(text):
        kept = text[done : found.start()]
        parts += [kept, "..." if found.group() == "…" else " "]
        marks += [length + len(kept), length + len(kept) + len(parts[-1])]
        origins += [found.start(), found.end()]
        length, done = marks[-1], found.end()
    return _Folded("".join([*parts, text[done:]]).translate(_SAME), marks, origins)


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Widen a span to the ends of the words and numbers that it cuts."""
    first, last = max(0, start - _LONGEST_WORD), min(len(text), end + _LONGEST_WORD)
    while start > first and _joined(text, start):
        start -= 1
    while end < last and _joined(text, end):
        end += 1
    return start, end


def _joined(text: str, at: int) -> bool:
    """Say whether a cut before `text[at]` would part a word or a number."""
    before, after = text[at - 1], text[at]
    if before.isdigit() or after.isdigit():
        before_number = _NUMBER_BEFORE.search(text, max(0, at - 2), at)
        if before_number and _NUMBER_AFTER.match(text, at):
            return True
    return _in_word(before) and _in_word(after)


def _in_word(letter: str) -> bool:
    is_part = letter.isalnum() or unicodedata.combining(letter) > 0
    return is_part and not _UNSPACED.match(letter)
