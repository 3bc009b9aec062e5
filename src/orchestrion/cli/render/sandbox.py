"""What is told of a session's sandbox: `sandbox.*`."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.cli.text import seconds
from orchestrion.core.events import (
    SandboxCreated,
    SandboxEgress,
    SandboxLost,
    SandboxRestored,
    SandboxResumed,
    SandboxReused,
)


def sandbox_created(view: View, event: SandboxCreated) -> None:
    """Say that the isolated computer is there."""
    view.screen.line((f"sandbox ready ({event.provider}, {seconds(event.seconds)})", "dim"))
    if event.caveats:
        view.screen.line(("Note: ", "bold yellow"), (event.caveats, "yellow"))


def sandbox_reused(view: View, event: SandboxReused) -> None:
    """Say that the session's own was found alive."""
    view.screen.line((f"the session's sandbox goes on ({event.provider}): its variables are still there", "dim"))


def sandbox_resumed(view: View, event: SandboxResumed) -> None:
    """Say that it was paused and goes on."""
    text = f"the session's sandbox wakes ({event.provider}, {seconds(event.seconds)}): its variables are still there"
    view.screen.line((text, "dim"))


def sandbox_restored(view: View, event: SandboxRestored) -> None:
    """Say that only its files are left."""
    text = f"The sandbox was started anew on its files ({event.provider}); live variables are gone."
    view.screen.line(("Note: ", "bold yellow"), (text, "yellow"))


def sandbox_lost(view: View, event: SandboxLost) -> None:
    """Say what is gone and what is not."""
    text = f"The sandbox is gone ({event.reason.rstrip('.')}); the workspace is kept, live variables are lost."
    view.screen.line(("Note: ", "bold yellow"), (text, "yellow"))


def sandbox_egress(view: View, event: SandboxEgress) -> None:
    """Say what code inside asked for in vain; what it was given is for the record."""
    if event.verdict == "denied":
        view.screen.line((f"the sandbox asked for {event.host}:{event.port}: {event.reason}", "dim"))
