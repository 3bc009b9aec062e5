"""Server-Sent Events: a run's journal, or a process's log, followed by one reader.

Written out rather than taken from a library: a stream must end with the server that serves it, must not touch the
process's signal handlers, and one write for what is there is all that a first token may cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Generic, TypeVar

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrion.core.errors import InvalidInput
from orchestrion.core.events import Event
from orchestrion.server.metrics import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

HEARTBEAT_SECONDS = 10.0
SEND_SECONDS = 60.0
_RETRY = b"retry: 1000\n\n"
_MAX_DIGITS = 18


def parse_position(text: str, name: str) -> int:
    """Return the number of the last event that a reader has seen.

    Args:
        text: As sent; empty means from the beginning.
        name: Where it was sent, for the message.

    Raises:
        InvalidInput: It is not a number of an event.
    """
    if text == "":
        return 0
    if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
        return int(text)
    raise InvalidInput(
        f"{name} must be the number of an event, not {text[:40]!r}.", "Send the `id` of the last event seen."
    )


def encode(event: Event) -> bytes:
    """Render one event for the wire."""
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()


class EventStream(Response, Generic[T]):
    """Streams events until the run ends, the reader leaves or the server stops.

    Args:
        batches: What to send, each batch in one piece; closed in every case.
        stopping: Set when the server stops; readers come back to another one, or later.
        metrics: Where to count.
        render: Puts one of them into bytes.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        batches: AsyncIterator[list[T]],
        stopping: asyncio.Event,
        metrics: Metrics,
        render: Callable[[T], bytes],
        status_code: int = 200,
    ) -> None:
        super().__init__(status_code=status_code, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._batches = batches
        self._stopping = stopping
        self._metrics = metrics
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self._metrics.streams.labels("sse").track_inprogress():
            if not await self._follow(receive, send):
                return
        await send({"type": "http.response.body", "body": b""})

    async def _follow(self, receive: Receive, send: Send) -> bool:
        """Send until something ends it; say whether the reader is still there."""
        gone = asyncio.create_task(_wait_gone(receive))
        tasks = [
            asyncio.create_task(self._write(send)),
            asyncio.create_task(_beat(send)),
            asyncio.create_task(self._stopping.wait()),
            gone,
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return gone not in done and all(self._ended_well(task) for task in done)

    @staticmethod
    def _ended_well(task: asyncio.Task[object]) -> bool:
        error = task.exception()
        if error is not None and not isinstance(error, OSError):
            log.error("a stream broke off", exc_info=error)
        return error is None

    async def _write(self, send: Send) -> None:
        await _send_chunk(send, _RETRY)
        try:
            async for batch in self._batches:
                await _send_chunk(send, b"".join(map(self._render, batch)))
                self._metrics.events.inc(len(batch))
        finally:
            if isinstance(self._batches, AsyncGenerator):
                await self._batches.aclose()


async def _send_chunk(send: Send, chunk: bytes) -> None:
    """Send one piece; a reader that takes nothing for a minute is given up."""
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _beat(send: Send) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        await _send_chunk(send, b": still here\n\n")


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
