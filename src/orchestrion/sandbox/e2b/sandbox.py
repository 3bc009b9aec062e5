"""A sandbox in the cloud that has a copy of a workspace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from orchestrion.sandbox.client import GuestSandbox
from orchestrion.sandbox.e2b.sync import WorkspaceSync
from orchestrion.sandbox.protocols import CodeResult, CommandResult, Language, OnOutput


class CopiedSandbox(GuestSandbox):
    """A `GuestSandbox` whose commands and cells find the workspace as it is on the host, and leave it so there.

    What a process that outlives its caller writes comes out with the next call. What could not be copied is said at
    the end of the call's stderr.
    """

    sync: WorkspaceSync
    _turn: asyncio.Lock

    def keep_in_step(self, sync: WorkspaceSync) -> None:
        """Say how the workspace is copied; called once, before the sandbox is used."""
        self.sync, self._turn = sync, asyncio.Lock()

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
        """Run a cell in a live interpreter; see `Sandbox.run_code`."""
        async with self._in_step() as notes:
            result = await super().run_code(
                code, language=language, context=context, env=env, timeout=timeout, on_output=on_output
            )
        return replace(result, stderr=result.stderr + _told(notes))

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
        """Run a shell command to its end; see `Sandbox.run_command`."""
        async with self._in_step() as notes:
            result = await super().run_command(
                command, timeout=timeout, cwd=cwd, env=env, user=user, on_output=on_output
            )
        return replace(result, stderr=result.stderr + _told(notes))

    @contextlib.asynccontextmanager
    async def _in_step(self) -> AsyncIterator[list[str]]:
        notes: list[str] = []
        async with self._turn:
            await self.sync.push()
        yield notes
        async with self._turn:
            notes += await self.sync.pull()


def _told(notes: list[str]) -> str:
    return "".join(f"{note}\n" for note in notes)
