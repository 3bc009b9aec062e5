"""`run.notice`: something the user should know."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.core.events import RunNotice


def run_notice(view: View, event: RunNotice) -> None:
    """Print it; warnings in yellow."""
    if event.level == "warning":
        view.screen.line(("Note: ", "bold yellow"), (event.text, "yellow"), hang=2)
    else:
        view.screen.line((event.text, "dim"))
