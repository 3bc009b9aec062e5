"""What the renderers know of the run so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from orchestrion.cli.screen import Screen
from orchestrion.core.events import Agent, Usage

PLAYBOOK = "The built-in playbook answers; it is not a language model."
NO_KEY = "No model key is set: the built-in playbook answers; it is not a language model."


@dataclass
class ToolCall:
    """A call that is going on, with the end of its output.

    Attributes:
        name: The tool's.
        output: The end of what it printed.
        dropped: Lines before that.
    """

    name: str
    output: str = ""
    dropped: int = 0


@dataclass
class View:
    """The state of one run's rendering.

    Attributes:
        screen: Where it is shown.
        root: The session's workspace on this machine.
        playbook: What to say when the playbook answers; emptied once said.
        stopping: The user asked to stop.
    """

    screen: Screen
    root: Path
    playbook: str = PLAYBOOK
    stopping: bool = False
    calls: dict[str, ToolCall] = field(default_factory=dict)
    last_call: str = ""
    plan: list[tuple[str, str]] = field(default_factory=list)
    plan_streamed: bool = False
    streaming: str = ""
    streamed: set[str] = field(default_factory=set)
    said: str = ""
    target: Agent | None = None
    by_playbook: bool = False
    usage: Usage = field(default_factory=Usage)
    started: float = 0.0
    ended: float = 0.0

    def busy(self, text: str) -> None:
        """Say on the status line what is going on; asking to stop outlives everything else."""
        self.screen.status("Stopping…" if self.stopping else text)

    def report_path(self, files: list[str]) -> Path | None:
        """Return the report's place if there is one among `files`."""
        return self.root / "report.md" if "report.md" in files else None
