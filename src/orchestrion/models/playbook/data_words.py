"""Results in words: every figure is taken from a tool's result, none is made up."""

from __future__ import annotations

import math
from typing import Any

from orchestrion.models.playbook.goal import Wish

Section = dict[str, Any]
_MOST_COLUMNS = 40


def say(value: Any) -> str:
    """Write a figure for people; `n/a` for one that does not exist."""
    if value is None or isinstance(value, str):
        return value or "n/a"
    number = float(value)
    if not math.isfinite(number):
        return "n/a"
    if number == int(number) and abs(number) < 1e15:
        return f"{number:,.0f}"
    if abs(number) >= 1000:
        return f"{number:,.2f}"
    return f"{number:.4f}".rstrip("0").rstrip(".") if abs(number) >= 1 else f"{number:.4g}"


def percent(share: float) -> str:
    """Write a share as percent."""
    return "under 0.1 %" if 0 < share < 0.001 else f"{share * 100:.1f} %"


def shape(profile: dict[str, Any]) -> str:
    """Say how large a table is and what is missing."""
    rows, columns = profile["rows"], profile["columns_total"]
    sentence = f"{rows:,} row{'s' * (rows != 1)} and {columns:,} column{'s' * (columns != 1)}"
    missing = profile["missing_cells"]
    share = missing / max(1, rows * columns)
    gaps = f"{missing:,} cells ({percent(share)}) are missing" if missing else "no cell is missing"
    return f"`{profile['table']}` has {sentence}; {gaps}."


def findings(statistics: dict[str, Any] | None, wish: Wish) -> list[str]:
    """Return what stands out, what was asked for first."""
    if statistics is None:
        return []
    most = max(1 if wish.measure else 2, len(wish.by))
    groups = [group_sentence(group, wish) for group in _asked_groups(statistics["groups"], wish)[:most]]
    counts = [] if groups else [count_sentence(count) for count in statistics["counts"][:2]]
    trends = [trend_sentence(trend) for trend in _main_trends(statistics["trends"])]
    related = [relation_sentence(pair) for pair in statistics["correlations"][:2] if abs(pair["r"]) >= 0.3]
    outliers = [outlier_sentence(found) for found in statistics["outliers"][:2] if found["count"]]
    first, second = (trends, groups) if wish.trend and not wish.by else (groups, trends)
    return [sentence for sentence in [*first, *second, *counts, *related, *outliers] if sentence]


def _asked_groups(groups: list[dict[str, Any]], wish: Wish) -> list[dict[str, Any]]:
    """Put the pair that was asked for first; else the pair whose groups differ most."""
    return sorted(groups, key=lambda group: (-_asked(group, wish), -(group["explained"] or 0)))


def _asked(group: dict[str, Any], wish: Wish) -> int:
    return 2 * int(group["by"] in wish.by) + int(group["measure"] == wish.measure)


