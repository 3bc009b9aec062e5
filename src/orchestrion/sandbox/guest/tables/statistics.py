"""`statistics`: how measures differ between groups, move together, change over time, and where they stand out."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats  # type: ignore[import-untyped]

from .choosing import Choice, Names, as_dates, choose, is_additive
from .jsonable import plain, quiet

MOST_ROWS = 12
MOST_CORRELATED = 24


def statistics(df: pd.DataFrame, measure: Names = None, by: Names = None) -> dict[str, Any]:
    """Compute what a reader would ask first; the result can be written as JSON.

    Args:
        df: A table, best a cleaned one.
        measure: The numeric column, or columns, to put first; by default the most telling one.
        by: The column, or columns, to group by first; likewise.

    Returns:
        `groups` (per pair of category and measure: count, sum, mean, median of each group, and `explained`, the share
        of the measure's variance between groups), `counts` (rows per category), `correlations` (Pearson's r with n
        and p), `trends` (values per period with a least-squares slope per period), `outliers` (beyond 1.5
        interquartile ranges), `notes`.

    Raises:
        TableError: A column asked for does not exist, or the measure is not numeric.
    """
    choice = choose(df, measure, by)
    with quiet():
        result = _compute(df, choice)
    return {key: plain(value) for key, value in result.items()}


def _compute(df: pd.DataFrame, choice: Choice) -> dict[str, Any]:
    return {
        "rows": len(df),
        "groups": [_group(df, m, c) for m in choice.measures[:2] for c in choice.categories[:3] if m != c],
        "counts": [_count(df[category]) for category in choice.categories[:4]],
        "correlations": correlations(df, choice.measures),
        "trends": _trends(df, choice),
        "outliers": [found for name in choice.measures[:8] if (found := _outliers(df[name]))],
        "notes": _notes(choice),
    }


def _notes(choice: Choice) -> list[str]:
    notes = [] if choice.measures else ["No column is a measure, so rows were counted."]
    notes += [] if choice.categories else ["No column has groups to compare."]
    return notes + ([] if choice.dates else ["No column holds dates, so there is no trend."])


def grouped(df: pd.DataFrame, measure: str, by: str) -> pd.DataFrame:
    """Return count, sum, mean and median of the measure per group, largest first by the figure that fits it."""
    table = df.groupby(by, sort=True, observed=True)[measure].agg(["count", "sum", "mean", "median"])
    table = table[table["count"] > 0]
    return table.sort_values("sum" if is_additive(measure) else "mean", ascending=False, kind="stable")


def _group(df: pd.DataFrame, measure: str, by: str) -> dict[str, Any]:
    table = grouped(df, measure, by)
    rows = [{"value": str(value), **dict(row)} for value, row in table.head(MOST_ROWS).to_dict("index").items()]
    return {
        "by": by,
        "measure": measure,
        "figure": "sum" if is_additive(measure) else "mean",
        "groups_total": len(table),
        "lowest": {"value": str(table.index[-1]), **table.iloc[-1].to_dict()} if len(table) else None,
        "total": df.loc[df[by].notna(), measure].sum(),
        "explained": _explained(df, measure, by),
        "rows": rows,
    }


def _explained(df: pd.DataFrame, measure: str, by: str) -> float | None:
    """Eta squared: the variance between groups over all variance (one-way analysis of variance)."""
    known = df[[measure, by]].dropna()
    around = known[measure] - known[measure].mean()
    total = float((around**2).sum())
    if total == 0 or len(known) < 3:
        return None
    within = known[measure] - known.groupby(by, observed=True)[measure].transform("mean")
    return 1 - float((within**2).sum()) / total


def _count(values: pd.Series) -> dict[str, Any]:
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    rows = [{"value": str(value), "count": count} for value, count in counts.head(MOST_ROWS).items()]
    return {"by": str(values.name), "groups_total": len(counts), "missing": int(values.isna().sum()), "rows": rows}


def correlations(df: pd.DataFrame, measures: list[str]) -> list[dict[str, Any]]:
    """Return the ten strongest linear relations between measures, each over the rows that have both.

    Of each pair the better measure is `y`.
    """
    found: list[dict[str, Any]] = []
    for x, y in combinations(measures[:MOST_CORRELATED], 2):
        known = df[[x, y]].replace([np.inf, -np.inf], np.nan).dropna().astype("float64")
        if len(known) < 5 or known[x].nunique() < 2 or known[y].nunique() < 2:
            continue
        r, p = stats.pearsonr(known[x], known[y])
        found.append({"x": y, "y": x, "r": float(r), "n": len(known), "p": float(p)})
    return sorted(found, key=lambda pair: -abs(pair["r"]))[:10]


def period_of(dates: pd.Series) -> str:
    """Choose days, months or years so that a line has enough points and not too many."""
    present = dates.dropna()
    if present.empty or present.nunique() < 2:
        return ""
    span = (present.max() - present.min()).days
    if bool(((present.dt.month == 1) & (present.dt.day == 1)).all()):
        return "year"
    if span <= 92:
        return "day" if span >= 2 else ""
    return "month" if span <= 366 * 12 else "year"


def timeline(df: pd.DataFrame, date: str, measure: str | None, period: str) -> pd.DataFrame:
    """Return `value` and `n` per period; without a measure the value is the number of rows."""
    dates = as_dates(df[date])
    keys = dates.dt.to_period({"day": "D", "month": "M", "year": "Y"}[period])
    if measure is None:
        counted = keys.value_counts().sort_index()
        return pd.DataFrame({"value": counted, "n": counted})
    by = df[measure].groupby(keys)
    figure = by.sum(min_count=1) if is_additive(measure) else by.mean()
    table = pd.DataFrame({"value": figure, "n": by.count()})
    return table[table["n"] > 0]


def _trends(df: pd.DataFrame, choice: Choice) -> list[dict[str, Any]]:
    found = []
    for date in choice.dates[:1]:
        dates = as_dates(df[date])
        main = period_of(dates)
        years = dates.dropna().dt.year.nunique() >= 3 and main == "month"
        measures: list[str | None] = [*choice.measures[:2]]
        for measure in measures or [None]:
            for period in [main, *["year"] * years] if main else []:
                found += _trend(df, date, measure, period)
    return found


def _trend(df: pd.DataFrame, date: str, measure: str | None, period: str) -> list[dict[str, Any]]:
    table = timeline(df, date, measure, period)
    whole, partial = complete_periods(table, as_dates(df[date]), period)
    if len(whole) < 3:
        return []
    steps = np.array([key.ordinal for key in whole.index], dtype="float64")
    fit = stats.linregress(steps, whole["value"].to_numpy(dtype="float64"))
    high, low = str(whole["value"].idxmax()), str(whole["value"].idxmin())
    points = [{"period": str(key), "value": row["value"], "n": row["n"]} for key, row in table.iterrows()]
    result = {
        "date": date,
        "measure": measure or "rows",
        "figure": _figure(table, measure),
        "period": period,
        "periods": len(whole),
        "slope": float(fit.slope),
        "r_squared": float(fit.rvalue) ** 2,
        "p": float(fit.pvalue),
        "first": {"period": str(whole.index[0]), "value": whole["value"].iloc[0]},
        "last": {"period": str(whole.index[-1]), "value": whole["value"].iloc[-1]},
        "highest": {"period": high, "value": whole["value"].max()},
        "lowest": {"period": low, "value": whole["value"].min()},
        "partial": partial,
        "points": points[-120:],
    }
    return [result]


def _figure(table: pd.DataFrame, measure: str | None) -> str:
    """Name what a period's value is; one row a period needs neither sum nor mean."""
    if measure is None:
        return "count"
    if int(table["n"].max()) == 1:
        return "value"
    return "sum" if is_additive(measure) else "mean"


