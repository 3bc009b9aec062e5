"""What a sandbox is, whoever provides it.

A provider makes sandboxes; a sandbox is an isolated computer that speaks E2B's protocol on the inside. Everything
here is a contract: `orchestrion.testing` ships the suite that each provider must pass.

Identity: a sandbox's id is 20 characters of `a-z0-9`, so that it can stand in a host name (`<port>-<id>.<domain>`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

Stream: TypeAlias = Literal["stdout", "stderr"]
State: TypeAlias = Literal["running", "paused"]
Language: TypeAlias = Literal["python", "javascript", "typescript", "bash"]

ENVD_PORT = 49983
CODE_PORT = 49999


@dataclass(frozen=True)
class Limits:
    """What a sandbox may use.

    Attributes:
        memory_mb: Memory of all its processes together, MiB.
        processes: Processes and threads at once.
        file_mb: Size of one file, MiB.
        open_files: Descriptors a process may hold.
        cpu_seconds: Processor time a single process may use.
        tmp_mb: Size of the private /dev/shm, MiB.
        disk_mb: What it may write outside of the workspace and inside it, together, MiB.
        files: How many files and directories it may make.
    """

    memory_mb: int = 4096
    processes: int = 256
    file_mb: int = 4096
    open_files: int = 1024
    cpu_seconds: int = 3600
    tmp_mb: int = 512
    disk_mb: int = 10240
    files: int = 200_000


@dataclass(frozen=True)
class Network:
    """What a sandbox may reach through the gateway; it has no network of its own.

    Attributes:
        allow: Host names, `*.example.com`, addresses, CIDR blocks, or `*` for every public address. Empty: nothing.
        deny: Likewise; `allow` wins over `deny`.
        registries: Also the package registries (PyPI, npm, Debian, crates.io and the like).
        public_ports: Whether its ports may be reached from outside without the traffic token.
        mask_host: What `Host` a service inside sees, `${PORT}` expanded; empty for the real one.
        https_ports: Ports inside that speak TLS.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    registries: bool = False
    public_ports: bool = True
    mask_host: str = ""
    https_ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class SandboxSpec:
    """What is asked of a provider.

    Attributes:
        session_id: The session that it belongs to; None for one that was made for itself.
        owner: Whose quota it counts against.
        workspace: The session's directory on the host, read-write at `/workspace`; None for one without. A provider
            that can't mount it copies it in and back out, and says so in its capabilities.
        template: `base`, `code-interpreter-v1`, a template that was built, or a snapshot's id.
        limits: What it may use.
        idle_seconds: It ends by itself when no host has talked to it for so long.
        env: Variables for everything that runs inside.
        metadata: The caller's own labels.
        network: What it may reach.
        root: Whether code may become root inside (`sudo`, user `root`). Root inside is nobody outside.
        user: Who runs what names nobody; empty for the template's own, which is `user` if it says nothing.
        workdir: Where that starts; empty for the template's own, then the workspace or the user's home.
    """

    session_id: str | None = None
    owner: str = ""
    workspace: Path | None = None
    template: str = "base"
    limits: Limits = field(default_factory=Limits)
    idle_seconds: int = 600
    env: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    network: Network = field(default_factory=Network)
    root: bool = False
    user: str = ""
    workdir: str = ""


@dataclass(frozen=True)
class SandboxInfo:
    """What is known of a sandbox without talking to it.

    Attributes:
        state: Whether it runs; one that died but left its files counts as paused.
        memory: Its processes run, or a pause has kept them; else a resume starts it anew on its files.
    """

    id: str
    provider: str
    state: State
    created_at: datetime
    spec: SandboxSpec
    memory: bool = True


@dataclass(frozen=True)
class Snapshot:
    """A sandbox's file system, kept; its id can be the template of new ones.

    Attributes:
        id: `<name>:default`, or `<20 characters>:default` if it has no name.
        names: The names it was given.
        sandbox_id: What it was taken of.
        created_at: When.
        size: Bytes on disk.
        owner: Whose it is; None where its provider doesn't know.
    """

    id: str
    names: tuple[str, ...]
    sandbox_id: str
    created_at: datetime
    size: int = 0
    owner: str | None = None


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


RichKind: TypeAlias = Literal[
    "text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "json", "javascript", "data", "chart"
]


@dataclass(frozen=True)
class Rich:
    """One representation of one rich result of a cell.

    Attributes:
        kind: What it is.
        data: Text; base64 for `png`, `jpeg` and `pdf`; JSON text for `json`, `data` and `chart`.
    """

    kind: RichKind
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


@dataclass(frozen=True)
class Entry:
    """A file or directory inside, as E2B's `EntryInfo`.

    Attributes:
        type: What it is; for a symbolic link, what that leads to.
        mode: Permission bits.
        symlink_target: Where a symbolic link leads, resolved; None for anything else.
    """

    name: str
    path: str
    type: Literal["file", "directory", "other"]
    size: int
    mode: int
    permissions: str
    owner: str
    group: str
    modified_at: datetime
    symlink_target: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """Something that happened in a watched directory; `name` is relative to it."""

    name: str
    kind: Literal["create", "write", "remove", "rename", "chmod"]


