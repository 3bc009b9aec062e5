"""The tool that ticks the plan."""

from __future__ import annotations

from langchain.tools import ToolRuntime, tool

from orchestrion.core.events import PlanStep, PlanUpdated
from orchestrion.tools.context import RunContext


@tool(parse_docstring=True)
async def update_plan(done: list[int], runtime: ToolRuntime[RunContext], active: int | None = None) -> str:
    """Show the user how far the plan is. Call it whenever a step is finished.

    Args:
        done: Numbers of the finished steps, counted from 1.
        runtime: Given by the platform.
        active: Number of the step that is being worked on.
    """
    context = runtime.context
    context.plan = [_ticked(number, step, done, active) for number, step in enumerate(context.plan, 1)]
    await context.emit(PlanUpdated(steps=context.plan))
    left = sum(step.status != "done" for step in context.plan)
    return f"The plan is updated; {left} of {len(context.plan)} steps are left."


def _ticked(number: int, step: PlanStep, done: list[int], active: int | None) -> PlanStep:
    if number in done or (step.status == "done" and number != active):
        return PlanStep(text=step.text, status="done")
    return PlanStep(text=step.text, status="active" if number == active else "pending")
