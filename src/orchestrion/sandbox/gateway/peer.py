"""One HTTP/1.1 connection from inside a sandbox, from the server's side; everything it sends is bounded and timed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import h11

from orchestrion.sandbox.gateway.limits import GatewayLimits

T = TypeVar("T")
_PIECE = 64 * 1024
_LINGER_SECONDS, _LINGER_BYTES = 2, 1024 * 1024


class Gone(Exception):
    """The other side went away, or kept us waiting for too long."""


class Full(Exception):
    """As much is kept for this sandbox as may be."""


class Room:
    """A part of a sandbox's share of memory.

    Args:
        share: The bytes that are left, shared by all.
    """

    def __init__(self, share: list[int]) -> None:
        self._share = share
        self._taken = 0

    def take(self, count: int) -> None:
        """Take some. Raises `Full` if it is not there."""
        if self._share[0] < count:
            raise Full
        self._share[0] -= count
        self._taken += count

    def give_back(self) -> None:
        """Give all of it back."""
        self._share[0] += self._taken
        self._taken = 0


class Peer:
    """Reads requests and writes responses.

    Args:
        reader: From the sandbox.
        writer: To it.
        limits: The bounds.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: GatewayLimits) -> None:
        self.reader = reader
        self.writer = writer
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)

    async def request(self) -> h11.Request | None:
        """Return the next request's head; None when there is none to come.

        Raises:
            h11.RemoteProtocolError: It is malformed, or too large.
            Gone: It came too slowly.
        """
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        elif self._http.our_state is not h11.IDLE:
            return None
        if not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(self._limits.keep_seconds):
                    data = await self._read()
            except Gone:
                return None
            except TimeoutError:
                return None
            if not data:
                return None
            self._http.receive_data(data)
        async with _deadline(self._limits.head_seconds):
            event = await self._event()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the request's body.

        Raises:
            h11.RemoteProtocolError: It is malformed.
            Gone: It did not all come.
        """
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            async with _deadline(self._limits.idle_seconds):
                event = await self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise Gone

    async def small_body(self, limit: int, room: Room | None = None) -> bytes | None:
        """Return the request's body; None if it is longer than `limit` bytes. Raises as `body`.

        Args:
            limit: The most there may be.
            room: What it is kept in, for the caller to give back.

        Raises:
            Full: There is no room for it now.
        """
        content = bytearray()
        async with _deadline(self._limits.body_seconds):
            async for piece in self.body():
                content += piece
                if len(content) > limit:
                    return None
                if room is not None:
                    room.take(len(piece))
        return bytes(content)

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response.

        Raises:
            Gone: Nobody took it.
        """
        await self.start(status, [*headers.items(), ("content-length", str(len(body)))])
        await self.piece(body)
        await self.end()

    async def refuse(self, status: int, sentence: str, *, kind: str = "permission_error") -> None:
        """Send an error that a person, and the clients of either model protocol, can read; then close."""
        # The clients of a CONNECT show the reason only.
        reason = "".join(letter for letter in sentence if letter.isascii() and letter.isprintable())[:200]
        error = {"type": kind, "message": sentence, "param": None, "code": kind}
        body = json.dumps({"type": "error", "error": error}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        await self._send(h11.Response(status_code=status, headers=headers, reason=reason))
        await self.piece(body)
        await self.end()

    async def start(
        self, status: int, headers: list[tuple[str, str]] | list[tuple[bytes, bytes]], reason: bytes = b""
    ) -> None:
        """Send a response's head; without a length it is sent in chunks."""
        await self._send(h11.Response(status_code=status, headers=headers, reason=reason))

    async def piece(self, data: bytes) -> None:
        """Send a piece of a response's body."""
        if data:
            await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """End a response."""
        await self._send(h11.EndOfMessage())

    @property
    def responding(self) -> bool:
        """Whether a response's head is out, so that an error can no longer be told."""
        return self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    async def become_tunnel(self) -> bytes:
        """Agree to a CONNECT; return what was sent after it already."""
        await self._send(h11.Response(status_code=200, headers=[], reason="Connection established"))
        return self._http.trailing_data[0]

    async def unless_gone(
        self, work: Callable[[], Coroutine[Any, Any, T]], lost: Callable[[T], None] | None = None
    ) -> T:
        """Await `work`, and cancel it when the other side goes away meanwhile.

        Args:
            work: What to do.
            lost: Takes a result that came too late for anyone to use.

        Raises:
            Gone: It did.
        """
        doing = asyncio.create_task(work())
        watching = asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise Gone
            return doing.result()
        except BaseException:
            if lost is not None:
                doing.add_done_callback(lambda task: _lose(task, lost))
            raise
        finally:
            for task in (doing, watching):
                task.cancel()
            await asyncio.gather(doing, watching, return_exceptions=True)

    async def _until_gone(self) -> None:
        """Return when the other side ends; what it sends ahead is kept, to a bound."""
        kept = len(self._http.trailing_data[0])
        while kept <= self._limits.head_bytes:
            try:
                data = await self._read()
            except Gone:
                return
            if not data:
                return
            self._http.receive_data(data)
            kept += len(data)
        await asyncio.Event().wait()  # a client that pipelines this much waits for its answers

    async def _event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._read())

    async def _read(self) -> bytes:
        try:
            return await self.reader.read(_PIECE)
        except OSError:
            raise Gone from None

    async def _send(self, event: h11.Event) -> None:
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError:
            raise Gone from None
        if data:
            await write(self.writer, data, self._limits.idle_seconds)


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` that says `Gone`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Gone from None


async def write(writer: asyncio.StreamWriter, data: bytes, seconds: float) -> None:
    """Write, and wait until there is room for more.

    Raises:
        Gone: The other side went away, or took nothing for `seconds`.
    """
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            await writer.drain()
    except (OSError, TimeoutError):
        raise Gone from None


async def finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a connection so that what was written is read: a close over unread data would take it back."""
    with suppress(OSError, TimeoutError, RuntimeError):
        async with asyncio.timeout(_LINGER_SECONDS):
            writer.write_eof()
            left = _LINGER_BYTES
            while left > 0 and (data := await reader.read(_PIECE)):
                left -= len(data)


def _lose(task: asyncio.Task[T], lost: Callable[[T], None]) -> None:
    if not task.cancelled() and task.exception() is None:
        lost(task.result())


def let_go(writer: asyncio.StreamWriter) -> None:
    """Close a connection; what is still to be sent has a moment for it."""
    writer.close()
    asyncio.get_running_loop().call_later(_LINGER_SECONDS, hang_up, writer)


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Drop a connection at once, whatever is still to be sent."""
    with suppress(Exception):
        writer.transport.abort()
