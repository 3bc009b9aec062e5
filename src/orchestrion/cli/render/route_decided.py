"""`route.decided`: the supervisor's decision with its reason."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.core.events import RouteDecided


def route_decided(view: View, event: RouteDecided) -> None:
    """Print it for tasks; small talk is simply answered."""
    view.target = event.target
    if event.target == "chat":
        return
    name = f"{event.target} agent" + (f" · skill {event.skill}" if event.skill else "")
    view.screen.line((name, "bold"), f" — {event.reason.rstrip('.')} ", (f"(decided by {event.by})", "dim"))
    view.busy("Preparing")
