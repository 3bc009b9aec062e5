"""`artifact.written`: a file is there for the user."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.cli.text import size
from orchestrion.core.events import ArtifactWritten


def artifact_written(view: View, event: ArtifactWritten) -> None:
    """Print its path and size; the full paths come at the end."""
    note = f" — {event.title}" if event.title else ""
    view.screen.line(
        (f"{view.screen.symbol('file')} ", "green"),
        (event.file.path, "green"),
        note,
        (f"  {size(event.file.size)}", "dim"),
    )
