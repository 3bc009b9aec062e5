"""`run.phase`: a task enters its next phase."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.cli.text import one_line
from orchestrion.core.events import RunPhase


def run_phase(view: View, event: RunPhase) -> None:
    """Print a heading."""
    title = one_line(event.title) or event.phase.capitalize()
    view.screen.gap()
    view.screen.line((title, "bold cyan"))
    view.busy(title)
