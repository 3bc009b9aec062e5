"""One connection: requests in, responses out, at the pace of whoever is slower."""

from __future__ import annotations

import asyncio
import contextlib
import http as standard
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

from .framing import MAX_HEAD, ChunkedBody, Head, SizedBody, parse_head
from .http import BadRequest, Body, Disconnected, Handler, Request, Response, error_response

KEEP_ALIVE = 640.0
_HEAD_SECONDS = 30.0
_LINGER_SECONDS, _LINGER_BYTES = 2.0, 64 * 1024 * 1024
_HIGH, _LOW = 2 * 1024 * 1024, 512 * 1024
_SOCKET_BUFFER = 1024 * 1024
# The peer is woken once for the pieces of a moment, and for a head with the first of them.
_JOINED, _HEAD_PATIENCE = 64 * 1024, 0.01
_CODE_PORT, _ENVD_PORT = 49999, 49983
_REASONS = {status.value: status.phrase for status in standard.HTTPStatus}
_T = TypeVar("_T")


class Connection(asyncio.Protocol):
    """Serves one peer.

    Args:
        handler: Answers requests; what it raises becomes an answer too.
        started: Called when a request begins, with +1, and when it has been answered, with -1.
        tunnel: Serves a `CONNECT` request, given the connection and the port; None to refuse it.
        trusted: Whether the peer is the host.
        port: The TCP port that it came to, 0 for a unix socket.
        banner: Headers of every response.
    """

    def __init__(
        self,
        handler: Handler,
        started: Callable[[Connection, int], None],
        *,
        trusted: bool,
        port: int,
        banner: Mapping[str, str],
    ) -> None:
        self._handler, self._started, self._trusted, self._port = handler, started, trusted, port
        self._banner = "".join(f"{name}: {value}\r\n" for name, value in banner.items())
        self._buffer = bytearray()
        self._news, self._writable, self._gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writable.set()
        self._paused = False
        self._expects = False
        self._held: list[bytes] = []
        self._held_size = 0
        self._flushing: asyncio.Handle | None = None
        self.transport: asyncio.Transport
        self.task: asyncio.Task[None]

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self.transport = cast(asyncio.Transport, transport)
        peer: socket.socket | None = transport.get_extra_info("socket")
        if peer is not None:
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Keep what came, and stop reading when that is much."""
        self._buffer += data
        if len(self._buffer) > _HIGH and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """Take it that the peer is gone: clients don't half-close, they leave."""
        self._leave()
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        """Wake whoever waits for the peer."""
        self._leave()
        self._writable.set()

    def pause_writing(self) -> None:
        """Let `_drain` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let `_drain` go on."""
        self._writable.set()

    def _leave(self) -> None:
        self._gone.set()
        self._news.set()

    # Reading.

    async def _more(self, seconds: float | None) -> None:
        """Wait for further bytes."""
        if self._gone.is_set():
            raise Disconnected("the peer went away")
        self._news.clear()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            raise BadRequest("Nothing came for too long.", 408) from None

    def _cut(self, count: int) -> bytes:
        piece = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        if self._paused and len(self._buffer) < _LOW:
            self._paused = False
            self.transport.resume_reading()
        return piece

    async def take(self, most: int) -> bytes:
        """Return what is there, at least one byte and at most `most`. Raises `Disconnected`, `BadRequest`."""
        while not self._buffer:
            await self._more(KEEP_ALIVE)
        return self._cut(min(most, len(self._buffer)))

    async def line(self, most: int) -> bytes:
        """Return the next line without its CRLF. Raises `Disconnected`, `BadRequest`."""
        while (end := self._buffer.find(b"\r\n", 0, most)) < 0:
            if len(self._buffer) >= most:
                raise BadRequest("A line of the request is too long.")
            await self._more(KEEP_ALIVE)
        return self._cut(end + 2)[:-2]

    def proceed(self) -> None:
        """Let a peer that waits for `100 Continue` send its body."""
        if self._expects:
            self._expects = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _head(self) -> Head | None:
        """Return the next request's head; None if the peer has nothing more to ask."""
        try:
            while not self._buffer:
                await self._more(KEEP_ALIVE)
        except (Disconnected, BadRequest):
            return None
        async with asyncio.timeout(_HEAD_SECONDS):
            while (end := self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)) < 0:
                if len(self._buffer) >= MAX_HEAD:
                    raise BadRequest(f"The request's head is longer than {MAX_HEAD} bytes.", 431)
                await self._more(_HEAD_SECONDS)
        return parse_head(self._cut(end + 4))

    # Answering.

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                pass
        except (ConnectionError, TimeoutError):
            pass
        except BadRequest as error:
            await self._refuse(error)
        finally:
            self.transport.close()

    async def _refuse(self, error: BadRequest) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._send_head(error_response(error.status, str(error)), last=True)
            await self._linger()

    async def _linger(self) -> None:
        """Read on for a moment: closing with bytes unread would take the answer from the peer."""
        with contextlib.suppress(ConnectionError, TimeoutError, BadRequest):
            if self.transport.can_write_eof():
                self.transport.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                taken = 0
                while taken < _LINGER_BYTES:
                    taken += len(await self.take(_HIGH))

    async def _exchange(self) -> bool:
        """Serve one request; say whether another may follow."""
        head = await self._head()
        if head is None:
            return False
        self._started(self, 1)
        try:
            if head.method == "CONNECT":
                await self._connect(head)
                return False
            return await self._answer(head)
        finally:
            self._started(self, -1)

    async def _answer(self, head: Head) -> bool:
        body: SizedBody | ChunkedBody = ChunkedBody(self) if head.length is None else SizedBody(self, head.length)
        self._expects = head.headers.get("expect", "").lower() == "100-continue"
        request = self._request(head, body)
        response = await self._handler(request)
        keep = head.keep_alive and not body.left
        await self._send(response, head, last=not keep)
        if body.left and not self._expects:
            await self._linger()
        return keep

    def _request(self, head: Head, body: Body) -> Request:
        try:
            query = head.query
        except ValueError:
            raise BadRequest("The request's query has too many parameters.") from None
        port = self._port or _asked_port(head.headers)
        return Request(head.method, head.path, query, head.headers, port, self._trusted, body, self._gone)

    async def _send(self, response: Response, head: Head, *, last: bool) -> None:
        if isinstance(response.body, bytes):
            await self._send_head(response, last=last, without_body=head.method == "HEAD")
        else:
            try:
                await self._unless_gone(self._stream(response, response.body, head, last=last))
            finally:
                # Here, where nothing cancels it: what it has to end may take its time.
                close = getattr(response.body, "aclose", None)
                if close is not None:
                    await close()

    async def _unless_gone(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work`, and cancel it when the peer goes away."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise Disconnected("the peer went away")
        return task.result()

    async def _stream(self, response: Response, body: AsyncIterator[bytes], head: Head, *, last: bool) -> None:
        sized = any(name.lower() == "content-length" for name in response.headers)
        chunked = not sized and head.version == "1.1"
        framing = "" if sized else "Transfer-Encoding: chunked\r\n" if chunked else "Connection: close\r\n"
        try:
            self._hold(self._lines(response, framing, last=last))
            self._flushing = asyncio.get_running_loop().call_later(_HEAD_PATIENCE, self._flush)
            async for piece in body:
                if piece:
                    self._soon(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    await self._drain()
            if chunked:
                self._hold(b"0\r\n\r\n")
            self._flush()
            await self._drain()
        except Exception:
            # The peer must not take what it has for the whole.
            self.transport.abort()
            raise
        if not sized and not chunked:
            self.transport.close()

    def _hold(self, data: bytes) -> None:
        """Send this with what follows."""
        self._held.append(data)
        self._held_size += len(data)

    def _soon(self, data: bytes) -> None:
        """Send this, with what was held and what else is there before the loop's next round."""
        self._hold(data)
        if self._held_size >= _JOINED:
            self._flush()
            return
        if self._flushing is not None:
            self._flushing.cancel()
        self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        held, self._held, self._held_size = self._held, [], 0
        if held and not self.transport.is_closing():
            self.transport.write(held[0] if len(held) == 1 else b"".join(held))

    async def _send_head(self, response: Response, *, last: bool, without_body: bool = False) -> None:
        body = cast(bytes, response.body)
        framing = "" if response.status in (204, 304) else f"Content-Length: {len(body)}\r\n"
        lines = self._lines(response, framing, last=last)
        self.transport.write(lines if without_body else lines + body)
        await self._drain()

    def _lines(self, response: Response, framing: str, *, last: bool) -> bytes:
        lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}\r\n", self._banner, framing]
        for name, value in response.headers.items():
            if any(sign in value for sign in "\r\n\0"):
                raise ValueError(f"the header {name} holds a line break")
            lines.append(f"{name}: {value}\r\n")
        if last:
            lines.append("Connection: close\r\n")
        return ("".join(lines) + "\r\n").encode("latin-1", "replace")

    async def _drain(self) -> None:
        if self.transport.is_closing():
            raise Disconnected("the peer went away")
        if not self._writable.is_set():
            async with asyncio.timeout(KEEP_ALIVE):
                await self._writable.wait()
            if self._gone.is_set():
                raise Disconnected("the peer went away")

    # Tunnels.

    async def _connect(self, head: Head) -> None:
        """Join the host to a TCP port inside (RFC 9110, section 9.3.6)."""
        host, _, port = head.target.rpartition(":")
        if not self._trusted or host not in ("127.0.0.1", "localhost") or not port.isdecimal():
            raise BadRequest("CONNECT takes 127.0.0.1:<port>, from the host alone.", 403)
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                reader, writer = await asyncio.open_connection(host, int(port))
        except (OSError, OverflowError, TimeoutError):
            raise BadRequest(f"Nothing listens on port {port}: the port is not open.", 502) from None
        self.transport.write(b"HTTP/1.1 200 Connected\r\n" + self._banner.encode() + b"\r\n")
        ways = {asyncio.ensure_future(self._inward(writer)), asyncio.ensure_future(self._outward(reader))}
        try:
            # One side may be done with sending long before the other.
            _, other = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if other:
                await asyncio.wait(other, timeout=KEEP_ALIVE)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            writer.transport.abort()

    async def _inward(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(Disconnected):
            while True:
                while not self._buffer:
                    await self._more(None)
                writer.write(self._cut(len(self._buffer)))
                await writer.drain()
        writer.write_eof()

    async def _outward(self, reader: asyncio.StreamReader) -> None:
        while piece := await reader.read(256 * 1024):
            self.transport.write(piece)
            await self._drain()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _asked_port(headers: Mapping[str, str]) -> int:
    """Say which of the daemon's faces is meant: a header tells, or the host name `<port>-<id>.<domain>`."""
    host = headers.get("host", "")
    named = headers.get("e2b-sandbox-port", "")
    is_code = (
        named == str(_CODE_PORT) if named else host.startswith(f"{_CODE_PORT}-") or host.endswith(f":{_CODE_PORT}")
    )
    return _CODE_PORT if is_code else _ENVD_PORT
