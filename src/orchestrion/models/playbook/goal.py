"""What a goal asks of a table, by the words it shares with the column names. Lexical, no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_TREND = re.compile(
    r"\b(trends?|over time|monthly|yearly|annual|daily|develop\w*|evol\w*|grow\w*|season\w*|per (month|year|day)"
    r"|by (month|year|day)|each (month|year|day)|history|forecast)\b",
    re.IGNORECASE,
)
_MEAN = re.compile(r"\b(averages?|mean|typical|typically|on average|median)\b", re.IGNORECASE)
_SUM = re.compile(r"\b(totals?|sum|overall|altogether|most|best|biggest|largest)\b", re.IGNORECASE)
_BY = re.compile(
    r"\b(?:by|per|each|every|across|between|among|which|what|grouped by|for each)\s+(?:the\s+)?", re.IGNORECASE
)
_UNIT = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_NUMERIC = {"numeric"}
_GROUPABLE = {"category", "boolean", "text", "identifier"}


@dataclass(frozen=True)
class Wish:
    """What was asked.

    Attributes:
        measure: A numeric column; None to let the toolkit choose.
        by: Columns to group by, at most three; likewise.
        trend: Change over time was asked for.
        figure: `mean` or `sum` where the goal says so, else empty.
    """

    measure: str | None
    by: list[str]
    trend: bool
    figure: str


def read(goal: str, columns: Sequence[dict[str, Any]]) -> Wish:
    """Match a goal with a table's columns, as its profile lists them."""
    words = _words(goal)
    after_by = [word for part in _BY.split(goal)[1:] for word in _words(part)[:3]]
    measure = _best(words, [column for column in columns if column["role"] in _NUMERIC])
    grouping = [column for column in columns if column["role"] in _GROUPABLE and column["distinct"] > 1]
    few = [c for c in columns if c["role"] in _NUMERIC and c["distinct"] <= 60 and c["name"] != measure]
    by = [name for text in (after_by, words) if (name := _best(text, grouping))]
    by += [name for column in grouping if set(_words(name := str(column["name"]))) <= set(words) and _words(name)]
    by += [name for name in [_best(after_by, few)] if name and not by]
    figure = "mean" if _MEAN.search(goal) else "sum" if _SUM.search(goal) and measure else ""
    return Wish(measure, list(dict.fromkeys(by))[:3], bool(_TREND.search(goal)), figure)


def _best(words: Sequence[str], columns: Sequence[dict[str, Any]]) -> str | None:
    """Return the column of which most words are in the goal, at least half of them; None where several tie in part.

    Among columns that share only some words (“cost” with three columns of costs) the toolkit chooses, unless one of
    them is the total.
    """
    scored = {str(column["name"]): _score(words, _words(str(column["name"]))) for column in columns}
    top = max(scored.values(), default=(0.0, 0))
    if top[0] < 0.5:
        return None
    tied = [name for name, score in scored.items() if score == top]
    if len(tied) == 1 or top[0] == 1:
        return tied[0]
    return next((name for name in tied if "total" in _words(name)), None)


def _score(words: Sequence[str], name: Sequence[str]) -> tuple[float, int]:
    shared = [word for word in name if word in words]
    return (len(shared) / len(name), len(shared)) if name else (0.0, 0)


def _words(text: str) -> list[str]:
    """Return the stems of a text's words; units in brackets do not count."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _UNIT.sub(" ", text))
    return [_stem(word) for word in re.findall(r"[^\W_]+", spaced.lower())]


def _stem(word: str) -> str:
    """Fold singular and plural together."""
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
