"""One sandbox per session: found again, made when missing, ended when asked."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from weakref import WeakValueDictionary

from orchestrion.core.errors import SandboxUnavailable
from orchestrion.core.settings import Settings
from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.protocols import Availability, Limits, Sandbox, SandboxSpec

_LOCAL = ("local", "hybrid")


class Sandboxes:
    """The sandboxes of all sessions in one data directory.

    Args:
        settings: Where they live, which provider makes them and what they may use.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = LocalProvider(settings.home, settings.sandbox_python)
        self._known: dict[str, Sandbox] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def acquire(self, session_id: str, workspace: Path, provider: str | None = None) -> tuple[Sandbox, bool]:
        """Return the session's sandbox and whether it had to be made.

        A living one is used, also one that another process of ours made; so variables and files are still there.

        Args:
            session_id: The session.
            workspace: The session's directory on the host, mounted read-write.
            provider: `local`, `microvm`, `e2b` or `hybrid`; by default the one in the settings.

        Raises:
            SandboxUnavailable: None can be made here; the remedy says how to change that.
            SandboxError: This one could not be made.
        """
        chosen = self._provider(provider)
        async with self._lock(session_id), chosen.session_lock(session_id):
            if found := await self._living(session_id):
                await chosen.adopt(session_id, workspace)
                return found, False
            sandbox = await chosen.create(self._spec(session_id, workspace))
            self._known[session_id] = sandbox
            return sandbox, True

    async def find(self, session_id: str) -> Sandbox | None:
        """Return the session's living sandbox; None if there is none."""
        async with self._lock(session_id):
            return await self._living(session_id)

    async def probe(self, provider: str | None = None) -> Availability:
        """Say whether sandboxes can be made here, by making one; success is remembered."""
        wanted = provider or self._settings.sandbox_mode
        try:
            answer = await self._provider(provider).probe()
        except SandboxUnavailable as error:
            return Availability(False, error.detail, error.remedy)
        if wanted == "hybrid" and answer.ok:
            note = f"hybrid takes `local`, the strongest this version has. {answer.detail}"
            return Availability(True, note, answer.remedy)
        return answer

    async def close(self, session_id: str) -> None:
        """End the session's sandbox, if it has one."""
        async with self._lock(session_id), self._local.session_lock(session_id):
            if found := await self._living(session_id):
                await found.close()
            self._known.pop(session_id, None)

    async def close_all(self) -> None:
        """End every sandbox of this data directory, also those that other processes made."""
        sessions = await self._local.sessions()
        with contextlib.suppress(OSError):
            await asyncio.gather(*(self.close(session) for session in sessions))

    async def _living(self, session_id: str) -> Sandbox | None:
        known = self._known.get(session_id)
        if known is not None and await known.ping():
            return known
        self._known.pop(session_id, None)
        found = await self._local.find(session_id)
        if found is not None:
            self._known[session_id] = found
        return found

    def _provider(self, name: str | None) -> LocalProvider:
        wanted = name or self._settings.sandbox_mode
        if wanted in _LOCAL:
            return self._local
        raise SandboxUnavailable(
            f"This version of Orchestrion has no sandbox provider `{wanted}` yet.",
            "Use `local`: set SANDBOX_MODE=local (or hybrid), or leave it unset.",
        )

    def _spec(self, session_id: str, workspace: Path) -> SandboxSpec:
        limits = Limits(memory_mb=self._settings.sandbox_memory_mb, processes=self._settings.sandbox_processes)
        return SandboxSpec(session_id, workspace, limits, self._settings.sandbox_idle_seconds)

    def _lock(self, session_id: str) -> asyncio.Lock:
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock
