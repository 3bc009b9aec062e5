"""Joins small pieces of text into fewer, larger ones without holding the first one back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

INTERVAL = 0.03


class Coalescer:
    """Passes the first piece on at once and then at most one piece per `interval` seconds.

    Args:
        send: Receives the joined text.
        interval: Seconds.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], interval: float = INTERVAL) -> None:
        self._send = send
        self._interval = interval
        self._parts: list[str] = []
        self._flusher: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._started = False

    async def add(self, text: str) -> None:
        """Take a piece. Raises what `send` raises."""
        self._parts.append(text)
        if not self._started:
            self._started = True
            await self._flush()
        if self._flusher is None or self._flusher.done():
            if self._flusher is not None:
                self._flusher.result()
            self._flusher = asyncio.create_task(self._flush_later())

    async def close(self) -> None:
        """Pass on what is left."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._flush()

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._interval)
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._lock:
            text, self._parts = "".join(self._parts), []
            if text:
                await self._send(text)
