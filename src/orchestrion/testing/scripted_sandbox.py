"""A provider of sandboxes that live in memory: for tests of what is done with sandboxes, not of what they can do.

A cell of its "interpreter" is one assignment of a literal (`x = 1`) or one name, whose value it shows.
"""

from __future__ import annotations

import ast
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, SandboxGone, Unsupported
from orchestrion.sandbox.protocols import (
    Availability,
    Capabilities,
    Change,
    CodeError,
    CodeResult,
    CommandResult,
    Context,
    Entry,
    Language,
    Metrics,
    Network,
    OnOutput,
    PortAddress,
    Process,
    ProcessInfo,
    Rich,
    SandboxInfo,
    SandboxSpec,
    Snapshot,
)

ABLE = Capabilities(
    isolation="None: it lives in memory.",
    strength=1,
    mounts_workspace=True,
    pause_memory="frozen",
    fork_processes=False,
    snapshots=True,
    root=False,
    gateway=False,
)


@dataclass
class Machine:
    """What there is of one sandbox.

    Attributes:
        info: As the provider tells it.
        files: Path to content.
        variables: The interpreter's; None if its processes are gone.
    """

    info: SandboxInfo
    files: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, object] | None = field(default_factory=dict)


class ScriptedProvider:
    """Sandboxes in memory. Several `Sandboxes` may share one, as several processes share a machine.

    Args:
        capabilities: What it says it can do, and refuses if not.
        clock: Returns the time, seconds since the epoch.
        name: Its name.
    """

    def __init__(
        self, capabilities: Capabilities = ABLE, clock: Callable[[], float] | None = None, name: str = "scripted"
    ) -> None:
        self._capabilities = capabilities
        self._clock = clock or (lambda: datetime.now(UTC).timestamp())
        self._name = name
        self._kept: dict[str, tuple[Snapshot, dict[str, bytes]]] = {}
        self.machines: dict[str, Machine] = {}
        self.failures: list[OrchestrionError] = []
        self.available = Availability(True, "It lives in memory.")

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    async def capabilities(self) -> Capabilities:
        """What it was told to be able to."""
        return self._capabilities

    async def probe(self) -> Availability:
        """What `available` says."""
        return self.available

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _machine(self, sandbox_id: str) -> Machine:
        try:
            return self.machines[sandbox_id]
        except KeyError:
            raise NotFound(f"There is no sandbox {sandbox_id}.") from None

    async def create(self, spec: SandboxSpec) -> ScriptedSandbox:
        """Make one; a snapshot's files are in it."""
        self._fail()
        now = datetime.fromtimestamp(self._clock(), UTC)
        info = SandboxInfo(secrets.token_hex(10), self._name, "running", now, spec)
        found = next((files for kept, files in self._kept.values() if spec.template in {kept.id, *kept.names}), {})
        self.machines[info.id] = Machine(info, dict(found))
        return ScriptedSandbox(self, info.id)

    async def known(self) -> list[SandboxInfo]:
        """All of them."""
        return [machine.info for machine in self.machines.values()]

    async def info(self, sandbox_id: str) -> SandboxInfo:
        """One of them."""
        return self._machine(sandbox_id).info

    async def open(self, sandbox_id: str) -> ScriptedSandbox:
        """A running one."""
        if self._machine(sandbox_id).info.state == "paused":
            raise Conflict("It is paused.") if self._machine(sandbox_id).info.memory else SandboxGone("It died.")
        return ScriptedSandbox(self, sandbox_id)

    async def pause(self, sandbox_id: str, *, memory: bool = True) -> None:
        """Freeze it, or keep its files alone."""
        self._fail()
        machine = self._machine(sandbox_id)
        if machine.info.state == "paused" and (memory or not machine.info.memory):
            raise Conflict("It is paused already.")
        if memory and self._capabilities.pause_memory == "none":
            raise Unsupported("Processes can't be kept.")
        if not memory:
            machine.variables = None
        machine.info = replace(machine.info, state="paused", memory=memory)

    async def resume(self, sandbox_id: str, *, memory: bool = True) -> ScriptedSandbox:
        """Let it go on, or start it anew."""
        self._fail()
        machine = self._machine(sandbox_id)
        if not memory or machine.variables is None:
            machine.variables = {}
        machine.info = replace(machine.info, state="running", memory=True)
        return ScriptedSandbox(self, sandbox_id)

    async def fork(self, sandbox_id: str, spec: SandboxSpec | None = None) -> ScriptedSandbox:
        """Copy its files."""
        source = self._machine(sandbox_id)
        copy = await self.create(spec or source.info.spec)
        self.machines[copy.id].files = dict(source.files)
        return copy

    async def snapshot(self, sandbox_id: str, name: str | None = None) -> Snapshot:
        """Keep its files."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        kept = Snapshot(f"{name or secrets.token_hex(10)}:default", (name,) if name else (), sandbox_id, now)
        self._kept[kept.id] = kept, dict(self._machine(sandbox_id).files)
        return kept

    async def snapshots(self) -> list[Snapshot]:
        """Those that are kept."""
        return [kept for kept, _ in reversed(self._kept.values())]

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget one."""
        if self._kept.pop(snapshot_id, None) is None:
            raise NotFound(f"There is no snapshot {snapshot_id}.")

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Note what it may reach."""
        machine = self._machine(sandbox_id)
        machine.info = replace(machine.info, spec=replace(machine.info.spec, network=network))

    async def remove(self, sandbox_id: str) -> None:
        """Forget it."""
        self._fail()
        self._machine(sandbox_id)
        del self.machines[sandbox_id]

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def crash(self, sandbox_id: str) -> None:
        """Kill its processes; its files stay."""
        machine = self._machine(sandbox_id)
        machine.variables = None
        machine.info = replace(machine.info, state="paused", memory=False)

    def hang(self, sandbox_id: str) -> None:
        """Kill its processes so that its provider does not notice."""
        self._machine(sandbox_id).variables = None


class ScriptedSandbox:
    """One of `ScriptedProvider`'s; it also is its own file system and has no processes but its interpreter.

    Args:
        provider: Who made it.
        sandbox_id: Which it is.
    """

    def __init__(self, provider: ScriptedProvider, sandbox_id: str) -> None:
        self._provider = provider
        self._id = sandbox_id

    @property
    def id(self) -> str:
        """Its identifier."""
        return self._id

    @property
    def provider(self) -> str:
        """Its provider's name."""
        return self._provider.name

    @property
    def access_token(self) -> str:
        """A token."""
        return f"token-of-{self._id}"

    @property
    def files(self) -> ScriptedFiles:
        """Its files."""
        return ScriptedFiles(self._live)

    @property
    def processes(self) -> ScriptedProcesses:
        """It has none."""
        return ScriptedProcesses()

    def _live(self) -> Machine:
        machine = self._provider.machines.get(self._id)
        if machine is None or machine.info.state != "running" or machine.variables is None:
            raise SandboxGone("It does not answer.")
        return machine

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
        """Assign a literal, or show a name's value."""
        variables = self._live().variables
        assert variables is not None
        name, assigns, value = (part.strip() for part in code.partition("="))
        if assigns:
            variables[name] = ast.literal_eval(value)
            return CodeResult("", "", [], None, False, False, 0)
        if name not in variables:
            error = CodeError("NameError", f"name '{name}' is not defined", "")
            return CodeResult("", "", [], error, False, False, 0)
        return CodeResult("", "", [Rich("text", repr(variables[name]))], None, False, False, 0)

    async def make_context(self, language: Language = "python", cwd: str = "/home/user") -> Context:
        """There is one interpreter only."""
        raise Unsupported("There is one interpreter only.")

    async def contexts(self) -> list[Context]:
        """None but the default."""
        return []

    async def restart_context(self, context: str) -> None:
        """There is one interpreter only."""
        raise Unsupported("There is one interpreter only.")

    async def remove_context(self, context: str) -> None:
        """There is one interpreter only."""
        raise Unsupported("There is one interpreter only.")

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
        """Echo the command."""
        self._live()
        return CommandResult(0, command, "", False, 0)

    def port(self, port: int) -> PortAddress:
        """It has no ports."""
        raise Unsupported("It has no ports.")

    async def metrics(self) -> Metrics:
        """Nothing is used."""
        self._live()
        return Metrics(datetime.now(UTC), 1, 0, 0, 0, 0, 0)

    async def ping(self, within: float = 1) -> bool:
        """Say whether it runs."""
        try:
            self._live()
        except SandboxGone:
            return False
        return True

    async def close(self) -> None:
        """End it."""
        self._provider.machines.pop(self._id, None)


