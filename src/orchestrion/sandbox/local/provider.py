"""The `local` provider."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import SandboxError, SandboxUnavailable
from orchestrion.sandbox.local import launch, ownership, records
from orchestrion.sandbox.local.argv import USER_ID, Mode, Plan, bwrap_argv, daemon_command
from orchestrion.sandbox.local.interpreter import Interpreter, locate, refuse_exposing
from orchestrion.sandbox.local.probe import find_mode, knows_disable_userns, require_programs, write_etc
from orchestrion.sandbox.local.sandbox import LocalSandbox
from orchestrion.sandbox.protocols import Availability, SandboxSpec

_READY = 20
_ALIVE = 5
_LOCK_WAIT = 60


@dataclass(frozen=True)
class _Ground:
    """What was found out about this machine."""

    mode: Mode
    interpreter: Interpreter
    disable_userns: bool


class LocalProvider:
    """Makes sandboxes out of namespaces, with bubblewrap.

    Args:
        home: The data directory; `sandboxes/` in it holds what is known of the living ones.
        python: The Python inside; by default the one `make setup` made.
    """

    name = "local"

    def __init__(self, home: Path, python: Path | None = None) -> None:
        self._home = home
        self._user_home = Path("~").expanduser()
        self._records = records.Records(home / "sandboxes")
        self._python = python
        self._ground: _Ground | None = None

    async def probe(self) -> Availability:
        """Find out, by making one, whether a sandbox can be made here."""
        try:
            ground = await self._explore()
        except SandboxUnavailable as error:
            return Availability(False, error.detail, error.remedy)
        return Availability(True, _offer(ground.mode))

    async def create(self, spec: SandboxSpec) -> LocalSandbox:
        """Make a sandbox.

        Raises:
            SandboxUnavailable: None can be made here; the remedy says how to change that.
            SandboxError: This one could not be made.
        """
        ground = await self._explore()
        record = await _in_full(asyncio.create_task(asyncio.to_thread(self._launch, spec, ground)))
        sandbox = LocalSandbox(record, self._records)
        if not await sandbox.ping(_READY):
            why = launch.reason(self._records.root / record.id / "log")
            await sandbox.close()
            raise SandboxError(f"The sandbox ended at its start: {why or 'it did not answer'}.")
        return sandbox

    async def find(self, session_id: str) -> LocalSandbox | None:
        """Return the session's living sandbox, also one that another process made; None if there is none."""
        record = await asyncio.to_thread(self._records.of_session, session_id)
        if record is None:
            return None
        sandbox = LocalSandbox(record, self._records)
        if await sandbox.ping(_ALIVE):
            return sandbox
        await sandbox.close()
        return None

    async def adopt(self, session_id: str, workspace: Path) -> None:
        """Give files that were put into the workspace since its sandbox was made to that sandbox's user."""
        record = await asyncio.to_thread(self._records.of_session, session_id)
        if record is not None and record.uid is not None:
            await asyncio.to_thread(ownership.give_tree, workspace, record.uid)

    async def sessions(self) -> list[str]:
        """Return the sessions that have a living sandbox."""
        living = await asyncio.to_thread(self._records.living)
        return list(dict.fromkeys(record.session_id for record in living))

    def session_lock(self, session_id: str) -> AbstractAsyncContextManager[None]:
        """Keep other processes from making this session's sandbox meanwhile."""
        return self._records.locked(session_id, _LOCK_WAIT)

    async def _explore(self) -> _Ground:
        if self._ground is None:
            require_programs()
            interpreter = await asyncio.to_thread(locate, self._python)
            refuse_exposing(interpreter, self._home, self._user_home)
            disable = await knows_disable_userns()
            self._ground = _Ground(await find_mode(interpreter, disable), interpreter, disable)
        return self._ground

    def _launch(self, spec: SandboxSpec, ground: _Ground) -> records.Record:
        self._records.living()
        sandbox_id, place = self._records.make()
        uid = ownership.sandbox_uid(spec.session_id) if ground.mode == "root" else USER_ID
        try:
            pid = self._start(spec, ground, place, uid)
        except (OSError, SandboxError) as error:
            self._records.remove(sandbox_id)
            raise SandboxError(f"The sandbox could not be made: {error}") from error
        owner = uid if ground.mode == "root" else None
        start, boot = records.start_time(pid) or 0, records.boot_id()
        record = records.Record(sandbox_id, spec.session_id, self.name, pid, start, boot, owner, time.time())
        self._records.write(record)
        return record

    def _start(self, spec: SandboxSpec, ground: _Ground, place: Path, uid: int) -> int:
        workspace = spec.workspace.resolve(strict=True)
        write_etc(place / "etc", uid)
        if ground.mode == "root":
            ownership.give_tree(workspace, uid)
        plan = Plan(
            ground.mode, uid, ground.interpreter, workspace, place / "etc", spec.limits, ground.disable_userns
        )
        with contextlib.closing(launch.listen(place / "run")) as listener:
            command = daemon_command(plan, listener.fileno(), spec.idle_seconds)
            info = os.pipe()
            argv = bwrap_argv(plan, command, info_fd=info[1])
            return launch.spawn(argv, info, [listener.fileno()], place / "log")


async def _in_full(task: asyncio.Task[records.Record]) -> records.Record:
    """Await a launch; if we are cancelled meanwhile, let it come to its end first, so that its record is found."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _offer(mode: Mode) -> str:
    isolation = "Process isolation on this machine's own kernel (bubblewrap): no network, read-only system"
    if mode == "root":
        return f"{isolation}, an unprivileged user of its own for each session."
    if os.geteuid() == 0:
        return f"{isolation}. As root in a user namespace the limit of processes does not hold."
    return f"{isolation}, a user namespace of its own."
