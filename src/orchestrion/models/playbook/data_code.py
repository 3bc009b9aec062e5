"""The Python that the data playbook writes: readable cells that print their results on marked lines of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# One tool result holds some 30 000 characters; what is printed beyond that would be cut out of the middle.
BUDGET = 24_000
_MARKED = re.compile(r"^@@(\w+) (.+)$", re.MULTILINE)

_LOAD = """\
# Load and profile
import tables

frames = globals().get("frames", {{}})
for path in {paths}:
    try:
        for sheet in tables.sheets(path) or [None]:
            name = path.removeprefix("uploads/") + (f" [{{sheet}}]" if sheet else "")
            frames[name] = tables.load(path, sheet)
            profile = tables.profile(frames[name])
            print(f"{{name}}: {{len(frames[name]):,}} rows, {{len(frames[name].columns)}} columns")
            print("@@profile", tables.to_json({{"table": name, "path": path, "sheet": sheet, **profile}}, {limit}))
    except tables.TableError as error:
        print("@@problem", tables.to_json({{"path": path, "problem": str(error)}}))
"""

_STATISTICS = """\
# Clean and compute
import tables

frames = globals().get("frames", {{}})
wanted = {wanted}
for name, ask in wanted.items():
    if name not in frames:  # the interpreter was restarted
        frames[name] = tables.load(ask["path"], ask["sheet"])
    try:
        frames[name], done = tables.clean(frames[name])
        print(f"{{name}}:", *done, sep="\\n- ")
        found = tables.statistics(frames[name], measure=ask["measure"], by=ask["by"])
        print("@@statistics", tables.to_json({{"table": name, "done": done, **found}}, {limit}))
    except tables.TableError as error:
        print("@@problem", tables.to_json({{"path": name, "problem": str(error)}}))
"""

_CHARTS = """\
# Draw charts
import tables

frames = globals().get("frames", {{}})
wanted = {wanted}
for name, ask in wanted.items():
    if name not in frames:  # the interpreter was restarted
        frames[name], _ = tables.clean(tables.load(ask["path"], ask["sheet"]))
    try:
        made = tables.charts(frames[name], measure=ask["measure"], by=ask["by"], prefix=ask["prefix"])
        print(f"{{name}}:", *[chart["title"] for chart in made], sep="\\n- ")
        print("@@charts", tables.to_json({{"table": name, "charts": made}}, {limit}))
    except tables.TableError as error:
        print("@@no_charts", tables.to_json({{"table": name, "problem": str(error)}}))
"""


def load_cell(paths: Sequence[str]) -> str:
    """Write the cell that loads and profiles these files."""
    return _LOAD.format(paths=_literal(list(paths)), limit=_limit(len(paths)))


def statistics_cell(wanted: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the cell that cleans these tables and computes their statistics."""
    return _STATISTICS.format(wanted=_literal(wanted), limit=_limit(len(wanted)))


def charts_cell(wanted: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the cell that draws these tables' charts."""
    return _CHARTS.format(wanted=_literal(wanted), limit=_limit(len(wanted)))


def marked(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the marked results in a tool's output; a line that was cut is no result."""
    found = []
    for kind, payload in _MARKED.findall(text):
        try:
            value = json.loads(payload)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append((kind, value))
    return found


def error_line(text: str) -> str:
    """Return the error that ended a cell, if one did."""
    match = re.search(r"^\[error\]\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def _limit(tables: int) -> int:
    return max(1_500, BUDGET // max(1, tables))


def _literal(value: Any) -> str:
    """Write a value as Python, one entry a line where it is a mapping."""
    if not isinstance(value, Mapping):
        return repr(value)
    lines = "".join(f"    {key!r}: {dict(entry)!r},\n" for key, entry in value.items())
    return f"{{\n{lines}}}"
