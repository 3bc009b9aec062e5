"""The tool that writes report.md: citations checked against stored sources, charts against stored files.

A citation that doesn't hold is taken out, listed in the report, told to the model and shown to the user. The report
is always written; a model that mends its quotes calls the tool again.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field

from langchain.tools import ToolRuntime, tool
from pydantic import BaseModel, Field, field_validator

from orchestrion.core.errors import InvalidInput, NotFound, OrchestrionError
from orchestrion.core.events import ArtifactWritten, FileRef, RunNotice
from orchestrion.store.workspace import Workspace
from orchestrion.tools.citations import Quote, locate
from orchestrion.tools.context import RunContext
from orchestrion.tools.rendering import (
    ANY_MARKERS,
    MARKERS,
    PICTURES,
    caption,
    destination,
    escape_quote,
    escape_title,
    link_to,
    one_line,
    safe_text,
    without_code,
)
from orchestrion.tools.sources import Source, SourceIndex, find_source, load_index, source_text

REPORT = "report.md"
CITATIONS = "citations.json"
_MOST_CHARACTERS = 2_000_000
_READ_BYTES = 8_000_000


class Citation(BaseModel):
    """A quote and where it stands."""

    source: str = Field(description="The source's id, such as S1")
    quote: str = Field(description="Words of the source, copied exactly")


class Section(BaseModel):
    """A section of the report."""

    heading: str = Field(default="", description="Its heading")
    text: str = Field(default="", description="Markdown; [[1]] refers to this section's first citation")
    charts: list[str] = Field(default=[], description="Paths of pictures to show, such as charts/sales.png")
    citations: list[Citation] = Field(default=[], description="What the text rests on")

    @field_validator("charts", "citations", mode="before")
    @classmethod
    def _none_is_none(cls, value: object) -> object:
        """Take null for an empty list, as some models mean it."""
        return [] if value is None else value


class Cited(BaseModel):
    """One entry of citations.json.

    Attributes:
        n: Its number in the report.
        source: The source's id.
        title: The source's title.
        origin: Where the source came from.
        stored: Path of the stored text.
        quote: The source's own words, with single spaces for runs of whitespace.
        offset: Where they begin in the stored text, after its front matter.
    """

    n: int
    source: str
    title: str
    origin: str
    stored: str
    quote: str
    offset: int


@dataclass(frozen=True)
class Removed:
    """A citation that didn't hold, and why."""

    place: str
    source: str
    quote: str
    reason: str


@dataclass
class Report:
    """A report as rendered, with what was taken out of it."""

    markdown: str = ""
    sections: int = 0
    cited: list[Cited] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)


@tool(parse_docstring=True)
async def write_report(title: str, sections: list[Section], runtime: ToolRuntime[RunContext]) -> str:
    """Write the finished report, report.md. Every quote is checked; one that isn't in its source is removed.

    In a section's text, [[1]] refers to the section's first citation. A quote must be copied from the source word for
    word. If something was removed, mend it and call this again with the whole report.

    Args:
        title: The report's title.
        sections: Its sections, in order.
        runtime: Given by the platform.
    """
    context = runtime.context
    report = await build_report(context.workspace, title, sections)
    entries = [cited.model_dump() for cited in report.cited]
    await context.workspace.write_text(CITATIONS, json.dumps(entries, ensure_ascii=False, indent=1))
    file = await context.workspace.write_text(REPORT, report.markdown)
    for removed in report.removed:
        text = f"A citation was removed: {removed.reason} ({removed.source}: “{removed.quote}”)"
        await context.emit(RunNotice(code="citation_removed", text=text))
    for path in report.missing:
        await context.emit(
            RunNotice(code="chart_missing", text=f"The report names a picture that isn't there: {path}")
        )
    # Read back what is on disk now: code in the sandbox may be at work on the same files.
    problems = await verify_report(context.workspace)
    for problem in problems:
        await context.emit(RunNotice(code="report_problem", text=problem))
    await context.emit(ArtifactWritten(file=file, title=one_line(title)))
    return "\n".join([_told(report, file), *problems])


