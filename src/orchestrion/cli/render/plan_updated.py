"""`plan.updated`: the plan ticks on."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.cli.text import one_line
from orchestrion.core.events import PlanStep, PlanUpdated

_SIGNS = {"pending": "", "active": "active", "done": "done", "failed": "failed", "skipped": ""}
_STYLES = {"pending": "dim", "active": "bold", "done": "green", "failed": "red", "skipped": "dim"}


def plan_updated(view: View, event: PlanUpdated) -> None:
    """Print the plan once, then each step as it changes; a plan that was streamed is not said again."""
    before, view.plan = view.plan, [(step.text, step.status) for step in event.steps]
    known = [text for text, _ in before]
    first = known != [text for text, _ in view.plan]
    for index, step in enumerate(event.steps):
        told = "pending" if view.plan_streamed else ""
        if step.status != (told if first else before[index][1]):
            _show(view, index + 1, step)
    _status(view, event.steps)


def _show(view: View, number: int, step: PlanStep) -> None:
    sign = _SIGNS[step.status]
    mark = view.screen.symbol(sign) if sign else "-" if step.status == "skipped" else " "
    note = " (skipped)" if step.status == "skipped" else ""
    style = _STYLES[step.status]
    view.screen.line((f"{mark} ", style), (f"{number}. {step.text}{note}", style), hang=5)


def _status(view: View, steps: list[PlanStep]) -> None:
    for index, step in enumerate(steps):
        if step.status == "active":
            view.busy(f"{one_line(step.text, 60)} · step {index + 1} of {len(steps)}")