def complete_periods(table: pd.DataFrame, dates: pd.Series, period: str) -> tuple[pd.DataFrame, list[str]]:
    """Leave out a first or last period that the data cover only in part: its total would look like a fall."""
    if period == "day" or len(table) < 4:
        return table, []
    days = dates.dropna().drop_duplicates().sort_values()
    first, last = table.index[0], table.index[-1]
    slack = max(2 * days.diff().median(), pd.Timedelta(days={"month": 2, "year": 20}[period]))
    partial = [first] if days.iloc[0] - first.start_time > slack else []
    if last.end_time - days.iloc[-1] > slack:
        partial.append(last)
    return table.drop(index=partial), [str(key) for key in partial]


def _outliers(values: pd.Series) -> dict[str, Any] | None:
    """Tukey's fences: 1.5 interquartile ranges outside the quartiles."""
    present = values.dropna()
    if len(present) < 8 or present.nunique() < 5:
        return None
    lower, upper = float(present.quantile(0.25)), float(present.quantile(0.75))
    reach = 1.5 * (upper - lower)
    if reach == 0:
        return None
    low, high = lower - reach, upper + reach
    out = present[(present < low) | (present > high)]
    farthest = np.argsort(-(out - present.median()).abs().to_numpy(dtype="float64"), kind="stable")[:5]
    return {
        "column": str(values.name),
        "low": low,
        "high": high,
        "count": len(out),
        "share": len(out) / len(present),
        "extremes": out.iloc[farthest].tolist(),
    }
