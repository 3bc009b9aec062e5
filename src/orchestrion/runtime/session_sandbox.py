"""A run's way to its session's sandbox: made by the first tool call that needs one, and found again afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING

from orchestrion.core.events import (
    EventBase,
    SandboxCreated,
    SandboxLost,
    SandboxRestored,
    SandboxResumed,
    SandboxReused,
)
from orchestrion.sandbox.protocols import Sandbox
from orchestrion.tools.context import RunContext

if TYPE_CHECKING:
    from orchestrion.sandbox import Sandboxes
    from orchestrion.sandbox.gateway import Grant
    from orchestrion.sandbox.manager import Acquired

_DIED = "It no longer answers."


class SessionSandbox:
    """Acquires the sandbox, keeps it in use as long as the run lasts, and tells the readers about it.

    Args:
        sandboxes: Returns the sandboxes of this process.
        provider: The provider that the user asked for, if any.
        owner: Returns whose the session is.
        grant: Makes what the run lets its sandbox do at the gateway; None for nothing.
    """

    def __init__(
        self,
        sandboxes: Callable[[], Sandboxes],
        provider: str | None,
        owner: Callable[[], Awaitable[str]],
        grant: Callable[[], Grant] | None = None,
    ) -> None:
        self._sandboxes = sandboxes
        self._provider = provider
        self._owner = owner
        self._make_grant = grant
        self._grant: Grant | None = None
        self._current: Sandbox | None = None
        self._held = ExitStack()
        self._turn = asyncio.Lock()
        self.context: RunContext | None = None

    async def acquire(self) -> Sandbox:
        """Return the session's sandbox, alive and in use by this run.

        Raises:
            SandboxUnavailable: None can be made here.
            QuotaExceeded: As many as may run at once do.
        """
        async with self._turn:  # two calls of one answer run side by side
            return await self._acquire()

    async def _acquire(self) -> Sandbox:
        context, begun = self._bound(), monotonic()
        context.workspace.root.mkdir(parents=True, exist_ok=True)
        acquired = await self._sandboxes().acquire(
            context.session_id, context.workspace.root, self._provider, owner=await self._owner()
        )
        sandbox, before = acquired.sandbox, self._current
        self._current = sandbox
        if before is None or before.id != sandbox.id:
            await self._leave(before)
            await self._use(sandbox)
        for event in _news(acquired, before, round(monotonic() - begun, 4)):
            await context.emit(event)
        return sandbox

    async def _use(self, sandbox: Sandbox) -> None:
        """Keep a sandbox from being paused, and let it do at the gateway what the run may."""
        self._held.close()
        self._held.enter_context(self._sandboxes().hold(sandbox.id))
        if self._make_grant is not None:
            self._grant = self._grant or self._make_grant()
            self._sandboxes().gateway.grant(sandbox.id, self._grant)

    async def release(self) -> None:
        """The run is over: nothing more goes out on its account, and the sandbox may rest."""
        sandbox, self._current = self._current, None
        self._held.close()
        await self._leave(sandbox)
        self._grant = None

    async def _leave(self, sandbox: Sandbox | None) -> None:
        """Cut a sandbox off that the run uses no more."""
        if sandbox is not None and self._grant is not None:
            await self._sandboxes().gateway.revoke(sandbox.id, self._grant)

    def _bound(self) -> RunContext:
        if self.context is None:
            raise RuntimeError("the sandbox was asked for before its run had a context")
        return self.context


def _news(acquired: Acquired, before: Sandbox | None, seconds: float) -> list[EventBase]:
    """What the readers should know; nothing if the run just goes on with the sandbox it had."""
    sandbox, how = acquired.sandbox, acquired.how
    id, provider = sandbox.id, sandbox.provider
    news: list[EventBase] = []
    lost = acquired.lost or (_DIED if before is not None and how in {"created", "restored"} else "")
    if lost:
        old = before or sandbox
        news.append(SandboxLost(sandbox_id=old.id, provider=old.provider, reason=lost))
    if how == "created":
        created = SandboxCreated(sandbox_id=id, provider=provider, seconds=seconds, caveats=acquired.caveats)
        news.append(created)
    elif how == "resumed":
        news.append(SandboxResumed(sandbox_id=id, provider=provider, seconds=seconds))
    elif how == "restored":
        news.append(SandboxRestored(sandbox_id=id, provider=provider, seconds=seconds))
    elif before is None:
        news.append(SandboxReused(sandbox_id=id, provider=provider))
    return news
