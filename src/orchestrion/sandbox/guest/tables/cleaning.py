"""`clean`: mend what is surely wrong, say what was done, invent nothing."""

from __future__ import annotations

import pandas as pd

from .dates import AmbiguousDates, parse_dates
from .numbers import dressed_to_numbers
from .roles import roles


def clean(df: pd.DataFrame, drop_duplicates: bool | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Return a cleaned copy and one sentence for each thing done or deliberately left alone.

    Strings are trimmed; empty rows and columns go; text that is dates or numbers becomes that, if at least 95 % of
    its values are (the others become missing, and are named). Missing values stay missing.

    Args:
        df: A table.
        drop_duplicates: Drop rows that repeat an earlier one in every column. By default only where the table has
            an identifier or a time of day, so that a repeated row can only be a mistake.
    """
    frame, done = df.copy(), list[str]()
    frame = _trim(frame, done)
    frame = _drop_empty(frame, done)
    for column in frame.columns:
        if pd.api.types.is_string_dtype(frame[column].dtype) or frame[column].dtype == object:
            frame[column] = _convert(frame[column], done)
    frame = _duplicates(frame, drop_duplicates, done)
    frame.attrs = dict(df.attrs)
    return frame, done or ["Nothing needed cleaning."]


def _trim(frame: pd.DataFrame, done: list[str]) -> pd.DataFrame:
    for column in frame.columns:
        values = frame[column]
        if not pd.api.types.is_string_dtype(values.dtype) or values.notna().sum() == 0:
            continue
        trimmed = values.str.strip()
        changed = int((trimmed != values)[values.notna()].sum())
        trimmed = trimmed.mask(trimmed == "")
        if changed:
            frame[column] = trimmed
            done.append(f"{changed} value(s) of “{column}” had spaces around them, or nothing but spaces; trimmed.")
    return frame


def _drop_empty(frame: pd.DataFrame, done: list[str]) -> pd.DataFrame:
    empty = [str(column) for column in frame.columns if frame[column].isna().all()]
    if empty and len(empty) < len(frame.columns):
        frame = frame.drop(columns=empty)
        done.append(f"Dropped {len(empty)} column(s) without any value: {', '.join(empty[:10])}.")
    blank = frame.isna().all(axis=1)
    if blank.any() and not blank.all():
        frame = frame[~blank].reset_index(drop=True)
        done.append(f"Dropped {int(blank.sum())} row(s) without any value.")
    return frame


def _convert(values: pd.Series, done: list[str]) -> pd.Series:
    """Turn text into dates or numbers where that is safe."""
    if values.dropna().empty:
        return values
    try:
        dates = parse_dates(values, strict=True)
    except AmbiguousDates:
        done.append(f"“{values.name}” was left as text: its dates can be read as day/month or as month/day.")
        return values
    if dates is not None:
        _report_lost(values, dates, "dates", done)
        return dates
    numbers = dressed_to_numbers(values)
    if numbers is None:
        return values.astype("str") if values.dtype == object and values.map(type).nunique() > 2 else values
    _report_lost(values, numbers[0], "numbers", done)
    return numbers[0]


def _report_lost(before: pd.Series, after: pd.Series, what: str, done: list[str]) -> None:
    lost = before[before.notna() & after.isna()]
    sentence = f"“{before.name}” was read as {what}"
    if len(lost):
        named = ", ".join(f"“{value}”" for value in list(dict.fromkeys(lost.astype("str")))[:5])
        sentence += f"; {len(lost)} value(s) that are none became missing: {named}"
    done.append(f"{sentence}.")


def _duplicates(frame: pd.DataFrame, drop: bool | None, done: list[str]) -> pd.DataFrame:
    repeated = frame.duplicated()
    count = int(repeated.sum())
    if not count:
        return frame
    kept = frame[~repeated].reset_index(drop=True)
    if drop is None:
        keys = [name for name, role in roles(kept).items() if role == "identifier"]
        drop = any(kept[name].is_unique for name in keys) or _has_time_of_day(kept)
    if not drop:
        done.append(
            f"{count} row(s) repeat an earlier one in every column; they were kept, since without an identifier "
            "equal rows may well be separate cases."
        )
        return frame
    done.append(f"Dropped {count} row(s) that repeat an earlier one in every column.")
    return kept


def _has_time_of_day(frame: pd.DataFrame) -> bool:
    dates = frame.select_dtypes("datetime")
    return any(bool((dates[column].dropna().dt.normalize() != dates[column].dropna()).any()) for column in dates)
