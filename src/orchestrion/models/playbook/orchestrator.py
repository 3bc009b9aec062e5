"""The orchestrator's part: a plan before the work, an honest summary after it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from langchain_core.messages import AIMessage, BaseMessage

from orchestrion.models.playbook import prompt

_FINDINGS = re.compile(r"^#{2,3}\s+(key findings|findings|answer|in short|summary)\b", re.IGNORECASE)
_PROBLEMS = re.compile(r"^#{2,3}\s+(what could not be|removed citations|problems|limits)", re.IGNORECASE)
_MARK = "_Made by the built-in playbook, not a language model; the figures are the tools' own._"


def play(messages: list[BaseMessage], tools: list[str]) -> AIMessage:
    """Plan, or summarise, as the system prompt asks."""
    task = prompt.read(prompt.last_human(messages))
    if "summariser" in prompt.system_text(messages).lower() or task.report:
        return AIMessage(_summary(task))
    return AIMessage(_plan(task))


def _plan(task: prompt.Brief) -> str:
    steps = _research_steps(task) if task.agent == "research" else _data_steps(task)
    intro = _intro(task)
    return "\n".join([intro, "", *(f"{number}. {step}" for number, step in enumerate(steps, 1))])


def _intro(task: prompt.Brief) -> str:
    what = "search" if task.agent == "research" else "analyse"
    goal = " ".join(task.goal.split())
    short = goal if len(goal) <= 160 else f"{goal[:157].rstrip()}…"
    return f"I will {what} {_names(task.files, 'what the workspace holds')} for this goal: “{short}”"


def _data_steps(task: prompt.Brief) -> list[str]:
    names = _names(task.files, "the files in the workspace")
    return [
        f"Load {names} and profile every column",
        "Clean the data, saying what was changed, and compute groups, correlations, trends and outliers",
        "Draw charts that fit the columns",
        "Write the report, with every figure taken from the results",
    ]


def _research_steps(task: prompt.Brief) -> list[str]:
    return [
        f"Collect and read the sources: {_names(task.files, 'the documents and addresses given')}",
        "Search them for passages that bear on the question",
        "Check each passage in its source and choose verbatim quotes",
        "Write the report in sections, each citation quoting its stored source",
    ]


def _names(files: list[str], otherwise: str) -> str:
    """Name up to three files in prose."""
    if not files:
        return otherwise
    shown = [f"`{PurePosixPath(file).name}`" for file in files[:3]]
    if len(files) > len(shown):
        shown.append(f"{len(files) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _summary(task: prompt.Brief) -> str:
    report = task.report.strip()
    if not report:
        return f"No report was written, so there is nothing to summarise.\n\n{_MARK}"
    title = next((line.lstrip("# ") for line in report.splitlines() if line.startswith("# ")), "Report")
    points = _points(report)
    parts = [f"**{title}**", "\n".join(points) or _opening(report)]
    parts += [text for text in _section_text(report, _PROBLEMS) if not _said(text, parts)]
    parts += [f"{_holdings(report)} The full report is in `report.md`.", _MARK]
    return "\n\n".join(parts)


def _points(report: str) -> list[str]:
    """Return up to eight findings of the report, in its own words."""
    lines = "\n".join(_section_text(report, _FINDINGS)).splitlines()
    bullets = [line.strip() for line in lines if re.match(r"\s*[-*]\s+\S", line)]
    return [_without_citations(line) for line in bullets[:8]]


def _section_text(report: str, heading: re.Pattern[str]) -> list[str]:
    """Return the text under each heading that matches, up to the next heading."""
    found: list[str] = []
    for part in re.split(r"(?m)^(?=#{1,3}\s)", report):
        first, _, body = part.partition("\n")
        if heading.match(first) and body.strip():
            found.append(body.strip())
    return found


def _said(text: str, parts: list[str]) -> bool:
    """Whether every line of a section is in the summary already."""
    return all(line.strip() in "\n".join(parts) for line in text.splitlines())


def _opening(report: str) -> str:
    """Return the report's first paragraph, for a report without a list of findings."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", report)]
    prose = next((block for block in blocks if block and not re.match(r"[#!|>-]", block)), "")
    return _without_citations(prose) if len(prose) <= 800 else f"{_without_citations(prose[:797])}…"


def _without_citations(text: str) -> str:
    return re.sub(r"\s*\[\d+\](?!\()", "", text)


def _holdings(report: str) -> str:
    charts = len(re.findall(r"!\[[^\]]*\]\([^)]+\)", report))
    sources = len(re.findall(r"(?m)^\d+\.\s+\*\*", report))
    held = [f"{charts} chart{'s' * (charts != 1)}"] * bool(charts)
    held += [f"{sources} cited passage{'s' * (sources != 1)}"] * bool(sources)
    return f"It holds {' and '.join(held)}." if held else ""