def _main_trends(trends: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return trends[:2] if len({trend["measure"] for trend in trends}) == 1 else trends[:1]


def group_sentence(group: dict[str, Any], wish: Wish) -> str:
    """Say which group leads, which trails, and how much the grouping explains."""
    rows = group["rows"]
    if not rows:
        return ""
    figure = wish.figure or group["figure"]
    ordered = sorted(rows, key=lambda row: -(row[figure] or 0))
    complete = group["groups_total"] == len(rows)
    lowest = ordered[-1] if complete else group["lowest"]
    top = ordered[0]
    text = f"The {figure} of {group['measure']} is highest for {group['by']} {_name(top, figure)}"
    if figure == "sum" and group["total"] and all(row["sum"] >= 0 for row in rows):
        text += f", {percent(top['sum'] / group['total'])} of the total of {say(group['total'])}"
    if group["groups_total"] > 1:
        text += f", and lowest for {_name(lowest, figure)}"
    if group["explained"] is not None and group["explained"] >= 0.01:
        text += f"; the grouping explains {percent(group['explained'])} of the variance between rows"
    return f"{text}."


def _name(row: dict[str, Any], figure: str) -> str:
    return f"**{row['value']}** ({say(row[figure])}, n = {row['count']:,.0f})"


def count_sentence(count: dict[str, Any]) -> str:
    """Say which value is the most frequent."""
    if not count["rows"]:
        return ""
    top = count["rows"][0]
    return f"The most frequent {count['by']} is **{top['value']}** ({say(top['count'])} rows)."


def trend_sentence(trend: dict[str, Any]) -> str:
    """Say how a measure went from its first to its last whole period."""
    what = _trend_subject(trend)
    first, last = trend["first"], trend["last"]
    text = f"{what} per {trend['period']} went from {say(first['value'])} ({first['period']}) "
    text += f"to {say(last['value'])} ({last['period']})"
    if first["value"] and first["value"] > 0:
        text += f", {(last['value'] / first['value'] - 1) * 100:+.1f} %"
    text += f"; highest {say(trend['highest']['value'])} ({trend['highest']['period']}), "
    text += f"lowest {say(trend['lowest']['value'])} ({trend['lowest']['period']})"
    sign = "+" if trend["slope"] >= 0 else "−"
    text += f"; straight trend {sign}{say(abs(trend['slope']))} per {trend['period']} (R² {trend['r_squared']:.2f})"
    clear = trend["p"] is not None and trend["p"] < 0.05
    return f"{text}." if clear else f"{text}, not distinguishable from no trend at the 5 % level."


def _trend_subject(trend: dict[str, Any]) -> str:
    if trend["figure"] == "value":
        return str(trend["measure"])
    return "The number of rows" if trend["figure"] == "count" else f"The {trend['figure']} of {trend['measure']}"


def relation_sentence(pair: dict[str, Any]) -> str:
    """Say how two measures move together."""
    how = "rises" if pair["r"] > 0 else "falls"
    return f"{pair['y']} {how} with {pair['x']}: r = {pair['r']:.3f} over {pair['n']:,} rows."


def outlier_sentence(found: dict[str, Any]) -> str:
    """Say how many values lie outside Tukey's fences."""
    extremes = ", ".join(say(value) for value in found["extremes"][:3])
    return (
        f"{found['column']} has {found['count']:,} outlying values ({percent(found['share'])}), outside "
        f"{say(found['low'])} to {say(found['high'])}; the farthest: {extremes}."
    )


def columns_table(profile: dict[str, Any]) -> str:
    """Return the columns with their figures as Markdown tables: numbers, then everything else."""
    columns = profile["columns"][:_MOST_COLUMNS]
    numbers = [column for column in columns if "mean" in column]
    others = [column for column in columns if "mean" not in column]
    parts = []
    if numbers:
        head = ["Column", "Count", "Missing", "Mean", "Median", "Std", "Min", "Max", "Sum"]
        keys = ("count", "missing", "mean", "median", "std", "min", "max", "sum")
        parts.append(table(head, [[column["name"], *[say(column[key]) for key in keys]] for column in numbers]))
    if others:
        head = ["Column", "Role", "Count", "Missing", "Distinct", "Holds"]
        parts.append(table(head, [_other_row(column) for column in others]))
    hidden = profile["columns_total"] - len(columns)
    if hidden > 0:
        parts.append(f"{hidden} more columns are not listed.")
    return "\n\n".join(parts)


def _other_row(column: dict[str, Any]) -> list[str]:
    holds = f"{column['first']} to {column['last']}" if "first" in column else ""
    if top := column.get("top"):
        holds = ", ".join(f"{entry['value']} ({entry['count']:,})" for entry in top[:3])
    counts = [say(column[key]) for key in ("count", "missing", "distinct")]
    return [column["name"], column["role"], *counts, holds]


def group_table(group: dict[str, Any]) -> str:
    """Return a group-by as a Markdown table."""
    head = [group["by"], "Count", "Sum", "Mean", "Median"]
    rows = [[row["value"], *[say(row[key]) for key in ("count", "sum", "mean", "median")]] for row in group["rows"]]
    text = f"**{group['measure']} by {group['by']}**\n\n{table(head, rows)}"
    left = group["groups_total"] - len(group["rows"])
    return f"{text}\n\n{left:,} more groups are not listed." if left > 0 else text


def trend_table(trend: dict[str, Any]) -> str:
    """Return a yearly, or short, trend as a Markdown table."""
    head = [trend["period"].capitalize(), trend["figure"].capitalize(), "Rows"]
    rows = [[point["period"], say(point["value"]), say(point["n"])] for point in trend["points"]]
    return f"**{trend['measure']} per {trend['period']}**\n\n{table(head, rows)}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table; a bar in a value would end its cell, so it is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    flat = " ".join(str(text).split()).replace("|", "\\|")
    return flat if len(flat) <= 90 else f"{flat[:89]}…"
