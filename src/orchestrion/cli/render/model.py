"""`model.retried`, `usage.recorded` and `llm.called`: dealings with the model's provider."""

from __future__ import annotations

from orchestrion.cli.render.message import drop_unfinished
from orchestrion.cli.render.view import View
from orchestrion.cli.text import seconds
from orchestrion.core.events import LlmCalled, ModelRetried, UsageRecorded


def model_retried(view: View, event: ModelRetried) -> None:
    """Say why it is tried again, and when."""
    drop_unfinished(view)
    text = f"{event.reason.rstrip('.')}; trying again in {seconds(event.wait_seconds)} (attempt {event.attempt})."
    view.screen.line(("Note: ", "bold yellow"), (text, "yellow"))
    view.busy("Waiting for the model")


def usage_recorded(view: View, event: UsageRecorded) -> None:
    """Keep the total for the end."""
    view.usage = event.total


def llm_called(view: View, event: LlmCalled) -> None:
    """Nothing to show: its text came as a message; the record is for traces."""
