"""Read what a prompt says: its goal, its files, its agent, its report. Lenient about headings and order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

_HEADING = re.compile(r"^\s{0,3}(?:#{1,4}\s*)?(goal|agent|files?|plan|task|notes?|context)\s*:?\s*$", re.IGNORECASE)
_INLINE = re.compile(r"^\s{0,3}(?:#{1,4}\s*)?\**(goal|agent|files?|plan|task)\**\s*:\s*(\S.*)$", re.IGNORECASE)
_FILE = re.compile(r"^\s*[-*]\s+`?(?P<path>.+?)`?(?:\s+\((?P<size>[\d\s,._]+)\s*bytes?\))?\s*$")
_STEP = re.compile(r"^\s*(\d+)[.)]\s+(?P<text>\S.*)$")
_REPORT = re.compile(r"<report>\s*(.*?)\s*</report>", re.DOTALL)


@dataclass(frozen=True)
class Brief:
    """What a task asks for.

    Attributes:
        goal: In the user's words.
        agent: Who is to carry it out; empty if the prompt does not say.
        files: Paths in the workspace.
        steps: The plan's numbered steps.
        report: The text of report.md, if the prompt holds it.
    """

    goal: str
    agent: str
    files: list[str]
    steps: list[str]
    report: str


def system_text(messages: Sequence[BaseMessage]) -> str:
    """Return the system prompt."""
    return "\n".join(message.text for message in messages if isinstance(message, SystemMessage))


def last_human(messages: Sequence[BaseMessage]) -> str:
    """Return what the user said last."""
    return next((message.text for message in reversed(messages) if isinstance(message, HumanMessage)), "")


def read(text: str) -> Brief:
    """Read a planning, summary or task prompt."""
    found = _REPORT.search(text)
    sections = _sections(_REPORT.sub("", text))
    goal = "\n".join(sections.get("goal", [])).strip()
    return Brief(
        goal=goal or "\n".join(sections.get("task", [])).strip() or text.strip(),
        agent=" ".join(sections.get("agent", [])).strip().lower(),
        files=_files(sections.get("file", [])),
        steps=[match["text"] for line in sections.get("plan", []) if (match := _STEP.match(line))],
        report=found[1] if found else "",
    )


def _sections(text: str) -> dict[str, list[str]]:
    """Return the lines under each known heading; `Goal: text` on one line counts as well."""
    sections: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            current = _name(heading[1])
            sections.setdefault(current, [])
        elif inline := _INLINE.match(line):
            current = _name(inline[1])
            sections.setdefault(current, []).append(inline[2])
        else:
            sections.setdefault(current, []).append(line)
    return sections


def _name(heading: str) -> str:
    return heading.lower().removesuffix("s") if heading.lower() == "files" else heading.lower()


def _files(lines: list[str]) -> list[str]:
    """Return the paths of a list of files, each once; `- none` and the like are not files."""
    matches = [match for line in lines if (match := _FILE.match(line))]
    paths = [match["path"].strip() for match in matches]
    return list(dict.fromkeys(path for path in paths if path.strip("()").lower() not in {"none", "no files"}))
