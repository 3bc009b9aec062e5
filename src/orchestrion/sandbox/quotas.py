"""How many sandboxes may run at once, counted over all processes of a data directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from orchestrion.core.errors import QuotaExceeded
from orchestrion.sandbox.locks import shared, unused
from orchestrion.sandbox.registry import Lease, Registry

_TRIES = 8


class Quotas:
    """Gives places to sandboxes that are about to run.

    Args:
        registry: Who runs already.
        total: How many may run at once.
        each: How many of one owner.
        yield_place: Pauses a sandbox so that its place is free; False if that is not possible just now.
        refresh: Finds out which have died, before somebody is refused for their sake.
    """

    def __init__(
        self,
        registry: Registry,
        total: int,
        each: int,
        yield_place: Callable[[Lease], Awaitable[bool]],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._total = total
        self._each = each
        self._yield_place = yield_place
        self._refresh = refresh

    @contextlib.asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[Place]:
        """Hold a place for a sandbox of this owner until it runs.

        Raises:
            QuotaExceeded: There is none, and none can be made.
        """
        place = await self._reserve(owner)
        try:
            yield place
        finally:
            place.release()

    async def _reserve(self, owner: str) -> Place:
        place = await self._free_place(owner)
        if isinstance(place, _Count):
            await self._refresh()
            place = await self._free_place(owner)
        stubborn: set[str] = set()
        tries = _TRIES + self._each
        while isinstance(place, _Count):
            victim = await asyncio.to_thread(self._victim, owner, stubborn) if tries else None
            if victim is None:
                raise self._refusal(place)
            if not await self._yield_place(victim):
                stubborn.add(victim.id)
            tries -= 1
            place = await self._free_place(owner)
        return place

    async def _free_place(self, owner: str) -> Place | _Count:
        """Take a place if there is one; else say how many run."""
        async with self._registry.locked("quota", "all"):
            return await asyncio.to_thread(self._take_free, owner)

    def _take_free(self, owner: str) -> Place | _Count:
        counted = self._count(owner)
        return self._note(owner) if counted.free(self._total, self._each) else counted

    def _count(self, owner: str) -> _Count:
        owners = [lease.owner for lease in self._registry.now() if not lease.paused]
        for path in self._registry.coming.glob("*"):
            if unused(path):
                path.unlink(missing_ok=True)  # its process died
            else:
                owners.append(path.read_text())
        return _Count(len(owners), owners.count(owner))

    def _note(self, owner: str) -> Place:
        self._registry.make_directories()
        return Place(self._registry, self._registry.coming / secrets.token_hex(8), owner)

    def _victim(self, owner: str, stubborn: set[str]) -> Lease | None:
        """Find this owner's longest idle one that nobody uses and that comes back by itself."""
        fit = [
            lease
            for lease in self._registry.now()
            if lease.owner == owner and not lease.paused and lease.auto_resume and lease.id not in stubborn
        ]
        fit = [lease for lease in fit if not self._registry.in_use(lease.id)]
        return min(fit, key=self._registry.used_at, default=None)

    def _refusal(self, counted: _Count) -> QuotaExceeded:
        remedy = "Pause or end one (`orchestrion sandbox list` shows them), or raise "
        if counted.owners >= self._each:
            return QuotaExceeded(
                f"{counted.owners} sandboxes of yours run already, as many as may at once.",
                f"{remedy}ORCHESTRION_SANDBOX_MAX_PER_OWNER.",
            )
        return QuotaExceeded(
            f"{counted.all} sandboxes run already, as many as may at once.", f"{remedy}ORCHESTRION_SANDBOX_MAX."
        )


class _Count:
    def __init__(self, count: int, owners: int) -> None:
        self.all = count
        self.owners = owners

    def free(self, total: int, each: int) -> bool:
        return self.all < total and self.owners < each


class Place:
    """A place that is held for a sandbox until it runs; a lock tells other processes that its holder lives.

    Args:
        registry: Where the sandbox's lease goes.
        path: The note that holds it.
        owner: Whose it is.
    """

    def __init__(self, registry: Registry, path: Path, owner: str) -> None:
        self._registry = registry
        self._path = path
        self._held = ExitStack()
        self._held.enter_context(shared(path))
        path.write_text(owner)

    async def take(self, lease: Lease) -> None:
        """Keep the lease of the sandbox that runs now; from here on that is what counts."""
        async with self._registry.locked("quota", "all"):
            await self._registry.keep(lease)
            self.release()

    def release(self) -> None:
        """Give the place back; may be called twice."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._held.close()
