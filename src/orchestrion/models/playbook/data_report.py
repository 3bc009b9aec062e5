"""The data report: what was asked, what was found, how the figures came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from orchestrion.models.playbook import data_words as words
from orchestrion.models.playbook.goal import Wish

Section = dict[str, Any]
_METHOD = (
    "The built-in playbook, which is not a language model, wrote this report by fixed rules. Every figure was "
    "computed in the sandbox by the code of this run. Standard deviations divide by n − 1; r is Pearson's; trends "
    "are least-squares lines over whole periods; outliers lie more than 1.5 interquartile ranges outside the "
    "quartiles. A correlation is not a cause."
)


@dataclass
class Results:
    """What the tools returned, by table.

    Attributes:
        profiles: Of every table that could be read, in order.
        statistics: By table.
        charts: By table.
        problems: What could not be done: file or table, and why.
    """

    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)
    charts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def title(results: Results, files: Sequence[str]) -> str:
    """Name the report after its tables."""
    names = list(results.profiles) or [PurePosixPath(file).name for file in files]
    if not names:
        return "No table to analyse"
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return (
        f"Analysis of {', '.join(names[:2])}{more}" if len(names) != 2 else f"Analysis of {names[0]} and {names[1]}"
    )


def sections(goal: str, results: Results, wishes: Mapping[str, Wish]) -> list[Section]:
    """Write the report's sections."""
    written = [_section("Key findings", _key_findings(goal, results, wishes))]
    for name in results.profiles:
        prefix = f"{name}: " if len(results.profiles) > 1 else ""
        written += _about(prefix, name, results)
        written += _charts(prefix, results.charts.get(name, []))
    if results.problems:
        lines = [f"- {problem_sentence(path, problem)}" for path, problem in results.problems.items()]
        written.append(_section("What could not be done", "\n".join(lines)))
    written.append(_section("How the figures were made", _METHOD))
    return written


def problem_sentence(path: str, problem: str) -> str:
    """Name the file, unless the sentence does so itself."""
    name = PurePosixPath(path).name
    return problem if problem.startswith(name) else f"{name}: {problem}"


def key_points(results: Results, wishes: Mapping[str, Wish], most: int = 6) -> list[str]:
    """Return the findings of each table, shared out evenly."""
    each = max(2, most // max(1, len(results.profiles)))
    points: list[str] = []
    for name in results.profiles:
        found = words.findings(results.statistics.get(name), wishes[name])[:each]
        label = f"`{name}`: " if len(results.profiles) > 1 else ""
        points += [f"{label}{sentence}" for sentence in found]
    return points


def _key_findings(goal: str, results: Results, wishes: Mapping[str, Wish]) -> str:
    asked = " ".join(goal.split())
    lines = [f"Asked: “{asked if len(asked) <= 300 else asked[:299] + '…'}”", ""]
    lines += [f"- {words.shape(profile)}" for profile in results.profiles.values()]
    lines += [f"- {sentence}" for sentence in key_points(results, wishes)]
    if not results.profiles:
        lines.append("- No table could be read; nothing was analysed.")
    lines += [f"- {problem_sentence(path, problem)}" for path, problem in results.problems.items()]
    return "\n".join(lines)


def _about(prefix: str, name: str, results: Results) -> list[Section]:
    profile, statistics = results.profiles[name], results.statistics.get(name)
    notes = [f"- {note}" for note in profile["notes"]]
    repeated = profile["duplicate_rows"]
    notes += [f"- {repeated:,} rows repeat an earlier one in every column."] if repeated else []
    parts = [words.shape(profile), "\n".join(notes), words.columns_table(profile)]
    found = [_section(f"{prefix}Columns, as read", "\n\n".join(part for part in parts if part))]
    if statistics is None:
        return found
    found.append(_section(f"{prefix}Cleaning", "\n".join(f"- {sentence}" for sentence in statistics["done"])))
    if comparisons := _comparisons(statistics):
        found.append(_section(f"{prefix}Groups, relations and trends", comparisons))
    return found


def _comparisons(statistics: dict[str, Any]) -> str:
    dropped = any(sentence.startswith("Dropped") and "row" in sentence for sentence in statistics["done"])
    parts = [f"Computed over the {statistics['rows']:,} rows left after cleaning."] if dropped else []
    parts += [words.group_table(group) for group in statistics["groups"][:4] if group["rows"]]
    parts += [words.trend_table(trend) for trend in statistics["trends"][:4] if len(trend["points"]) <= 40]
    if pairs := statistics["correlations"][:6]:
        rows = [[pair["x"], pair["y"], f"{pair['r']:.3f}", words.say(pair["n"])] for pair in pairs]
        parts.append(f"**Correlations**\n\n{words.table(['Column', 'Column', 'r', 'Rows'], rows)}")
    parts += [f"- {words.outlier_sentence(found)}" for found in statistics["outliers"][:6] if found["count"]]
    return "\n\n".join([*parts, *statistics["notes"]])


def _charts(prefix: str, charts: list[dict[str, Any]]) -> list[Section]:
    return [
        _section(
            f"{prefix}{chart['title']}", " ".join([chart["caption"], *chart["findings"]]), charts=[chart["path"]]
        )
        for chart in charts
    ]


def _section(heading: str, text: str, charts: list[str] | None = None) -> Section:
    return {"heading": heading, "text": text, "charts": charts or [], "citations": []}
