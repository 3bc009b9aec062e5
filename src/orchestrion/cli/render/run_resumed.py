"""`run.resumed`: the run goes on after its worker died."""

from __future__ import annotations

from orchestrion.cli.render.message import drop_unfinished
from orchestrion.cli.render.view import View
from orchestrion.core.events import RunResumed


def run_resumed(view: View, event: RunResumed) -> None:
    """Say that it goes on, and that an unfinished answer is void."""
    drop_unfinished(view)
    view.calls.clear()
    view.screen.line((f"Resumed: {event.reason}", "yellow"))
    view.busy("Going on")