def _told(report: Report, file: FileRef) -> str:
    """Return what the model is told."""
    lines = [
        f"Wrote {file.path} ({file.size} bytes): {report.sections} sections, {len(report.cited)} checked citations."
    ]
    lines += [f"Removed {r.place} ({r.source}): “{r.quote}”: {r.reason}" for r in report.removed]
    lines += [f"Left out a picture that isn't there: {path}" for path in report.missing]
    lines += [f"Left out a marker without a citation: {marker}" for marker in report.stray]
    if report.removed:
        lines.append("To mend this, copy quotes from the source word for word and call write_report again.")
    return "\n".join(lines)


async def build_report(workspace: Workspace, title: str, sections: list[Section]) -> Report:
    """Check and render a report.

    Args:
        workspace: Where sources and charts are.
        title: The report's title.
        sections: Its sections.

    Raises:
        InvalidInput: It has no content, or too much.
    """
    if not title.strip() or not any(section.text.strip() or section.charts for section in sections):
        raise InvalidInput("The report is empty.", "Give it a title and at least one section with text.")
    if sum(len(section.text) for section in sections) > _MOST_CHARACTERS:
        raise InvalidInput("The report is too long.", f"Keep it under {_MOST_CHARACTERS:,} characters.")
    files = {file.path for file in await workspace.list()}
    pictures = {path for path in files if path.lower().endswith(PICTURES)}
    report = Report(sections=len(sections))
    checker = _Checker(workspace, await load_index(workspace), report)
    # In a report with citations a plain [1] reads as one, so it is held to the same rule.
    pattern = ANY_MARKERS if any(section.citations for section in sections) else MARKERS
    parts = [f"# {escape_title(title)}"]
    for number, section in enumerate(sections, 1):
        numbers = [
            await checker.check(f"section {number}, citation {at}", c) for at, c in enumerate(section.citations, 1)
        ]
        parts += _rendered(section, numbers, pictures, report, pattern)
    report.markdown = "\n\n".join([*parts, *_removed_part(report), *_sources_part(report)]) + "\n"
    return report


class _Checker:
    """Checks citations one after the other and numbers those that hold."""

    def __init__(self, workspace: Workspace, index: SourceIndex, report: Report) -> None:
        self._workspace = workspace
        self._index = index
        self._report = report
        self._texts: dict[str, str] = {}

    async def check(self, place: str, citation: Citation) -> int | None:
        """Return the citation's number in the report, or None if it was removed."""
        try:
            source = find_source(self._index, citation.source)
            found = await self._locate(source, citation.quote)
        except OrchestrionError as error:
            self._remove(place, citation, str(error))
            return None
        if found is None:
            self._remove(place, citation, await self._why(source, citation.quote))
            return None
        return self._number(source, found)

    def _number(self, source: Source, found: Quote) -> int:
        for known in self._report.cited:
            if (known.source, known.offset, known.quote) == (source.id, found.offset, found.text):
                return known.n
        self._report.cited.append(
            Cited(
                n=len(self._report.cited) + 1,
                source=source.id,
                title=source.title,
                origin=source.origin,
                stored=source.stored,
                quote=found.text,
                offset=found.offset,
            )
        )
        return len(self._report.cited)

    def _remove(self, place: str, citation: Citation, reason: str) -> None:
        self._report.removed.append(
            Removed(place, one_line(citation.source, 60), one_line(citation.quote, 200), reason)
        )

    async def _text(self, source: Source) -> str:
        if source.id not in self._texts:
            self._texts[source.id] = await source_text(self._workspace, source)
        return self._texts[source.id]

    async def _locate(self, source: Source, quote: str) -> Quote | None:
        return await asyncio.to_thread(locate, await self._text(source), quote)

    async def _why(self, source: Source, quote: str) -> str:
        for other in self._index.current:
            try:
                found = await self._locate(other, quote)
            except OrchestrionError:
                continue
            if found:
                return f"It stands in {other.id}, not in {source.id}."
        return f"These words are not in {source.id}."