class ScriptedFiles:
    """The files of a sandbox in memory, without directories.

    Args:
        live: Returns the machine; raises `SandboxGone`.
    """

    def __init__(self, live: Callable[[], Machine]) -> None:
        self._live = live

    async def stat(self, path: str, *, user: str | None = None) -> Entry:
        """Describe one."""
        size = len(await self.read_bytes(path))
        name, now = path.rpartition("/")[2], datetime.now(UTC)
        return Entry(name, path, "file", size, 0o644, "-rw-r--r--", "user", "user", now)

    async def list(self, path: str, *, depth: int = 1, user: str | None = None) -> list[Entry]:
        """Describe all below a path."""
        return [await self.stat(name) for name in sorted(self._live().files) if name.startswith(path)]

    async def read(self, path: str, *, user: str | None = None) -> AsyncIterator[bytes]:
        """Yield one's bytes at once."""
        yield await self.read_bytes(path)

    async def read_bytes(self, path: str, *, limit: int = 64 * 1024 * 1024, user: str | None = None) -> bytes:
        """Return one's bytes."""
        try:
            return self._live().files[path]
        except KeyError:
            raise NotFound(f"There is no file {path}.") from None

    async def write(self, path: str, data: bytes | AsyncIterator[bytes], *, user: str | None = None) -> None:
        """Write one."""
        self._live().files[path] = data if isinstance(data, bytes) else b"".join([part async for part in data])

    async def make_dir(self, path: str, *, user: str | None = None) -> bool:
        """There are no directories."""
        return False

    async def move(self, source: str, destination: str, *, user: str | None = None) -> Entry:
        """Rename one."""
        await self.write(destination, await self.read_bytes(source))
        await self.remove(source)
        return await self.stat(destination)

    async def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove one."""
        await self.read_bytes(path)
        del self._live().files[path]

    def watch(self, path: str, *, recursive: bool = False, user: str | None = None) -> AsyncIterator[Change]:
        """Nothing is told of changes."""
        raise Unsupported("Changes are not watched.")


class ScriptedProcesses:
    """No processes."""

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
        """None can be started."""
        raise Unsupported("It has no processes.")

    async def connect(self, pid: int) -> Process:
        """There is none."""
        raise NotFound(f"There is no process {pid}.")

    async def list(self) -> list[ProcessInfo]:
        """None."""
        return []
