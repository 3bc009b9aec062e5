"""Which columns say most: the measures worth adding up, the categories worth comparing, the dates to follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from .dates import parse_dates
from .errors import TableError
from .roles import is_year, roles

_ADDITIVE = re.compile(
    r"amount|revenue|sales|turnover|total|cost|profit|income|expense|spend|payment|fee|quantity|qty|units|volume"
    r"|precipitation|rain|hours|visits|orders|downloads|clicks|umsatz|menge|betrag|deaths|cases|incidents|population",
    re.IGNORECASE,
)
_AVERAGED = re.compile(
    r"price|rate|ratio|percent|pct|%|average|avg|mean|median|score|rating|temp|age\b|index|share|per[\s_]|speed|discount"
    r"|lat(itude)?$|lon(gitude)?$|lng$",
    re.IGNORECASE,
)
_PLACE = re.compile(r"lat(itude)?$|lon(gitude)?$|lng$", re.IGNORECASE)
_WEIGHTY = re.compile(r"total|revenue|sales|amount|profit|umsatz|betrag", re.IGNORECASE)
MOST_GROUPS = 60
Names = str | Sequence[str] | None


@dataclass(frozen=True)
class Choice:
    """The columns to work with, best first.

    Attributes:
        measures: Numbers to sum, average and relate.
        categories: Columns to group by.
        dates: Time axes.
        texts: What is left of text.
    """

    measures: list[str]
    categories: list[str]
    dates: list[str]
    texts: list[str]


def choose(df: pd.DataFrame, measure: Names = None, by: Names = None) -> Choice:
    """Rank a table's columns by what they are good for.

    Args:
        df: A table.
        measure: Put this column, or these, first among the measures.
        by: Likewise among the categories.

    Raises:
        TableError: A column asked for does not exist, or the measure is not numeric.
    """
    kinds = roles(df)
    numeric = [name for name, role in kinds.items() if role == "numeric" and df[name].nunique() > 1]
    numeric = [name for name in numeric if not _PLACE.search(name)]
    weights = {name: _weight(name, df[name]) for name in numeric}
    measures = sorted(numeric, key=lambda name: -weights[name])
    grouping = [name for name, role in kinds.items() if role in {"category", "boolean"} and _groups(df[name])]
    grouping += [name for name in numeric if df[name].nunique() <= 8 and len(df) >= 40 and (df[name] % 1 == 0).all()]
    grouping += [name for name, role in kinds.items() if role == "date" and _few_years(df[name])]
    untidy = {name: _untidiness(df[name]) for name in grouping}
    categories = sorted(grouping, key=lambda name: untidy[name])
    return Choice(
        measures=_first(df, measures, measure, must_be_numeric=True),
        categories=_first(df, categories, by),
        dates=[name for name, role in kinds.items() if role == "date"],
        texts=[name for name, role in kinds.items() if role in {"text", "identifier", "category"}],
    )


def is_additive(name: str) -> bool:
    """Whether the sum over rows means something; if unsure, no, and the mean is used."""
    return bool(_ADDITIVE.search(name)) and not _AVERAGED.search(name)


def as_dates(values: pd.Series) -> pd.Series:
    """Return a column whose role is date as dates; whole years are their first of January."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return cast(pd.Series, values.dt.tz_localize(None))
    if is_year(values):
        return pd.to_datetime(values.astype("Int64").astype("str"), format="%Y", errors="coerce")
    parsed = parse_dates(values)
    if parsed is None:
        raise TableError(f"“{values.name}” does not hold dates.")
    return parsed


def asked(wanted: Names) -> list[str]:
    """Return the columns asked for, as a list."""
    return [wanted] if isinstance(wanted, str) else list(wanted or [])


def _first(df: pd.DataFrame, names: list[str], wanted: Names, *, must_be_numeric: bool = False) -> list[str]:
    first = asked(wanted)
    for name in first:
        if name not in df.columns:
            raise TableError(f"There is no column “{name}”; there are {', '.join(map(str, df.columns))}.")
        if must_be_numeric and not pd.api.types.is_numeric_dtype(df[name].dtype):
            raise TableError(f"“{name}” is not numeric, so it can't be the measure.")
    return [*first, *[name for name in names if name not in first]]


def _weight(name: str, values: pd.Series) -> float:
    """Named like money or amounts, rarely missing, rich in values: those first."""
    weight = 2.0 * bool(_WEIGHTY.search(name)) + 1.0 * is_additive(name)
    return weight + float(values.notna().mean()) + min(1.0, values.nunique() / 20)


def _few_years(values: pd.Series) -> bool:
    return is_year(values) and 1 < values.nunique() <= 12 and not values.is_unique


def _groups(values: pd.Series) -> bool:
    return 1 < values.nunique() <= MOST_GROUPS


def _untidiness(values: pd.Series) -> float:
    """Between two and a dozen groups compare well; many or half-empty ones do not."""
    groups = values.nunique()
    return max(0, groups - 12) / 12 + 2 * float(values.isna().mean()) + 0.3 * (groups == 2)
