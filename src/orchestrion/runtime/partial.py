"""The report of a task that its agent did not report on: what was found still becomes a report that says so."""

from __future__ import annotations

from orchestrion.runtime.past import Past

_RESULT = 2_000
_RESULTS = 12


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _files(past: Past) -> list[str]:
    pictures = [path for path in past.artifacts if path.endswith(".png")]
    others = [path for path in past.artifacts if path not in pictures]
    lines = [f"![{path}]({path.replace(' ', '%20')})\n" for path in pictures]
    return lines + [f"- [{path}]({path.replace(' ', '%20')})" for path in others]


def partial_report(goal: str, past: Past, reason: str) -> str:
    """Write the report of a task that stopped early.

    Args:
        goal: The user's words.
        past: What the run has done.
        reason: One sentence: why it stopped.
    """
    lines = ["# Partial report", "", f"> **This work is not complete.** {reason}", "", "## Goal", "", goal, ""]
    if past.plan:
        lines += ["## How far the plan got", ""]
        lines += [f"- [{'x' if step.status == 'done' else ' '}] {step.text}" for step in past.plan] + [""]
    if past.notes:
        lines += ["## What the agent noted", "", *[f"{note}\n" for note in past.notes]]
    if past.results:
        lines += ["## What its tools returned", ""]
        for name, result in past.results[-_RESULTS:]:
            shown = result if len(result) <= _RESULT else f"{result[:_RESULT]}\n[… cut here]"
            lines += [f"### {name}", "", _fenced(shown), ""]
    if past.artifacts:
        lines += ["## Files", "", *_files(past), ""]
    if not (past.notes or past.results or past.artifacts):
        lines += ["Nothing had been found yet.", ""]
    return "\n".join(lines)


def spoken_report(goal: str, text: str, past: Past) -> str:
    """Write the report of an agent that answered in words without writing one."""
    title = " ".join(goal.split())
    lines = [f"# {title if len(title) <= 80 else title[:79] + '…'}", "", text.strip(), ""]
    if past.artifacts:
        lines += ["## Files", "", *_files(past), ""]
    return "\n".join(lines)
