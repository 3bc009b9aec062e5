"""What sandboxes used and what became of them, for as long as this endpoint runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import Metrics
from orchestrion.server.edge.edge import Edge

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 5.0
_STATE_SECONDS = 0.5
_SAMPLES = 17_280  # a day of them
_NOTES = 1000
_WITHIN = 3.0
_AT_ONCE = 4


@dataclass(frozen=True)
class Note:
    """Something that happened to a sandbox."""

    at: datetime
    message: str


class History:
    """Samples what runs, and keeps notes.

    Args:
        sandboxes: What is sampled.
        edge: Told when a sandbox has stopped by itself, at the end of its time.
    """

    def __init__(self, sandboxes: Sandboxes, edge: Edge) -> None:
        self._sandboxes = sandboxes
        self._edge = edge
        self._samples: dict[str, deque[Metrics]] = defaultdict(lambda: deque(maxlen=_SAMPLES))
        self._notes: dict[str, deque[Note]] = defaultdict(lambda: deque(maxlen=_NOTES))

    def samples(self, sandbox_id: str, start: float, end: float) -> list[Metrics]:
        """Return the samples of a stretch of time, seconds since the epoch."""
        return [sample for sample in self._samples.get(sandbox_id, ()) if start <= sample.at.timestamp() <= end]

    def note(self, sandbox_id: str, message: str) -> None:
        """Keep that something happened."""
        self._notes[sandbox_id].append(Note(datetime.now(UTC), message))

    def notes(self, sandbox_id: str) -> list[Note]:
        """Return what happened, oldest first."""
        return list(self._notes.get(sandbox_id, ()))

    async def keep(self) -> None:
        """Sample until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_for_ever(self._sample_all, _EVERY_SECONDS))
            tasks.create_task(_for_ever(self._cut_stopped, _STATE_SECONDS))

    async def _sample_all(self) -> None:
        held = await self._sandboxes.all()
        known = {one.info.id for one in held}
        for gone in (self._samples.keys() | self._notes.keys()) - known:
            self._samples.pop(gone, None)
            self._notes.pop(gone, None)
        slots = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._sample(one.info.id, slots) for one in held if one.info.state == "running"))

    async def _sample(self, sandbox_id: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            with contextlib.suppress(OrchestrionError, TimeoutError):
                async with asyncio.timeout(_WITHIN):
                    sandbox = await self._sandboxes.open(sandbox_id)
                    self._samples[sandbox_id].append(await sandbox.metrics())

    async def _cut_stopped(self) -> None:
        for sandbox_id in self._edge.busy:
            if not await self._runs(sandbox_id):
                self._edge.cut(sandbox_id)

    async def _runs(self, sandbox_id: str) -> bool:
        try:
            return (await self._sandboxes.held(sandbox_id)).info.state == "running"
        except OrchestrionError:
            return False


async def _for_ever(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("sandboxes could not be looked at", detail=str(error), exc_info=error)
        await asyncio.sleep(seconds)