class Files(Protocol):
    """The file system inside. Paths that are not absolute start at the user's home.

    Methods raise `SandboxGone` when the sandbox has died; `NotFound`, `InvalidInput` (a directory where a file is
    wanted, or the reverse) and `SandboxError` (not permitted, disk full) as the case may be.
    """

    async def stat(self, path: str, *, user: str | None = None) -> Entry:
        """Describe one file or directory."""
        ...

    async def list(self, path: str, *, depth: int = 1, user: str | None = None) -> list[Entry]:
        """Describe what is in a directory, `depth` levels deep."""
        ...

    def read(self, path: str, *, user: str | None = None) -> AsyncIterator[bytes]:
        """Yield a file's bytes in pieces."""
        ...

    async def read_bytes(self, path: str, *, limit: int = 64 * 1024 * 1024, user: str | None = None) -> bytes:
        """Return a file's bytes; raises `TooLarge` beyond `limit`."""
        ...

    async def write(self, path: str, data: bytes | AsyncIterator[bytes], *, user: str | None = None) -> None:
        """Write a file; directories above it are made."""
        ...

    async def make_dir(self, path: str, *, user: str | None = None) -> bool:
        """Make a directory and those above it; False if it is there already."""
        ...

    async def move(self, source: str, destination: str, *, user: str | None = None) -> Entry:
        """Rename."""
        ...

    async def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove a file, or a directory and all in it."""
        ...

    def watch(self, path: str, *, recursive: bool = False, user: str | None = None) -> AsyncIterator[Change]:
        """Yield what happens in a directory until closed."""
        ...


@dataclass(frozen=True)
class ProcessInfo:
    """A process that was started through the sandbox and still runs."""

    pid: int
    command: str
    args: tuple[str, ...] = ()
    cwd: str | None = None
    tag: str | None = None


@dataclass(frozen=True)
class ProcessOutput:
    """A piece of a process's output, as it came; `pty` if it runs in a terminal."""

    stream: Literal["stdout", "stderr", "pty"]
    data: bytes


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended: its exit code, or 128+n when signal n ended it."""

    exit_code: int
    error: str | None = None


class Process(Protocol):
    """A process inside that its caller watches. Closing the watch does not end the process."""

    @property
    def pid(self) -> int:
        """Its pid inside."""
        ...

    def events(self) -> AsyncIterator[ProcessOutput | ProcessEnd]:
        """Yield its output as it comes and, last, its end."""
        ...

    async def send(self, data: bytes) -> None:
        """Write to its standard input, or its terminal."""
        ...

    async def close_stdin(self) -> None:
        """End its standard input."""
        ...

    async def resize(self, columns: int, rows: int) -> None:
        """Change its terminal's size."""
        ...

    async def kill(self, signal: Literal["SIGKILL", "SIGTERM"] = "SIGKILL") -> bool:
        """Send a signal; False if it has ended already."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...


class Processes(Protocol):
    """The processes inside that outlive their caller: servers, terminals."""

    async def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: bool = False,
        terminal: tuple[int, int] | None = None,
        tag: str | None = None,
    ) -> Process:
        """Start one and watch it; `terminal` is columns and rows of a PTY."""
        ...

    async def connect(self, pid: int) -> Process:
        """Watch one that runs; raises `NotFound`."""
        ...

    async def list(self) -> list[ProcessInfo]:
        """Return those that run."""
        ...


@dataclass(frozen=True)
class Context:
    """A live interpreter."""

    id: str
    language: str
    cwd: str


@dataclass(frozen=True)
class Metrics:
    """What a sandbox uses now; sizes in bytes."""

    at: datetime
    cpu_count: int
    cpu_percent: float
    memory_used: int
    memory_total: int
    disk_used: int
    disk_total: int


@dataclass(frozen=True)
class PortAddress:
    """How a port of a sandbox is reached with HTTP/1.1.

    Attributes:
        host: What to send as `Host`.
        headers: Further headers that each request needs.
        dial: Opens a byte stream on which the request is written. Raises `SandboxGone` if the sandbox is dead,
            `PortClosed` if nothing listens there.
        lifecycle: Changes whenever old connections must not be used again (a pause, a restore).
    """

    host: str
    headers: Mapping[str, str]
    dial: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    lifecycle: str


class Sandbox(Protocol):
    """An isolated computer: interpreters, a shell, files, processes, ports.

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

    @property
    def access_token(self) -> str:
        """What envd inside demands as `X-Access-Token`; never given to code inside."""
        ...

    @property
    def files(self) -> Files:
        """Its file system."""
        ...

    @property
    def processes(self) -> Processes:
        """Its processes."""
        ...

    async def run_code(
        self,
        code: str,
        *,
        language: Language = "python",
        context: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        on_output: OnOutput | None = None,
    ) -> CodeResult:
        """Run a cell in a live interpreter, which keeps its variables.

        Args:
            code: Source.
            language: Whose default interpreter to use; ignored if `context` is given.
            context: An interpreter that `make_context` made.
            env: Variables for this cell alone.
            timeout: Seconds; then the cell is interrupted and, if it does not heed that, its interpreter replaced.
            on_output: Called with output as it comes.

        Raises:
            SandboxGone: The sandbox died.
        """
        ...

    async def make_context(self, language: Language = "python", cwd: str = "/home/user") -> Context:
        """Start a further interpreter."""
        ...

    async def contexts(self) -> list[Context]:
        """Return the live interpreters."""
        ...

    async def restart_context(self, context: str) -> None:
        """Start an interpreter anew; its variables are gone."""
        ...

    async def remove_context(self, context: str) -> None:
        """End an interpreter."""
        ...

    async def run_command(
        self,
        command: str,
        *,
        timeout: float = 120,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        on_output: OnOutput | None = None,
    ) -> CommandResult:
        """Run a shell command to its end.

        Args:
            command: For `sh -c`.
            timeout: Seconds; then the command and every process it started are killed.
            cwd: Directory inside; by default the workspace if there is one, else the user's home.
            env: Further variables.
            user: `user` by default; `root` only where the spec allows it.
            on_output: Called with output as it comes.

        Raises:
            SandboxGone: The sandbox died.
        """
        ...

    def port(self, port: int) -> PortAddress:
        """Say how a TCP port inside is reached."""
        ...

    async def metrics(self) -> Metrics:
        """Say what it uses now."""
        ...

    async def ping(self, within: float = 1) -> bool:
        """Say whether it is alive and answers, in `within` seconds."""
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
        remedy: How to mend that; if it works, what would make it better; empty if nothing is missing.
    """

    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a provider can do; what it can't, it refuses with `Unsupported`, never ignores.

    Attributes:
        isolation: A sentence on what stands between code inside and the host.
        strength: For `SANDBOX_MODE=hybrid`: the strongest that works is taken.
        mounts_workspace: The workspace is one and the same directory inside and outside; else it is copied.
        pause_memory: A pause keeps processes: `frozen` (while the host runs), `image` (on disk), `none`.
        fork_processes: A fork copies running processes too, not only files.
        snapshots: The file system can be kept as a template.
        root: Code can become root inside.
        gateway: Egress and model calls go through our gateway.
        caveats: What of a spec it does not keep, in a sentence that the user is shown; empty if it keeps all.
    """

    isolation: str
    strength: int
    mounts_workspace: bool
    pause_memory: Literal["frozen", "image", "none"]
    fork_processes: bool
    snapshots: bool
    root: bool
    gateway: bool
    caveats: str = ""