def _rendered(
    section: Section, numbers: list[int | None], pictures: set[str], report: Report, pattern: re.Pattern[str]
) -> list[str]:
    """Return a section's blocks: heading, text with its numbers, charts."""
    used: set[int] = set()
    text, lost = safe_text(section.text, pictures, lambda prose: _mark(prose, numbers, used, report, pattern))
    report.missing += lost
    unused = list(dict.fromkeys(number for number in numbers if number and number not in used))
    if unused:
        text = f"{text} {''.join(f'[{number}]' for number in unused)}".strip()
    charts: list[str] = []
    for chart in dict.fromkeys(path.strip().removeprefix("./") for path in section.charts):
        if chart not in pictures:
            report.missing.append(one_line(chart, 200))
        elif f"]({destination(chart)})" not in text:
            charts.append(f"![{caption(chart)}]({destination(chart)})")
    heading = [f"## {escape_title(section.heading)}"] if section.heading.strip() else []
    return [*heading, *([text] if text else []), *charts]


def _mark(prose: str, numbers: list[int | None], used: set[int], report: Report, pattern: re.Pattern[str]) -> str:
    """Put the report's numbers in place of a section's markers; a marker whose citation fell goes with it."""

    def replace(found: re.Match[str]) -> str:
        wanted = [int(digits) for digits in re.findall(r"\d+", found.group("run"))]
        report.stray += [f"[[{number}]]" for number in wanted if not 1 <= number <= len(numbers)]
        kept = [numbers[number - 1] for number in wanted if 1 <= number <= len(numbers)]
        final = list(dict.fromkeys(number for number in kept if number))
        used.update(final)
        if not final:
            return ""
        # `[1](` and `[1]:` would be a link and its definition.
        gap = " " if prose[found.end() : found.end() + 1] in {"(", ":"} else ""
        return found.group("space") + "".join(f"[{number}]" for number in final) + gap

    return pattern.sub(replace, prose)


def _removed_part(report: Report) -> list[str]:
    if not report.removed:
        return []
    lines = [
        f"- {escape_quote(r.source)}: “{escape_quote(r.quote)}”. {escape_quote(r.reason)}" for r in report.removed
    ]
    return [
        "## Removed citations",
        "These quotes are not in their sources; what they were to support is unconfirmed.",
        "\n".join(lines),
    ]


def _sources_part(report: Report) -> list[str]:
    if not report.cited:
        return []
    lines = [
        f"{c.n}. **{escape_title(c.title)}** ({link_to(c.origin)}) — “{escape_quote(c.quote)}” "
        f"[{c.stored}]({destination(c.stored)})"
        for c in report.cited
    ]
    return ["## Sources", "\n".join(lines)]


async def verify_report(workspace: Workspace) -> list[str]:
    """Check a finished report again: its citations against the stored sources, its pictures against the files.

    Returns:
        One sentence for each problem; none if all is well.
    """
    try:
        markdown = await workspace.read_text(REPORT, limit=_READ_BYTES)
        entries = [Cited.model_validate(entry) for entry in json.loads(await workspace.read_bytes(CITATIONS))]
        index = await load_index(workspace)
    except NotFound as error:
        return [error.detail]
    except (OrchestrionError, ValueError, RecursionError, TypeError) as error:
        return [f"The report can't be checked: {error}"]
    problems = [problem for entry in entries if (problem := await _problem(workspace, index, entry))]
    listed = {int(number) for number in re.findall(r"^(\d+)\. \*\*", markdown, re.MULTILINE)}
    problems += [f"Citation {entry.n} is not listed in {REPORT}." for entry in entries if entry.n not in listed]
    files = {destination(file.path) for file in await workspace.list()}
    shown = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", without_code(markdown))
    return problems + [f"The picture {path} is not there." for path in shown if path not in files]


async def _problem(workspace: Workspace, index: SourceIndex, entry: Cited) -> str | None:
    try:
        source = find_source(index, entry.source)
        text = await source_text(workspace, source)
    except OrchestrionError as error:
        return f"Citation {entry.n}: {error.detail}"
    there = " ".join(text[entry.offset :][: 3 * len(entry.quote) + 1000].split())
    return None if there.startswith(entry.quote) else f"Citation {entry.n} is not in {entry.source}."
