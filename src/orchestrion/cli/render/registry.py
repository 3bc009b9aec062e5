"""Which renderer shows which event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrion.cli.render import ending, message, model, sandbox
from orchestrion.cli.render.artifact_written import artifact_written
from orchestrion.cli.render.plan_updated import plan_updated
from orchestrion.cli.render.route_decided import route_decided
from orchestrion.cli.render.run_created import run_created
from orchestrion.cli.render.run_notice import run_notice
from orchestrion.cli.render.run_phase import run_phase
from orchestrion.cli.render.run_resumed import run_resumed
from orchestrion.cli.render.run_started import run_started
from orchestrion.cli.render.tool_finished import tool_finished
from orchestrion.cli.render.tool_output import tool_output
from orchestrion.cli.render.tool_started import tool_started
from orchestrion.cli.render.view import View
from orchestrion.core.events import Event

RENDERERS: dict[str, Callable[[View, Any], None]] = {
    "run.created": run_created,
    "run.started": run_started,
    "run.resumed": run_resumed,
    "run.phase": run_phase,
    "run.notice": run_notice,
    "run.finished": ending.run_finished,
    "run.failed": ending.run_failed,
    "run.cancelled": ending.run_cancelled,
    "run.budget_spent": ending.run_budget_spent,
    "route.decided": route_decided,
    "plan.updated": plan_updated,
    "message.delta": message.message_delta,
    "message.completed": message.message_completed,
    "tool.started": tool_started,
    "tool.output": tool_output,
    "tool.finished": tool_finished,
    "artifact.written": artifact_written,
    "sandbox.created": sandbox.sandbox_created,
    "sandbox.reused": sandbox.sandbox_reused,
    "sandbox.resumed": sandbox.sandbox_resumed,
    "sandbox.restored": sandbox.sandbox_restored,
    "sandbox.lost": sandbox.sandbox_lost,
    "sandbox.egress": sandbox.sandbox_egress,
    "usage.recorded": model.usage_recorded,
    "llm.called": model.llm_called,
    "model.retried": model.model_retried,
}


def render(view: View, event: Event) -> None:
    """Show one event."""
    RENDERERS[event.type](view, event)
