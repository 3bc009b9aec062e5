"""Tables for people: aligned columns, the last one cut to fit a terminal, never cut where there is none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from shutil import get_terminal_size

from rich.cells import cell_len, set_cell_size

from orchestrion.cli.text import clean


def is_narrow() -> bool:
    """Whether stdout is a terminal with little room for columns."""
    return sys.stdout.isatty() and get_terminal_size().columns < 80


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their head."""
    width = get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table([head, *rows], width):
        print(line)


def table(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return the rows as aligned lines.

    Args:
        rows: All of the same length.
        width: Columns of the terminal; None if nothing is to be cut.
    """
    cells = [[" ".join(clean(cell).split()) for cell in row] for row in rows]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [_line(row, widths, width) for row in cells]


def _line(row: list[str], widths: list[int], width: int | None) -> str:
    padded = [set_cell_size(cell, size) for cell, size in zip(row, widths, strict=True)]
    text = "  ".join(padded).rstrip()
    if width is None or cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 1)).rstrip() + "…"


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; empty values are left out."""
    shown = [(name, clean(value)) for name, value in pairs if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{name.ljust(width)}  {value}")
