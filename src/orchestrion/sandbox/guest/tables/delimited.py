"""Read comma-, tab-, semicolon- and pipe-separated text, once, without holding text and table together."""

from __future__ import annotations

import csv
import io
import re
from typing import Any, cast

import pandas as pd

from . import layout as layouts
from . import names
from .errors import TableError
from .numbers import grouped_to_numbers
from .source import Source

_SAMPLE = 512 * 1024
_GROUPED = re.compile(r"\d[.,'’ \u00a0\u202f]\d{3}(?!\d)|\d,\d")


def read(source: Source, encoding: str, errors: str) -> pd.DataFrame:
    """Read the table; adds to the source's notes.

    Raises:
        TableError: It has no rows, or no layout explains it.
    """
    with source.open_text(encoding, errors) as stream:
        sample = stream.read(_SAMPLE)
    suffix = next((s for s in reversed(source.path.suffixes) if s.lower() != ".gz"), "").lower()
    try:
        layout = layouts.detect(sample, complete=len(sample) < _SAMPLE, suffix=suffix)
    except TableError as error:
        raise TableError(f"{source.path.name} is {error}.") from error
    try:
        frame = _parse(source, encoding, errors, layout)
    except (pd.errors.ParserError, ValueError) as error:
        frame = _parse_again(source, encoding, errors, layout, error)
    source.notes += layout.notes
    frame.columns = pd.Index(names.tidy(layout.names))
    frame.attrs["separator"] = "" if layout.delimiter == layouts.NO_DELIMITER else layout.delimiter
    return _grouped(frame, layout.decimal)


def _parse(source: Source, encoding: str, errors: str, layout: layouts.Layout) -> pd.DataFrame:
    """Let the C parser read what follows the header."""
    with source.open_text(encoding, errors) as stream:
        _skip(stream, layout)
        options: dict[str, Any] = {"decimal": layout.decimal, "low_memory": False, "index_col": False}
        frame: pd.DataFrame = pd.read_csv(
            stream,
            sep=r"\s+" if layout.delimiter == layouts.SPACES else layout.delimiter,
            header=None,
            names=list(range(len(layout.names))),
            quoting=cast(Any, layout.quoting),
            skipinitialspace=layout.padded,
            dtype=dict.fromkeys(layout.as_text, "str"),
            **options,
        )
        return frame


def _skip(stream: io.TextIOWrapper, layout: layouts.Layout) -> None:
    found = layouts.records(stream, layout)
    for _ in range(layout.skip):
        next(found)


def _parse_again(
    source: Source, encoding: str, errors: str, layout: layouts.Layout, error: Exception
) -> pd.DataFrame:
    """Widen the table to the widest record of the whole file, or read quotation marks as plain characters."""
    if "EOF inside string" in str(error):
        layout.quoting = csv.QUOTE_NONE
        layout.notes.append("A quotation mark is never closed; such marks were read as ordinary characters.")
    with source.open_text(encoding, errors) as stream:
        _skip(stream, layout)
        width = max((len(record) for record in layouts.records(stream, layout)), default=0)
    extra = width - len(layout.names)
    if extra > 0:
        layout.names += [f"extra_{number}" for number in range(1, extra + 1)]
        layout.notes.append(
            "Some rows have more fields than the header; the surplus is in the column extra_1 and on."
        )
    try:
        return _parse(source, encoding, errors, layout)
    except (pd.errors.ParserError, ValueError) as again:
        raise TableError(f"{source.path.name} can't be read as a table: {again}.") from again


def _grouped(frame: pd.DataFrame, decimal: str) -> pd.DataFrame:
    """Turn columns written like 1,234,567 or 1.234,50 into numbers where every value is one."""
    for column in frame.columns:
        values = frame[column]
        if not pd.api.types.is_string_dtype(values.dtype):
            continue
        sample = values.dropna().head(200)
        if len(sample) and sample.map(lambda cell: bool(_GROUPED.search(str(cell)))).any():
            numbers = grouped_to_numbers(values, decimal)
            frame[column] = values if numbers is None else numbers
    return frame
