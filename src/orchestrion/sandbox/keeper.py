"""Keeps time for all sandboxes of a data directory: pauses the unused, ends those whose time is over."""

from __future__ import annotations

import asyncio
import time

import structlog

from orchestrion.core.errors import NotFound, OrchestrionError
from orchestrion.sandbox.lifecycle import Lifecycle
from orchestrion.sandbox.registry import Clock, Lease, Registry

log = structlog.get_logger(__name__)

_POLL = 1.0
_SWEEP = 30.0
_AGAIN = 30.0
_SOONEST = 0.02


class Keeper:
    """A task of every long-lived process; however many there are, each thing is done once.

    Args:
        registry: The leases.
        lifecycle: What can be done about them.
        clock: Returns the time, seconds since the epoch.
    """

    def __init__(self, registry: Registry, lifecycle: Lifecycle, clock: Clock) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()
        self._swept = -_SWEEP
        self._troubled: dict[str, float] = {}

    def start(self) -> None:
        """Begin; what is over already is settled first."""
        self._task = asyncio.create_task(self._forever())

    async def stop(self) -> None:
        """Stop keeping time; the sandboxes live on."""
        if self._task is not None:
            tasks = {self._task, *self._looks}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _forever(self) -> None:
        while True:
            look = asyncio.create_task(self._look_surely())
            self._looks.add(look)  # one that takes long must not keep the others waiting
            look.add_done_callback(self._looks.discard)
            await asyncio.wait({look}, timeout=_POLL)
            await asyncio.sleep(await self._wait())

    async def _look_surely(self) -> None:
        try:
            await self.look()
        except Exception as error:
            log.exception("keeping sandboxes' time failed", error=str(error))

    async def _wait(self) -> float:
        leases = [lease for lease in await self._registry.all() if lease.id not in self._busy]
        ends = [lease.ends_at for lease in leases if lease.ends_at is not None]
        return min(_POLL, max(_SOONEST, min(ends, default=self._clock() + _POLL) - self._clock()))

    async def look(self) -> None:
        """Do everything that is due."""
        leases = await self._registry.all()
        if time.monotonic() - self._swept >= _SWEEP:
            self._swept = time.monotonic()
            await self._lifecycle.sweep()
            leases = await self._registry.all()
        await asyncio.gather(*(self._attend(lease) for lease in leases))

    async def _attend(self, lease: Lease) -> None:
        if lease.id in self._busy or self._troubled.get(lease.id, 0) > time.monotonic():
            return
        self._busy.add(lease.id)
        try:
            if self._lifecycle.due(lease):
                await self._lifecycle.settle(lease)
            else:
                await self._lifecycle.rest(lease)
            self._troubled.pop(lease.id, None)
        except NotFound:
            self._troubled.pop(lease.id, None)  # somebody was faster
        except OrchestrionError as error:
            self._troubled[lease.id] = time.monotonic() + _AGAIN
            log.warning("a sandbox could not be paused or ended", sandbox_id=lease.id, error=error.detail)
        finally:
            self._busy.discard(lease.id)
