"""How delimited text is laid out: its separator, where its header is, how it writes numbers."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import TableError

DELIMITERS = [",", ";", "\t", "|"]
SPACES = " "
NO_DELIMITER = "\x1f"
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)*|[.,]\d+)([eE][+-]?\d+)?%?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d{1,2}:\d{2}.*)?")
_YEAR = re.compile(r"(1[5-9]|20|21)\d\d")
_COMMA_DECIMAL = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_COMMA_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_POINT_DECIMAL = re.compile(r"[+-]?\d*\.\d+")
_POINT_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
_ZERO_PADDED = re.compile(r"0\d+")
_WORDS_READ_AS_MISSING = {"None", "NA", "N/A", "null", "NULL"}

Record = list[str]


@dataclass
class Layout:
    """How to read a delimited text.

    Attributes:
        delimiter: Between fields; `SPACES` for any number of blanks, `NO_DELIMITER` for a single column.
        quoting: `csv.QUOTE_MINIMAL`, or `csv.QUOTE_NONE` where quotation marks are ordinary characters.
        padded: A space may stand between a separator and a quotation mark.
        skip: Records before the first one of data.
        names: Names as found, not yet tidied.
        decimal: `.` or `,`.
        as_text: Columns, by position, that a number parser would spoil: zero-padded codes, `1.234` meaning 1234.
        notes: What the user should be told.
    """

    delimiter: str
    quoting: int
    padded: bool = False
    skip: int = 0
    names: list[str] = field(default_factory=list)
    decimal: str = "."
    as_text: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def detect(sample: str, *, complete: bool, suffix: str) -> Layout:
    """Work out the layout from the beginning of a text.

    Args:
        sample: The first part of the text.
        complete: It is the whole text.
        suffix: The file's extension; breaks ties.

    Raises:
        TableError: There is a header and not one row.
    """
    text = sample if complete else sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    layout = _best_dialect(text, suffix)
    records = parse(text, layout)
    start = _first_record(records, layout)
    width = max(len(record) for record in records[start:])
    body = records[start:]
    if _has_header(body):
        layout.names = _header_names(body, width)
        layout.skip = start + 1
        body = body[1:]
    else:
        layout.names = [""] * width
        layout.skip = start
        layout.notes.append("There is no header row; the columns were numbered.")
    if start:
        layout.notes.append(f"{start} line{'s' * (start != 1)} before the table were skipped.")
    if not [record for record in body if any(record)] and complete:
        raise TableError(f"a table with 0 rows: only a header of {len(layout.names)} column(s)")
    _note_ragged(layout, body)
    _judge_numbers(layout, [record for record in body if any(cell.strip() for cell in record)])
    return layout


def parse(text: str, layout: Layout) -> list[Record]:
    """Split a text into records of fields."""
    csv.field_size_limit(1 << 30)
    return list(records(io.StringIO(text, newline=""), layout))


def records(stream: Iterable[str], layout: Layout) -> Iterator[Record]:
    """Split a stream's lines into records of fields, one at a time."""
    quoting: Any = layout.quoting
    return csv.reader(stream, delimiter=layout.delimiter, quoting=quoting, skipinitialspace=layout.padded)


def _best_dialect(text: str, suffix: str) -> Layout:
    """Choose the separator under which the records are most alike and their fields simplest."""
    hint = {".tsv": "\t", ".tab": "\t", ".csv": ","}.get(suffix, "")
    best, best_score = Layout(NO_DELIMITER, csv.QUOTE_MINIMAL), 0.3
    for delimiter in DELIMITERS:
        layout = Layout(delimiter, csv.QUOTE_MINIMAL, padded=f'{delimiter} "' in text)
        found = parse(text, layout)
        if any(cell.count("\n") > 100 for record in found for cell in record):
            layout.quoting = csv.QUOTE_NONE
            found = parse(text, layout)
        score = _score(found, delimiter) + 0.02 * (delimiter == hint)
        if score > best_score:
            best, best_score = layout, score
    if best.delimiter == NO_DELIMITER and _aligned(text):
        return Layout(SPACES, csv.QUOTE_MINIMAL, padded=True)
    if best.delimiter == NO_DELIMITER and all(len(record) <= 1 for record in parse(text, Layout(",", 0))):
        best.delimiter = ","
    if best.quoting == csv.QUOTE_NONE:
        best.notes.append("A quotation mark is never closed; such marks were read as ordinary characters.")
    return best


def _aligned(text: str) -> bool:
    """Columns of mostly numbers with blanks between them; prose has neither the numbers nor the equal widths."""
    found = [record for record in parse(text, Layout(SPACES, csv.QUOTE_MINIMAL, padded=True)) if any(record)]
    cells = [cell for record in found for cell in record if cell]
    numbers = sum(bool(_NUMBER.fullmatch(cell)) for cell in cells)
    widths = {len([cell for cell in record if cell]) for record in found}
    return len(widths) == 1 and min(widths) > 1 and len(found) > 2 and numbers >= 0.5 * len(cells)


def _score(found: list[Record], delimiter: str) -> float:
    widths = Counter(len(record) for record in found if any(record))
    wide = {width: count for width, count in widths.items() if width > 1}
    if not wide:
        return 0.0
    modal = max(wide, key=lambda width: (wide[width], width))
    share = wide[modal] / widths.total()
    first = next(len(record) for record in found if any(record))
    cells = [cell for record in found[:300] if len(record) == modal for cell in record if cell]
    simple = sum(_is_simple(cell, delimiter) for cell in cells) / max(1, len(cells))
    return share * (0.4 + 0.6 * simple) + 0.3 * (first == modal)


