"""Read JSON, JSON Lines, XLSX and Parquet."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pandas as pd

from . import names
from .errors import TableError
from .numbers import quoted_to_numbers
from .source import Source

_CHUNK = 50_000


def read_json(source: Source, encoding: str, errors: str) -> pd.DataFrame:
    """Read records, columns, or a table wrapped in an object such as {"data": […]}.

    Raises:
        TableError: It is not JSON, or holds no table.
    """
    try:
        with source.open_text(encoding, errors) as stream:
            value = json.load(stream)
    except RecursionError as error:
        raise TableError(f"{source.path.name} is nested too deeply to be a table.") from error
    except ValueError as error:
        raise TableError(f"{source.path.name} is not valid JSON: {error}.") from error
    return quoted_to_numbers(_from_value(value, source))


def _from_value(value: Any, source: Source) -> pd.DataFrame:
    name = source.path.name
    if isinstance(value, dict):
        return _from_object(value, source)
    if not isinstance(value, list):
        raise TableError(f"{name} holds a single value, not a table.")
    if not value:
        raise TableError(f"{name} is a table with 0 rows: an empty list.")
    if all(isinstance(item, dict) for item in value):
        return _records(value)
    if all(isinstance(item, list) for item in value):
        head = value[0] if all(isinstance(cell, str) for cell in value[0]) and len(value) > 1 else None
        rows = value[1:] if head else value
        width = max(len(row) for row in value)
        columns = [*(head or []), *[None] * (width - len(head or []))]
        return pd.DataFrame([[*row, *[None] * (width - len(row))] for row in rows], columns=names.tidy(columns))
    if any(isinstance(item, dict | list) for item in value):
        raise TableError(f"{name} mixes records and single values; that is no table.")
    return pd.DataFrame({"value": value})


def _from_object(value: dict[str, Any], source: Source) -> pd.DataFrame:
    """An object is a table by columns, a wrapper around one, or a single record."""
    children = list(value.values())
    if children and _equal_lists(children) and not _record_lists(value):
        return pd.DataFrame(value)
    if len(children) > 1 and all(isinstance(child, dict) for child in children) and _by_columns(children):
        return pd.DataFrame({key: pd.Series(child) for key, child in value.items()}).reset_index(drop=True)
    if lists := _record_lists(value):
        key = max(lists, key=lambda path: len(lists[path]))
        source.notes.append(f"The records were found under “{key}”.")
        return _from_value(lists[key], source)
    for key, child in value.items():
        if isinstance(child, dict) and _record_lists(child):
            source.notes.append(f"The table was found under “{key}”.")
            return _from_object(child, source)
    if not value or all(child in ([], {}) for child in children):
        raise TableError(f"{source.path.name} is a table with 0 rows.")
    return _records([value])


def _equal_lists(children: list[Any]) -> bool:
    if not all(isinstance(child, list) and child for child in children):
        return False
    return len({len(child) for child in children}) == 1


def _by_columns(children: list[dict[str, Any]]) -> bool:
    """Pandas' own form: every column maps the same row labels to plain values."""
    keys = list(children[0])
    plain = not any(isinstance(cell, dict | list) for child in children for cell in islice(child.values(), 100))
    return bool(keys) and plain and all(list(child) == keys for child in children)


def _record_lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        key: child
        for key, child in value.items()
        if isinstance(child, list) and child and all(isinstance(item, dict | list) for item in child)
    }


def _records(records: list[dict[str, Any]]) -> pd.DataFrame:
    nested = any(isinstance(cell, dict) for record in records for cell in record.values())
    return pd.json_normalize(records) if nested else pd.DataFrame(records)


def read_lines(source: Source, encoding: str, errors: str) -> pd.DataFrame:
    """Read one JSON object a line, in pieces; a last line cut off is left out, and that is said.

    Raises:
        TableError: A line in the middle is not JSON.
    """
    with source.open_text(encoding, errors) as stream:
        lines = _json_lines(source, enumerate(stream, 1))
        frames = []
        while records := list(islice(lines, _CHUNK)):
            frames.append(_records(records))
    if not frames:
        raise TableError(f"{source.path.name} is a table with 0 rows.")
    return quoted_to_numbers(frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True))


