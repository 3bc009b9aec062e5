"""The charts themselves: each method draws one picture and says in words what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from .canvas import BLUE, GREY, ORANGE, Canvas, log_numbers, plain_numbers, short, slug
from .choosing import as_dates, is_additive
from .lettering import figure, signed
from .statistics import complete_periods, grouped, timeline

MOST_BARS = 12
MOST_POINTS = 5000
Chart = dict[str, Any]


class Studio:
    """Draws charts of one table.

    Args:
        df: The table.
        directory: Where the files go.
        stem: Beginning of their names.
    """

    def __init__(self, df: pd.DataFrame, directory: Path, stem: str) -> None:
        self._df = df
        self._directory = directory
        self._stem = stem
        self._taken: set[str] = set()

    def time_line(self, date: str, measure: str | None, period: str) -> Chart | None:
        """A measure's total or mean, or the number of rows, per period, with its straight trend."""
        table = timeline(self._df, date, measure, period)
        whole, partial = complete_periods(table, as_dates(self._df[date]), period)
        if len(whole) < 3:
            return None
        canvas = Canvas()
        starts = table.index.to_timestamp()  # type: ignore[attr-defined]
        canvas.axes.plot(starts, table["value"], color=BLUE, linewidth=1.8, marker="o" if len(table) <= 40 else None)
        steps = np.arange(len(whole), dtype="float64")
        slope, start = np.polyfit(steps, whole["value"].to_numpy(dtype="float64"), 1)
        canvas.axes.plot(
            whole.index.to_timestamp(),  # type: ignore[attr-defined]
            start + slope * steps,
            color=ORANGE,
            linewidth=1.4,
            linestyle="--",
            label=f"straight trend: {signed(slope)} per {period}",
        )
        if partial:
            ends = table.loc[[key for key in table.index if str(key) in partial], "value"]
            where = ends.index.to_timestamp()
            canvas.axes.plot(where, ends, "o", color="white", markeredgecolor=BLUE, label="covered only in part")
        what = measure if measure and int(table["n"].max()) == 1 else _what(measure)
        canvas.title(f"{what} by {period}", date, what)
        locator: Any = cast(Any, AutoDateLocator)(maxticks=9)
        canvas.axes.xaxis.set_major_locator(locator)
        canvas.axes.xaxis.set_major_formatter(cast(Any, ConciseDateFormatter)(locator))
        plain_numbers(canvas.axes.yaxis)
        canvas.axes.legend(loc="best")
        findings = _extremes(whole["value"], what)
        findings.append(f"The straight trend is {signed(slope)} per {period}.")
        caption = f"{what} per {period} of “{date}”."
        if partial:
            caption += f" Covered only in part and left out of the trend: {', '.join(partial)}."
        return self._finish(canvas, "time line", f"{measure or 'rows'} over time", caption, findings)

    def bars(self, by: str, measure: str | None) -> Chart:
        """A measure's total or mean, or the number of rows, per group; at most a dozen groups."""
        if measure is None:
            values = self._df[by].value_counts().sort_index().sort_values(ascending=False, kind="stable")
        else:
            values = grouped(self._df, measure, by)["sum" if is_additive(measure) else "mean"]
        shown = values.head(MOST_BARS)
        canvas = Canvas(9, max(2.6, 1.4 + 0.36 * len(shown)))
        names = [canvas.letters.label(value) for value in shown.index]
        places = np.arange(len(shown))
        drawn = canvas.axes.barh(places, shown.to_numpy(dtype="float64"), color=BLUE, height=0.68)
        canvas.axes.set_yticks(places, names)
        canvas.axes.invert_yaxis()
        canvas.axes.bar_label(drawn, [f" {short(float(f'{v:.4g}'))}" for v in shown], padding=3, fontsize=9)
        canvas.axes.margins(x=0.12)
        canvas.axes.grid(axis="y", visible=False)
        plain_numbers(canvas.axes.xaxis, whole=measure is None)
        what = _what(measure)
        canvas.title(f"{what} by {by}", what, by)
        caption = f"{what} by “{by}”."
        if len(values) > len(shown):
            caption = f"{what} by “{by}”: the {len(shown)} highest of {len(values)}."
        return self._finish(canvas, "bar", f"{measure or 'rows'} by {by}", caption, _ranking(values, what, by))

    def histogram(self, measure: str) -> Chart:
        """How a measure's values spread; a far tail is cut off, and the caption says so."""
        return self._spread(self._df[measure], measure, f"histogram {measure}", f"Distribution of {measure}")

    def text_lengths(self, column: str) -> Chart:
        """How long a column's texts are."""
        lengths = self._df[column].dropna().map(lambda cell: len(str(cell)))
        return self._spread(
            lengths, f"characters in {column}", f"lengths {column}", f"Length of the texts in {column}"
        )

    def words(self, column: str) -> Chart | None:
        """The words that most texts of a column share."""
        found = self._df[column].dropna().astype("str").str.lower().str.findall(r"[^\W\d_]{4,}").map(set)
        counts = found.explode().dropna().value_counts().sort_index().sort_values(ascending=False, kind="stable")
        if len(counts) < 2 or counts.iloc[0] < 2:
            return None
        title = f"Most frequent words in {column}"
        return self._columns(counts, title, f"words {column}", "Rows with the word", "Word")

    def _spread(self, values: pd.Series, label: str, stem: str, title: str) -> Chart:
        present = values.replace([np.inf, -np.inf], np.nan).dropna().astype("float64")
        shown, tail = _without_tail(present)
        canvas = Canvas()
        counts, _, _ = canvas.axes.hist(shown, bins=_bins(shown), color=BLUE, edgecolor="white", linewidth=0.6)
        heights = np.asarray(counts)
        filled = heights[heights > 0]
        uneven = len(filled) > 3 and float(filled.max()) > 60 * float(np.median(filled))
        if uneven:
            canvas.axes.set_yscale("log")
            log_numbers(canvas.axes.yaxis)
        else:
            plain_numbers(canvas.axes.yaxis, whole=True)
            canvas.axes.set_ylim(top=float(heights.max()) * 1.2)  # room for the legend
        plain_numbers(canvas.axes.xaxis)
        mean, median = float(present.mean()), float(present.median())
        canvas.axes.axvline(median, color=ORANGE, linewidth=1.6, label=f"median {figure(median)}")
        if shown.min() <= mean <= shown.max():
            canvas.axes.axvline(mean, color=GREY, linewidth=1.6, linestyle="--", label=f"mean {figure(mean)}")
        canvas.axes.legend(loc="upper right")
        canvas.axes.grid(axis="x", visible=False)
        canvas.title(title, label, "Number of rows" + (" (logarithmic)" if uneven else ""))
        caption = f"{title}: {len(present):,} values{tail}."
        lower, upper = figure(float(present.quantile(0.25))), figure(float(present.quantile(0.75)))
        findings = [
            f"{label}: mean {figure(mean)}, median {figure(median)}, from {figure(present.min())} "
            f"to {figure(present.max())}; the middle half lies between {lower} and {upper}."
        ]
        return self._finish(canvas, "histogram", stem, caption, findings)

    def scatter(self, pair: dict[str, Any]) -> Chart:
        """Two measures against each other, with their least-squares line."""
        x, y, r, n = pair["x"], pair["y"], pair["r"], pair["n"]
        known = self._df[[x, y]].replace([np.inf, -np.inf], np.nan).dropna().astype("float64")
        shown = known.iloc[:: -(-len(known) // MOST_POINTS)]
        canvas = Canvas()
        alpha = 0.75 if len(shown) < 200 else 0.4 if len(shown) < 1500 else 0.2
        canvas.axes.scatter(shown[x], shown[y], s=16, alpha=alpha, color=BLUE, edgecolors="none")
        slope, start = np.polyfit(known[x], known[y], 1)
        ends = np.array([known[x].min(), known[x].max()])
        canvas.axes.plot(ends, start + slope * ends, color=ORANGE, linewidth=1.6, label=f"r = {r:.2f}, n = {n:,}")
        canvas.axes.legend(loc="best")
        plain_numbers(canvas.axes.xaxis)
        plain_numbers(canvas.axes.yaxis)
        canvas.title(f"{y} against {x}", x, y)
        caption = f"“{y}” against “{x}”, {n:,} rows with both values"
        caption += f"; one in {-(-len(known) // MOST_POINTS)} drawn." if len(shown) < len(known) else "."
        words = "rises" if r > 0 else "falls"
        findings = [f"{y} {words} with {x}: r = {r:.3f} over {n:,} rows."]
        return self._finish(canvas, "scatter", f"{y} against {x}", caption, findings)

    def boxes(self, measure: str, by: str) -> Chart | None:
        """A measure's spread within each of the largest groups."""
        known = self._df[[by, measure]].replace([np.inf, -np.inf], np.nan).dropna()
        largest = known[by].value_counts().head(8).index
        parts = {group: known.loc[known[by] == group, measure].astype("float64") for group in largest}
        parts = {group: part for group, part in parts.items() if len(part) >= 5}
        spreads = [part.quantile(0.75) - part.quantile(0.25) for part in parts.values()]
        if len(parts) < 2 or sum(spread > 0 for spread in spreads) < len(spreads) / 2:
            return None
        order = sorted(parts, key=lambda group: -float(parts[group].median()))
        hide = float(known[measure].max() - known[measure].min()) > 25 * max(spreads)
        canvas = Canvas(9, max(3.0, 1.6 + 0.48 * len(parts)))
        canvas.axes.boxplot(
            [parts[group] for group in order],
            orientation="horizontal",
            showfliers=not hide,
            widths=0.6,
            patch_artist=True,
            boxprops={"facecolor": "#CFE3F1", "edgecolor": BLUE},
            medianprops={"color": ORANGE, "linewidth": 2},
            flierprops={"marker": ".", "markersize": 4, "markerfacecolor": GREY, "markeredgecolor": "none"},
        )
        canvas.axes.set_yticks(range(1, len(order) + 1), [canvas.letters.label(group) for group in order])
        canvas.axes.invert_yaxis()
        canvas.axes.grid(axis="y", visible=False)
        plain_numbers(canvas.axes.xaxis)
        canvas.title(f"Spread of {measure} by {by}", measure, by)
        caption = f"“{measure}” by “{by}”: median, middle half, and 1.5 interquartile ranges beyond"
        caption += "; values farther out are not drawn." if hide else "."
        high, low = order[0], order[-1]
        findings = [
            f"The median of {measure} is highest for {high} ({figure(parts[high].median())}) "
            f"and lowest for {low} ({figure(parts[low].median())})."
        ]
        return self._finish(canvas, "box", f"{measure} spread by {by}", caption, findings)

    def box(self, measure: str) -> Chart:
        """One measure's quartiles and stragglers."""
        present = self._df[measure].replace([np.inf, -np.inf], np.nan).dropna().astype("float64")
        canvas = Canvas(9, 2.8)
        canvas.axes.boxplot(
            [present],
            orientation="horizontal",
            widths=0.5,
            patch_artist=True,
            boxprops={"facecolor": "#CFE3F1", "edgecolor": BLUE},
            medianprops={"color": ORANGE, "linewidth": 2},
        )
        canvas.axes.set_yticks([])
        plain_numbers(canvas.axes.xaxis)
        canvas.title(f"Quartiles of {measure}", measure)
        quarters = [figure(float(present.quantile(part))) for part in (0.25, 0.5, 0.75)]
        findings = [f"Quartiles of {measure}: {', '.join(quarters[:2])} and {quarters[2]}."]
        return self._finish(canvas, "box", f"quartiles {measure}", f"Quartiles of “{measure}”.", findings)

    def heat_map(self, measures: list[str]) -> Chart:
        """Pearson's r between all measures, at most a dozen."""
        names = measures[:12]
        table = self._df[names].astype("float64").corr(min_periods=5)
        size = 2.8 + 0.62 * len(names)
        canvas = Canvas(size + 1.6, size)
        canvas.axes.grid(visible=False)
        image = canvas.axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
        labels = [canvas.letters.label(name, 20) for name in names]
        canvas.axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor")
        canvas.axes.set_yticks(range(len(names)), labels)
        for (row, column), r in np.ndenumerate(table.to_numpy()):
            if not np.isnan(r):
                colour = "white" if abs(r) > 0.6 else "black"
                canvas.axes.text(column, row, f"{r:.2f}", ha="center", va="center", fontsize=8.5, color=colour)
        canvas.figure.colorbar(image, ax=canvas.axes, label="r", shrink=0.8)
        canvas.title("Correlations between the measures")
        pairs = table.where(np.triu(np.ones(table.shape, dtype=bool), 1)).stack().dropna()
        first, second = cast(tuple[str, str], pairs.abs().idxmax())
        findings = [f"The closest relation is between {first} and {second}: r = {pairs[(first, second)]:.3f}."]
        return self._finish(canvas, "heat map", "correlations", "Pearson's r between measures.", findings)

    def missing(self) -> Chart:
        """Missing values per column."""
        counts = self._df.isna().sum().sort_values(ascending=False, kind="stable")
        title = "Missing values by column"
        return self._columns(counts[counts > 0], title, "missing", "Missing values")

    def distinct(self) -> Chart:
        """Distinct values per column."""
        counts = self._df.nunique().sort_values(ascending=False, kind="stable")
        return self._columns(counts, "Distinct values by column", "distinct", "Distinct values")

    def _columns(self, counts: pd.Series, title: str, stem: str, what: str, each: str = "Column") -> Chart:
        rows = len(self._df)
        shown = counts.head(MOST_BARS)
        canvas = Canvas(9, max(2.6, 1.4 + 0.36 * len(shown)))
        drawn = canvas.axes.barh(range(len(shown)), shown.to_numpy(), color=BLUE, height=0.68)
        canvas.axes.set_yticks(range(len(shown)), [canvas.letters.label(name) for name in shown.index])
        canvas.axes.invert_yaxis()
        canvas.axes.bar_label(drawn, [f" {count:,}" for count in shown], padding=3, fontsize=9)
        canvas.axes.margins(x=0.12)
        plain_numbers(canvas.axes.xaxis, whole=True)
        canvas.title(title, what, each)
        first = shown.index[0]
        findings = [f"{what}: most for {each.lower()} “{first}”, {shown.iloc[0]:,} in a table of {rows:,} rows."]
        return self._finish(canvas, "bar", stem, f"{title}, {rows:,} rows.", findings)

    def _finish(self, canvas: Canvas, kind: str, stem: str, caption: str, findings: list[str]) -> Chart:
        name = slug(f"{self._stem} {stem}")
        unique, copy = name, 1
        while unique in self._taken:
            copy += 1
            unique = f"{name}-{copy}"
        self._taken.add(unique)
        path = canvas.save(self._directory / f"{unique}.png")
        return {
            "path": path,
            "title": canvas.heading,
            "kind": kind,
            "caption": caption + canvas.letters.key,
            "findings": findings,
        }


def _what(measure: str | None) -> str:
    if measure is None:
        return "Number of rows"
    return f"Sum of {measure}" if is_additive(measure) else f"Mean of {measure}"


def _extremes(values: pd.Series, what: str) -> list[str]:
    high, low = values.idxmax(), values.idxmin()
    return [f"{what} was highest in {high} ({figure(values.max())}) and lowest in {low} ({figure(values.min())})."]


def _ranking(values: pd.Series, what: str, by: str) -> list[str]:
    first = f"{what} is highest for {by} {values.index[0]} ({figure(values.iloc[0])})"
    if len(values) < 2:
        return [f"{first}."]
    return [f"{first} and lowest for {values.index[-1]} ({figure(values.iloc[-1])})."]


def _bins(values: pd.Series) -> Any:
    """One bar per whole number where there are few, else as Freedman and Diaconis have it, within bounds."""
    span = values.max() - values.min()
    if span == 0:
        return 1
    if bool((values % 1 == 0).all()) and span <= 30:
        return np.arange(values.min() - 0.5, values.max() + 1)
    width = 2 * float(values.quantile(0.75) - values.quantile(0.25)) / len(values) ** (1 / 3)
    return min(40, max(10, round(span / width))) if width > 0 else 10


def _without_tail(values: pd.Series) -> tuple[pd.Series, str]:
    """Cut off the outermost hundredth where it would squeeze the rest into a few bars."""
    low, high = float(values.quantile(0.005)), float(values.quantile(0.995))
    if len(values) < 100 or high == low or values.max() - values.min() <= 4 * (high - low):
        return values, ""
    shown = values[values.between(low, high)]
    return shown, (
        f", {len(values) - len(shown):,} of them (below {figure(low)} or above {figure(high)}) not drawn; "
        f"the largest is {figure(values.max())}"
    )
