"""Turns the planner's Markdown into steps, and a plan into the agent's task."""

from __future__ import annotations

import re

from orchestrion.core.events import FileRef, PlanStep
from orchestrion.prompts import render
from orchestrion.store.models import AgentName, Run

_STEP = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*]\s+\[[ xX]\]|[-*])\s+(.+)$")
_LIMIT = 12
_ANSWER = 1_500
_DEFAULT: dict[AgentName, tuple[str, ...]] = {
    "data": ("Load and profile the data", "Clean it", "Compute the findings", "Draw the charts", "Write the report"),
    "research": ("Collect the sources", "Search and read them", "Write the report with checked citations"),
}


def steps_of(markdown: str, agent: AgentName) -> list[PlanStep]:
    """Return the steps of a plan: its numbered lines, or else its bullets, or else the agent's usual ones."""
    lines = markdown.splitlines()
    numbered = [line for line in lines if re.match(r"^\s*\d{1,2}[.)]\s", line)]
    found = [match.group(1).strip() for line in numbered or lines if (match := _STEP.match(line))]
    texts = [text.replace("**", "") for text in found][:_LIMIT] or list(_DEFAULT.get(agent, ("Carry out the goal",)))
    return [PlanStep(text=text) for text in texts]


def file_lines(files: list[FileRef]) -> str:
    """List files as the prompts do."""
    return "\n".join(f"- {file.path} ({file.size} bytes)" for file in files) or "(none)"


def task_text(goal: str, files: list[FileRef], plan: list[PlanStep], earlier: str) -> str:
    """Return task.md: all that the agent is told."""
    numbered = "\n".join(f"{number}. {step.text}" for number, step in enumerate(plan, 1))
    return render("orchestrator", "task", goal=goal, files=file_lines(files), plan=numbered, earlier=earlier) + "\n"


def earlier_text(runs: list[Run]) -> str:
    """Return the conversation so far in short, oldest first; empty if this is its beginning."""
    if not runs:
        return ""
    lines = ["## Earlier in this conversation", ""]
    for run in runs:
        lines += [f"- The user asked: {_in_short(run.request.goal)}", f"  The answer was: {_in_short(run.answer)}"]
    return "\n".join(lines)


def _in_short(text: str) -> str:
    """One line, so that nothing in it can pass for a heading or a list of the prompt."""
    line = " ".join(text.split())
    return line if len(line) <= _ANSWER else line[:_ANSWER] + " …"