def _json_lines(source: Source, lines: Iterator[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    broken = 0
    for number, line in lines:
        if broken:
            raise TableError(f"{source.path.name} is not valid JSON Lines: line {broken} can't be read.")
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            broken = number
            continue
        yield value if isinstance(value, dict) else {"value": value}
    if broken:
        source.notes.append(f"The last line, {broken}, is cut off; it was left out.")


def looks_like_json(head: str) -> str:
    """Return `json`, `jsonl` or nothing, from the beginning of a text."""
    text = head.lstrip("\ufeff \t\r\n")
    if text[:1] not in {"{", "["}:
        return ""
    first = text.splitlines()[0]
    try:
        json.loads(first)
    except ValueError:
        return "json" if text[:1] == "{" or _list_of_json(text) else ""
    rest = text[len(first) :].strip()
    return "jsonl" if rest and text[:1] == "{" else "json"


def _list_of_json(text: str) -> bool:
    """A comma-separated line can begin with a bracket too; JSON goes on with a value."""
    return text[1:].lstrip()[:1] in set('{["-0123456789tfn]')


def sheets(source: Source) -> list[str]:
    """Return the names of a workbook's sheets that hold anything.

    Raises:
        TableError: The workbook is damaged.
    """
    book = _workbook(source)
    try:
        return [sheet.title for sheet in book.worksheets if _has_cells(sheet)]
    finally:
        book.close()


def _has_cells(sheet: Any) -> bool:
    return any(cell is not None for row in islice(sheet.iter_rows(values_only=True), 200) for cell in row)


def _workbook(source: Source) -> Any:
    import openpyxl  # type: ignore[import-untyped]

    with zipfile.ZipFile(source.path) if zipfile.is_zipfile(source.path) else _damaged(source) as archive:
        if "xl/workbook.xml" not in archive.namelist():
            raise TableError(f"{source.path.name} is {_archive_kind(archive.namelist())}.")
    try:
        return openpyxl.load_workbook(source.path.open("rb"), read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets a damaged file's own errors through, of every type
        raise TableError(f"{source.path.name} is a damaged workbook: {error}.") from error


def _archive_kind(members: list[str]) -> str:
    """Say what a zip archive is that is no Excel workbook."""
    if "word/document.xml" in members:
        return "a Word document, not a table"
    if "ppt/presentation.xml" in members:
        return "a PowerPoint presentation, not a table"
    if "content.xml" in members and "mimetype" in members:
        return "an OpenDocument file; save it as .xlsx or CSV"
    return "a zip archive without a workbook in it; unpack it first"


def _damaged(source: Source) -> zipfile.ZipFile:
    raise TableError(f"{source.path.name} is a damaged workbook or archive.")


def read_workbook(source: Source, sheet: str | int | None) -> pd.DataFrame:
    """Read a sheet, by default the first that holds anything; title rows above its header are skipped.

    Raises:
        TableError: There is no such sheet, it has no rows, or the file is damaged.
    """
    found = sheets(source)
    if not found:
        raise TableError(f"{source.path.name} is empty: no sheet holds a cell.")
    title = found[sheet] if isinstance(sheet, int) and 0 <= sheet < len(found) else sheet or found[0]
    if title not in found:
        raise TableError(f"{source.path.name} has no sheet “{title}” with cells; it has {', '.join(found)}.")
    book = _workbook(source)
    rows = [list(row) for row in islice(book[title].iter_rows(values_only=True), 60)]
    book.close()
    skip = _header_row(rows)
    frame = pd.read_excel(source.path.open("rb"), sheet_name=title, header=skip, engine="openpyxl")
    given = [*rows[skip], *[None] * len(frame.columns)][: len(frame.columns)]
    frame.columns = pd.Index(names.tidy(given))
    frame = frame.dropna(how="all").reset_index(drop=True) if len(frame) else frame
    if frame.empty:
        raise TableError(f"{source.path.name}: sheet “{title}” is a table with 0 rows.")
    if skip:
        source.notes.append(f"{skip} row(s) above the header of sheet “{title}” were skipped.")
    if len(found) > 1:
        others = ", ".join(name for name in found if name != title)
        source.notes.append(f"This is sheet “{title}”; the workbook also has: {others}.")
    frame.attrs["sheet"] = title
    return frame


def _header_row(rows: list[list[Any]]) -> int:
    """Return the first row filled about as wide as the rows below it."""
    filled = [sum(cell is not None and str(cell).strip() != "" for cell in row) for row in rows]
    usual = sorted(count for count in filled if count)[len([c for c in filled if c]) // 2]
    wanted = max(2, math.ceil(usual * 0.6)) if usual > 1 else 1
    return next((index for index, count in enumerate(filled) if count >= wanted), 0)


def read_parquet(source: Source) -> pd.DataFrame:
    """Read a Parquet file.

    Raises:
        TableError: It is damaged or has no rows.
    """
    try:
        frame = pd.read_parquet(source.path)
    except Exception as error:  # pyarrow raises many types, all meaning the same here
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{source.path.name} is a damaged Parquet file: {first}.") from error
    if any(frame.index.names):
        frame = frame.reset_index()
    if frame.empty:
        raise TableError(f"{source.path.name} is a table with 0 rows and {len(frame.columns)} columns.")
    return frame