class SandboxProvider(Protocol):
    """Makes sandboxes of one kind.

    Every method that names a sandbox raises `NotFound` if there is none of that id.
    """

    @property
    def name(self) -> str:
        """`local`, `microvm`, `e2b`, …."""
        ...

    async def capabilities(self) -> Capabilities:
        """Say what it can do on this machine."""
        ...

    async def probe(self) -> Availability:
        """Find out, by doing it, whether a sandbox can be made here."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox; it answers when this returns.

        Raises:
            SandboxUnavailable: None can be made here; the remedy says why.
            SandboxError: This one could not be made (an unknown template, say: `NotFound`).
        """
        ...

    async def known(self) -> list[SandboxInfo]:
        """Return all there are, also those that other processes made, oldest first; sweep away the dead."""
        ...

    async def info(self, sandbox_id: str) -> SandboxInfo:
        """Describe one."""
        ...

    async def open(self, sandbox_id: str) -> Sandbox:
        """Return a running one. Raises `SandboxGone` if it died, `Conflict` if it is paused."""
        ...

    async def pause(self, sandbox_id: str, *, memory: bool = True) -> None:
        """Stop it; when this returns it answers nobody.

        Args:
            sandbox_id: Which.
            memory: Keep its processes, as `Capabilities.pause_memory` says; else only its files.

        Raises:
            Conflict: It is paused already.
            Unsupported: Processes can't be kept here.
        """
        ...

    async def resume(self, sandbox_id: str, *, memory: bool = True) -> Sandbox:
        """Let it go on, or start it anew on its files (`memory=False`, or if only they were kept or are left)."""
        ...

    async def fork(self, sandbox_id: str, spec: SandboxSpec | None = None) -> Sandbox:
        """Make a copy of it, files only unless `Capabilities.fork_processes`; the source goes on."""
        ...

    async def snapshot(self, sandbox_id: str, name: str | None = None) -> Snapshot:
        """Keep its file system as a template. Taking a name again moves that name."""
        ...

    async def snapshots(self) -> list[Snapshot]:
        """Return those that are kept, newest first."""
        ...

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget one; sandboxes made of it live on."""
        ...

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change what it may reach, from now on."""
        ...

    async def remove(self, sandbox_id: str) -> None:
        """End it and forget it, running or paused."""
        ...

    async def aclose(self) -> None:
        """Let go of what this process holds (a zygote, connections). Sandboxes live on."""
        ...
