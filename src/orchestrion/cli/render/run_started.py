"""`run.started`: a worker took the run up."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.core.events import RunStarted


def run_started(view: View, event: RunStarted) -> None:
    """Say plainly when no language model is at work."""
    view.by_playbook = event.playbook
    if event.playbook and view.playbook:
        view.screen.line((view.playbook, "yellow"))
        view.playbook = ""
    view.busy("Thinking")
