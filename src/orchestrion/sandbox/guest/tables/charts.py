"""`charts`: pictures that fit the columns, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from .canvas import style
from .choosing import Choice, Names, as_dates, asked, choose
from .drawing import Chart, Studio
from .errors import TableError
from .jsonable import plain
from .statistics import correlations, period_of

MOST_CHARTS = 6
Draw = Callable[[], Chart | None]


def charts(
    df: pd.DataFrame,
    directory: str | Path = "charts",
    measure: Names = None,
    by: Names = None,
    prefix: str | None = None,
) -> list[Chart]:
    """Draw two to six charts that fit the table's columns.

    Args:
        df: A table, best a cleaned one.
        directory: Where the PNG files go.
        measure: The numeric column, or columns, to show first; by default the most telling one.
        by: The column, or columns, to compare by first; likewise.
        prefix: Beginning of the file names; by default the table's own name.

    Returns:
        For each `path`, `title`, `kind`, `caption` and `findings` (sentences with figures). If only one fits, its
        findings say why there is no second.

    Raises:
        TableError: Nothing can be drawn, and why; or a column asked for does not exist.
    """
    if len(df) < 2:
        raise TableError("No chart fits this table: with fewer than two rows there is nothing to compare.")
    choice = choose(df, measure, by)
    studio = Studio(df, Path(directory), prefix or _stem(df))
    with style():
        made = _draw(_main(df, choice, studio, len(asked(by))), MOST_CHARTS)
        if len(made) < 2:
            made += _draw(_fallbacks(df, choice, studio), 3 - len(made))
    if not made:
        raise TableError("No chart fits this table: no column holds values that vary.")
    if len(made) == 1:
        made[0]["findings"].append("There is no second chart: no other column holds values that vary or repeat.")
    return [plain(chart) for chart in made]


def _stem(df: pd.DataFrame) -> str:
    stem = Path(str(df.attrs.get("file", "table"))).stem
    return f"{stem} {df.attrs['sheet']}" if df.attrs.get("sheet") else stem


def _draw(plans: list[Draw], most: int) -> list[Chart]:
    made: list[Chart] = []
    for draw in plans:
        if len(made) < most and (chart := draw()):
            made.append(chart)
    return made


def _main(df: pd.DataFrame, choice: Choice, studio: Studio, wanted: int) -> list[Draw]:
    """List what shows the table's measures, groups and dates, the most telling first."""
    measure = choice.measures[0] if choice.measures else None
    plans: list[Draw] = [partial(_line, df, date, measure, studio) for date in choice.dates[:1]]
    plans += [partial(studio.bars, by, measure) for by in choice.categories[: max(1, wanted)]]
    if measure:
        plans.append(partial(studio.histogram, measure))
    if strong := [pair for pair in correlations(df, choice.measures) if abs(pair["r"]) >= 0.3 and pair["n"] >= 10]:
        plans.append(partial(studio.scatter, strong[0]))
    if measure and choice.categories:
        plans.append(partial(studio.boxes, measure, choice.categories[0]))
    if len(choice.measures) >= 4:
        plans.append(partial(studio.heat_map, choice.measures))
    return plans + [partial(studio.bars, by, measure) for by in choice.categories[max(1, wanted) :][:1]]


def _line(df: pd.DataFrame, date: str, measure: str | None, studio: Studio) -> Chart | None:
    period = period_of(as_dates(df[date]))
    return studio.time_line(date, measure, period) if period else None


def _fallbacks(df: pd.DataFrame, choice: Choice, studio: Studio) -> list[Draw]:
    """List what a table without measures, groups or dates still can show."""
    plans: list[Draw] = [partial(studio.box, name) for name in choice.measures[:1]]
    repeating = [name for name in choice.texts if 1 < df[name].nunique() < df[name].count()]
    if repeating and not choice.categories:
        plans.append(partial(studio.bars, repeating[0], None))
    varied = [name for name in choice.texts if df[name].dropna().map(lambda cell: len(str(cell))).nunique() > 1]
    if varied:
        plans += [partial(studio.words, varied[0]), partial(studio.text_lengths, varied[0])]
    if df.isna().any().any():
        plans.append(studio.missing)
    if len(df.columns) > 1:
        plans.append(studio.distinct)
    return plans
