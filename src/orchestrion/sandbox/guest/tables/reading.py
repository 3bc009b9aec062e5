"""`load`: any table file to a DataFrame, with what the reader should know about how it was read."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pandas as pd

from . import delimited, names, structured
from . import source as sources
from .errors import TableError


def load(path: str | Path, sheet: str | int | None = None) -> pd.DataFrame:
    """Read a table: CSV, TSV, ; or | separated, JSON, JSON Lines, XLSX or Parquet; text forms also gzipped.

    The content decides, not the name. `df.attrs` says how it was read: `file`, `format`, `encoding`, `separator`,
    `sheet`, `notes` (sentences for the reader).

    Args:
        path: The file.
        sheet: Name or position of a workbook's sheet; by default the first that holds anything.

    Raises:
        TableError: No table can be read from it; the message is one sentence for the user.
    """
    source = sources.inspect(path)
    try:
        frame = _read(source, sheet)
    except MemoryError as error:
        raise TableError(f"{source.path.name} is too large for the memory at hand.") from error
    attrs = dict(frame.attrs)
    frame = _plain(frame)
    if len(frame.columns) == 0 or len(frame) == 0:
        raise TableError(f"{source.path.name} is a table with {len(frame)} rows and {len(frame.columns)} columns.")
    frame.attrs = {"file": source.path.name, **attrs, "notes": source.notes}
    return frame


def sheets(path: str | Path) -> list[str]:
    """Return the names of a workbook's sheets that hold anything; an empty list for every other format.

    Raises:
        TableError: The file can't be read.
    """
    source = sources.inspect(path)
    return structured.sheets(source) if source.kind == "xlsx" else []


def _read(source: sources.Source, sheet: str | int | None) -> pd.DataFrame:
    if source.kind == "xlsx":
        frame = structured.read_workbook(source, sheet)
    elif source.kind == "parquet":
        frame = structured.read_parquet(source)
    else:
        return _read_text(source)
    frame.attrs["format"] = source.kind
    return frame


def _read_text(source: sources.Source) -> pd.DataFrame:
    encoding, errors = sources.encoding(source)
    head = source.head.decode(encoding, errors="ignore")
    form = structured.looks_like_json(head)
    if form == "jsonl":
        frame = structured.read_lines(source, encoding, errors)
    elif form == "json":
        frame = structured.read_json(source, encoding, errors)
    else:
        form = "delimited text"
        frame = delimited.read(source, encoding, errors)
    frame.attrs |= {"format": form, "encoding": encoding}
    return frame


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Make every value something that can be counted, grouped and drawn."""
    frame.columns = pd.Index(names.tidy(frame.columns))
    for column in frame.columns:
        values = frame[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            frame[column] = values.astype(values.cat.categories.dtype)
        elif values.dtype == object:
            frame[column] = _plain_objects(values)
        elif isinstance(values.dtype, pd.PeriodDtype):
            frame[column] = values.dt.to_timestamp()
    return frame


def _plain_objects(values: pd.Series) -> pd.Series:
    present = values.dropna()
    kinds = set(present.map(type))
    if kinds & {dict, list, tuple, set} or any(
        hasattr(kind, "tolist") and kind.__name__ == "ndarray" for kind in kinds
    ):
        return values.map(_as_text, na_action="ignore").astype("str")
    if kinds and kinds <= {datetime.date}:
        return pd.to_datetime(values, errors="coerce")
    if kinds and kinds <= {decimal.Decimal, int, float}:
        return values.astype("float64")
    if bytes in kinds:
        return values.map(lambda cell: cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell)
    return values


def _as_text(value: Any) -> str:
    plain = value.tolist() if hasattr(value, "tolist") else value
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, default=str)
