"""`run.created`: the goal was accepted."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.core.events import RunCreated


def run_created(view: View, event: RunCreated) -> None:
    """Start the clock; the user knows what they typed."""
    view.started = event.ts.timestamp()
    view.busy("Waiting for a worker")