def _is_simple(cell: str, delimiter: str) -> bool:
    """A field is simple if no other separator would cut it, unless that is the decimal comma of a number."""
    return bool(_NUMBER.fullmatch(cell.strip())) or not any(
        other in cell for other in DELIMITERS if other != delimiter
    )


def _first_record(records: list[Record], layout: Layout) -> int:
    """Return where the table begins: after comments, titles and blank lines."""
    filled = [sum(bool(cell.strip()) for cell in record) for record in records]
    modal = Counter(len(record) for record, full in zip(records, filled, strict=True) if full).most_common(1)[0][0]
    start = 0
    for position, record in enumerate(records[:100]):
        start = position
        comment = bool(record) and record[0].lstrip().startswith("#") and len(record) < max(2, modal)
        if filled[position] and not comment and (len(record) >= modal or modal == 1):
            break
    else:
        start = 0
    return _with_short_header(records, start, modal)


def _with_short_header(records: list[Record], start: int, modal: int) -> int:
    """A header one or more names short (R leaves out that of the row names) still is the header."""
    if start == 0 or len(records[start - 1]) < 2 or not all(cell.strip() for cell in records[start - 1]):
        return start
    return start - 1 if start == 1 and not _has_header(records[start:]) else start


def _has_header(records: list[Record]) -> bool:
    """Vote, column by column, whether the first record differs in kind from those below it."""
    first, below = records[0], [record for record in records[1:500] if any(record)]
    if not below:
        return not any(_NUMBER.fullmatch(cell.strip()) for cell in first)
    if not first[0].strip() and len(first) > 1 and len({*first}) == len(first):
        return True  # the corner above row names is empty; a row of data seldom begins so
    votes = sum(
        _vote(cell.strip(), [record[column].strip() for record in below if len(record) > column])
        for column, cell in enumerate(first)
    )
    return votes >= 0


def _vote(head: str, values: list[str]) -> int:
    filled = [value for value in values if value]
    if not filled or not head:
        return 0
    numbers = sum(bool(_NUMBER.fullmatch(value)) for value in filled) / len(filled)
    dates = sum(bool(_DATE.fullmatch(value)) for value in filled) / len(filled)
    if max(numbers, dates) > 0.7:
        if _YEAR.fullmatch(head) and not all(_YEAR.fullmatch(value) for value in filled):
            return 1
        alike = _NUMBER.fullmatch(head) if numbers > dates else _DATE.fullmatch(head)
        return -1 if alike else 1
    return -1 if head in filled and len(filled) > 3 else 0


def _header_names(body: list[Record], width: int) -> list[str]:
    """Return the header's names, widened to the widest record."""
    names = [cell.strip() for cell in body[0]]
    if names:
        names[0] = names[0].removeprefix("#").strip() if len(names) > 1 else names[0]
    rows = [record for record in body[1:] if any(record)]
    if len(names) == width - 1 and rows and all(len(row) == width and row[-1].strip() for row in rows):
        keys = [row[0] for row in rows]
        if len(set(keys)) == len(keys):
            return ["row", *names]
    return names + [f"extra_{number}" for number in range(1, width - len(names) + 1)]


def _note_ragged(layout: Layout, body: list[Record]) -> None:
    modal = len(layout.names)
    short = sum(1 for record in body if any(record) and len(record) < modal)
    if short and any(name.startswith("extra_") for name in layout.names):
        layout.notes.append(
            "Some rows have more fields than the header; the surplus is in the column extra_1 and on."
        )
    elif short:
        layout.notes.append(f"At least {short} row(s) have too few fields; the rest of them is missing.")


def _judge_numbers(layout: Layout, rows: list[Record]) -> None:
    """Find the decimal sign, and the columns that must not be parsed as plain numbers."""
    columns = [
        [row[position].strip() for row in rows if len(row) > position and row[position].strip()]
        for position in range(len(layout.names))
    ]
    commas = [cells for cells in columns if _mostly(_COMMA_DECIMAL, cells)]
    surely = [cells for cells in commas if not _all(_COMMA_THOUSANDS, _only(_COMMA_DECIMAL, cells))]
    points = any(_mostly(_POINT_DECIMAL, cells) and not _mostly(_POINT_THOUSANDS, cells) for cells in columns)
    if (surely or (commas and layout.delimiter == ";")) and not points:
        layout.decimal = ","
        layout.notes.append("Numbers are written with a decimal comma; they were read so.")
    for position, cells in enumerate(columns):
        padded = cells and all(cell.isascii() and cell.isdigit() for cell in cells)
        if padded and any(_ZERO_PADDED.fullmatch(cell) for cell in cells):
            layout.as_text.add(position)
        if layout.decimal == "," and any(_POINT_THOUSANDS.fullmatch(cell) for cell in cells):
            layout.as_text.add(position)
        if words := sorted(_WORDS_READ_AS_MISSING & set(cells)):
            name = layout.names[position] or f"column_{position + 1}"
            listed = ", ".join(f"“{word}”" for word in words)
            layout.notes.append(f"In “{name}” the word {listed} was read as a missing value, as pandas does.")


def _only(pattern: re.Pattern[str], cells: Record) -> Record:
    return [cell for cell in cells if pattern.fullmatch(cell)]


def _all(pattern: re.Pattern[str], cells: Record) -> bool:
    return all(pattern.fullmatch(cell) for cell in cells)


def _mostly(pattern: re.Pattern[str], cells: Record) -> bool:
    """Numbers fill the column, and some of them are written after this pattern."""
    if not any(pattern.fullmatch(cell) for cell in cells):
        return False
    return sum(bool(_NUMBER.fullmatch(cell)) for cell in cells) >= 0.9 * len(cells)
