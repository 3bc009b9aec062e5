"""What a sandbox is, whoever provides it.

A provider makes sandboxes; a sandbox runs code and commands next to the session's workspace. Everything here is a
contract: `orchestrion.testing` ships the suite that each implementation must pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

Stream: TypeAlias = Literal["stdout", "stderr"]


@dataclass(frozen=True)
class Limits:
    """What a sandbox may use.

    Attributes:
        memory_mb: Memory of all its processes together, MiB.
        processes: Processes and threads at once.
        file_mb: Size of one file, MiB.
        open_files: Descriptors a process may hold.
        cpu_seconds: Processor time a single process may use.
        tmp_mb: Size of the private /tmp and of the home, each, MiB.
    """

    memory_mb: int = 4096
    processes: int = 256
    file_mb: int = 4096
    open_files: int = 1024
    cpu_seconds: int = 3600
    tmp_mb: int = 512


@dataclass(frozen=True)
class SandboxSpec:
    """What is asked of a provider.

    Attributes:
        session_id: The session that the sandbox belongs to.
        workspace: The session's directory on the host; read-write at `/workspace` inside.
        limits: What it may use.
        idle_seconds: It ends by itself when nobody has talked to it for so long.
    """

    session_id: str
    workspace: Path
    limits: Limits = field(default_factory=Limits)
    idle_seconds: int = 600


@dataclass(frozen=True)
class Output:
    """A piece of output while something runs."""

    stream: Stream
    text: str


OnOutput: TypeAlias = Callable[[Output], Awaitable[None]]


@dataclass(frozen=True)
class CommandResult:
    """How a shell command ended.

    Attributes:
        exit_code: As the shell reports it; 124 when the time ran out, 128+n when signal n ended it.
        stdout: What it printed, to a bound; the middle is cut out and said so.
        stderr: Likewise.
        timed_out: The time limit ended it, with every process it had started.
        seconds: Wall time.
    """

    exit_code: int
    stdout: str
    stderr: str
    timed_out: bool
    seconds: float


@dataclass(frozen=True)
class Rich:
    """One rich result of a cell.

    Attributes:
        kind: `text`, `html` (a table), `json` or `png`.
        data: Text, or base64 for `png`.
    """

    kind: Literal["text", "html", "json", "png"]
    data: str


@dataclass(frozen=True)
class CodeError:
    """The exception that ended a cell."""

    name: str
    message: str
    traceback: str


@dataclass(frozen=True)
class CodeResult:
    """How a cell ended.

    Attributes:
        results: The value of the last expression and every figure that was open, in order.
        error: The exception, if one ended it.
        timed_out: The time limit ended it.
        restarted: The interpreter had to be replaced: its variables are gone.
    """

    stdout: str
    stderr: str
    results: list[Rich]
    error: CodeError | None
    timed_out: bool
    restarted: bool
    seconds: float


class Sandbox(Protocol):
    """An isolated computer with a persistent Python and a shell.

    Every method raises `SandboxGone` when the sandbox has died, also in the middle of a call. Cancelling a call ends
    what it started, down to the last child, within two seconds; the sandbox itself lives on.
    """

    @property
    def id(self) -> str:
        """Its identifier."""
        ...

    @property
    def provider(self) -> str:
        """The name of its provider."""
        ...

    async def run_code(self, code: str, *, timeout: float = 120, on_output: OnOutput | None = None) -> CodeResult:
        """Run a cell in the session's Python, which keeps its variables.

        Args:
            code: Python source.
            timeout: Seconds; then the cell is interrupted and, if it does not heed that, its interpreter replaced.
            on_output: Called with output as it comes.

        Raises:
            SandboxGone: The sandbox died.
        """
        ...

    async def run_command(
        self,
        command: str,
        *,
        timeout: float = 120,
        cwd: str = "/workspace",
        on_output: OnOutput | None = None,
    ) -> CommandResult:
        """Run a shell command.

        Args:
            command: For `sh -c`.
            timeout: Seconds; then the command and every process it started are killed.
            cwd: Directory inside the sandbox.
            on_output: Called with output as it comes.

        Raises:
            SandboxGone: The sandbox died.
        """
        ...

    async def ping(self) -> bool:
        """Say whether it is alive and answers, within a second."""
        ...

    async def close(self) -> None:
        """End it and every process in it. Never raises; may be called twice."""
        ...


@dataclass(frozen=True)
class Availability:
    """Whether a provider can work here.

    Attributes:
        ok: It can.
        detail: One sentence for the user: what it offers, or what is missing.
        remedy: How to mend that; empty if it works.
    """

    ok: bool
    detail: str
    remedy: str = ""


class SandboxProvider(Protocol):
    """Makes sandboxes of one kind."""

    @property
    def name(self) -> str:
        """`local`, `microvm`, `e2b`, …."""
        ...

    async def probe(self) -> Availability:
        """Find out, by doing it, whether a sandbox can be made here."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox.

        Raises:
            SandboxUnavailable: None can be made here; the remedy says why.
            SandboxError: This one could not be made.
        """
        ...

    async def find(self, session_id: str) -> Sandbox | None:
        """Return the session's living sandbox, also one that another process made; None if there is none."""
        ...
