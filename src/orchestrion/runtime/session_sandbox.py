"""A run's way to its session's sandbox: made by the first tool call that needs one, and found again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from orchestrion.core.events import SandboxCreated, SandboxLost, SandboxReused
from orchestrion.sandbox.protocols import Sandbox
from orchestrion.tools.context import RunContext

if TYPE_CHECKING:
    from orchestrion.sandbox import Sandboxes


class SessionSandbox:
    """Acquires the sandbox and tells the readers about it.

    Args:
        sandboxes: Returns the sandboxes of this process.
        provider: The provider that the user asked for, if any.
    """

    def __init__(self, sandboxes: Callable[[], Sandboxes], provider: str | None) -> None:
        self._sandboxes = sandboxes
        self._provider = provider
        self._current: Sandbox | None = None
        self.context: RunContext | None = None

    async def acquire(self) -> Sandbox:
        """Return the session's sandbox.

        Raises:
            SandboxUnavailable: None can be made here.
        """
        if self._current is not None:
            if await self._current.ping():
                return self._current
            await self._lost(self._current)
        return await self._make()

    async def _make(self) -> Sandbox:
        context = self._bound()
        begun = monotonic()
        context.workspace.root.mkdir(parents=True, exist_ok=True)
        sandbox, created = await self._sandboxes().acquire(context.session_id, context.workspace.root, self._provider)
        self._current = sandbox
        if created:
            seconds = round(monotonic() - begun, 4)
            await context.emit(SandboxCreated(sandbox_id=sandbox.id, provider=sandbox.provider, seconds=seconds))
        else:
            await context.emit(SandboxReused(sandbox_id=sandbox.id, provider=sandbox.provider))
        return sandbox

    async def _lost(self, sandbox: Sandbox) -> None:
        self._current = None
        reason = "It no longer answers: files are kept, live variables are gone."
        await self._bound().emit(SandboxLost(sandbox_id=sandbox.id, provider=sandbox.provider, reason=reason))
        await sandbox.close()

    def _bound(self) -> RunContext:
        if self.context is None:
            raise RuntimeError("the sandbox was asked for before its run had a context")
        return self.context
