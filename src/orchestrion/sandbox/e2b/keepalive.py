"""Keeps a sandbox in the cloud from ending by its clock while somebody uses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.client.transport import Body, Reply, Transport
from orchestrion.sandbox.protocols import PortAddress

log = structlog.get_logger(__name__)


class KeptTransport:
    """Implements `Transport`: passes requests on, and sets the cloud's clock back as long as there are any.

    Args:
        inner: Carries the requests.
        extend: Gives the sandbox its whole idle time again.
        idle_seconds: That time.
    """

    ours = False

    def __init__(self, inner: Transport, extend: Callable[[], Awaitable[None]], idle_seconds: float) -> None:
        self._inner = inner
        self._extend = extend
        self._interval = idle_seconds / 3
        self._active = 0
        self._extended = time.monotonic()
        self._used = self._extended
        self._task: asyncio.Task[None] | None = None

    def address(self, port: int) -> PortAddress:
        """Say how a port is reached; dialling it counts as use."""
        self._touch()
        return self._inner.address(port)

    async def send(
        self, port: int, method: str, target: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """Send a request; see `Transport.send`."""
        self._touch()
        self._active += 1
        try:
            reply = await self._inner.send(port, method, target, headers, body)
        except BaseException:
            self._done()
            raise
        reply.when_closed(self._done)
        return reply

    async def aclose(self) -> None:
        """Break every connection; the clock runs on."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        await self._inner.aclose()

    def _done(self) -> None:
        self._active -= 1
        self._used = time.monotonic()

    def _touch(self) -> None:
        self._used = time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Extend while there are requests, and once after the last."""
        while self._active or self._used > self._extended:
            await asyncio.sleep(max(0.0, self._extended + self._interval - time.monotonic()))
            self._extended = time.monotonic()
            try:
                await self._extend()
            except OrchestrionError as error:
                log.warning("a sandbox's time could not be extended", error=str(error))
