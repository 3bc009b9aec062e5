"""`profile`: what a table holds, column by column, in figures that agree with pandas' own."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .dates import parse_dates
from .jsonable import plain, quiet
from .roles import Role, roles

TOP = 10


def profile(df: pd.DataFrame) -> dict[str, Any]:
    """Describe a table; the result can be written as JSON.

    Returns:
        `rows`, `columns_total`, `missing_cells`, `duplicate_rows`, `notes`, and `columns`: for each `name`, `role`
        (numeric, date, category, text, identifier, boolean, empty), `dtype`, `count` (values present), `missing`,
        `distinct`; numbers also `min`, `max`, `mean`, `median`, `std` (n-1), `sum`; dates `first` and `last`; the
        others `top`, their most frequent values with counts.
    """
    kinds = roles(df)
    with quiet():
        columns = [_column(df[column], kinds[str(column)]) for column in df.columns]
    described = {
        "file": df.attrs.get("file", ""),
        "rows": len(df),
        "columns_total": len(df.columns),
        "missing_cells": sum(column["missing"] for column in columns),
        "duplicate_rows": int(df.duplicated().sum()),
        "notes": list(df.attrs.get("notes", [])),
        "columns": columns,
    }
    return {key: plain(value) for key, value in described.items()}


def _column(values: pd.Series, role: Role) -> dict[str, Any]:
    present = values.count()
    described: dict[str, Any] = {
        "name": str(values.name),
        "role": role,
        "dtype": str(values.dtype),
        "count": present,
        "missing": len(values) - present,
        "distinct": values.nunique(),
    }
    if role == "empty":
        return described
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        return described | _numbers(values)
    if role == "date":
        return described | _dates(values)
    return described | {"top": _top(values)}


def _numbers(values: pd.Series) -> dict[str, Any]:
    return {name: getattr(values, name)() for name in ("min", "max", "mean", "median", "std", "sum")}


def _dates(values: pd.Series) -> dict[str, Any]:
    dates = values if pd.api.types.is_datetime64_any_dtype(values.dtype) else parse_dates(values)
    return {} if dates is None else {"first": dates.min(), "last": dates.max()}


def _top(values: pd.Series) -> list[dict[str, Any]]:
    """Most frequent first; among equals in the values' own order, so that the result is always the same."""
    counts = values.astype("str").where(values.notna()).value_counts()
    frame = pd.DataFrame({"value": counts.index.astype("str"), "count": counts.to_numpy()})
    best = frame.sort_values(["count", "value"], ascending=[False, True]).head(TOP)
    return [{"value": value[:120], "count": count} for value, count in best.itertuples(index=False)]
