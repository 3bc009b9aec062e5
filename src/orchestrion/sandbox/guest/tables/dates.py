"""Dates out of text, only where there is no doubt about the order of day and month."""

from __future__ import annotations

import re
import warnings

import pandas as pd

_TIMES = ["", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p"]
_DAYS = ["%d.%m.%Y", "%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d-%b-%Y"]
_DAYS += ["%d-%b-%y", "%a %b %d %Y", "%a, %d %b %Y", "%d.%m.%y"]
_MONTHS = ["%b %Y", "%B %Y", "%Y/%m", "%m/%Y", "%b-%y"]
# Both readings of the same text; used only when the values themselves rule one of them out.
_AMBIGUOUS = [(f"%d{sign}%m{sign}{year}", f"%m{sign}%d{sign}{year}") for sign in "/-" for year in ("%Y", "%y")]
_ISO = re.compile(r"\d{4}-\d{1,2}(-\d{1,2})?([T ]\d{1,2}:\d{2}.*)?")
_PLAUSIBLE = re.compile(r"\d.*[-/.: ].*\d|\d.*[A-Za-z]{3}|[A-Za-z]{3}.*\d{4}")
THRESHOLD = 0.95


class AmbiguousDates(ValueError):
    """Every value can be read as day/month as well as month/day."""


def parse_dates(values: pd.Series, *, strict: bool = False) -> pd.Series | None:
    """Return the column as dates if at least 95 % of its values are dates of one format, else None.

    Args:
        values: Text.
        strict: Raise instead of returning None when only the order of day and month is in doubt.

    Raises:
        AmbiguousDates: With `strict`, see there.
    """
    present = values.dropna()
    sample = pd.Series(present.head(5000).astype("str").str.strip().unique(), dtype="object").head(200)
    if sample.empty or sample.map(_plausible).mean() < THRESHOLD:
        return None
    for name in _formats(_spread(present)):
        if _share(sample, name) < THRESHOLD:
            continue
        parsed = _parse(values, name)
        if parsed.notna().sum() >= THRESHOLD * len(present):
            return parsed
    if strict and any(_share(sample, day) >= THRESHOLD for pair in _timed(_AMBIGUOUS) for day in pair):
        raise AmbiguousDates
    return None


def _plausible(text: str) -> bool:
    return len(text) < 40 and bool(_PLAUSIBLE.search(text))


def _spread(present: pd.Series) -> pd.Series:
    """Return up to 5000 different values from all over the column, so that a day above the twelfth is met."""
    step = max(1, len(present) // 20_000)
    return pd.Series(present.iloc[::step].astype("str").str.strip().unique(), dtype="object").head(5000)


def _formats(sample: pd.Series) -> list[str]:
    """Return the formats to try; an ambiguous pair contributes the one its values allow."""
    if sample.map(lambda cell: bool(_ISO.fullmatch(cell))).mean() >= THRESHOLD:
        return ["ISO8601"]
    plain = [day + time for day in _DAYS for time in _TIMES] + _MONTHS
    return plain + [name for pair in _timed(_AMBIGUOUS) if (name := _decide(sample, *pair))]


def _timed(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(first + time, second + time) for first, second in pairs for time in _TIMES]


def _decide(sample: pd.Series, day_first: str, month_first: str) -> str:
    """A format is certain when clearly more values fit it than its twin: some day is above the twelfth."""
    one, other = _share(sample, day_first), _share(sample, month_first)
    if max(one, other) < THRESHOLD or abs(one - other) < 0.05:
        return ""
    return day_first if one > other else month_first


def _share(values: pd.Series, name: str) -> float:
    return float(_parse(values, name).notna().mean()) if len(values) else 0.0


def _parse(values: pd.Series, name: str) -> pd.Series:
    text = values if values.dtype == object else values.str.strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = pd.to_datetime(text, format=name, errors="coerce", utc=name == "ISO8601")
    return parsed.dt.tz_localize(None) if name == "ISO8601" else parsed
