"""How a sandbox is reached: HTTP/1.1 over its unix socket, or over HTTPS through an edge.

A transport belongs to one life of a sandbox: its connections never outlive a pause or a restore, because whoever
resumes a sandbox makes a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import httpcore

from orchestrion.core.errors import InvalidInput, SandboxError
from orchestrion.sandbox.client.failures import gone, refused
from orchestrion.sandbox.protocols import PortAddress

Body: TypeAlias = bytes | AsyncIterator[bytes]

# The guest keeps a silent connection for 640 s; ours are let go well before, so that none breaks as it is taken.
_KEEP_SECONDS = 300
_KEEP = 20
_CONNECTIONS = 500
CONNECT_SECONDS = 5
ERROR_BYTES = 64 * 1024
_TIMES = {"connect": CONNECT_SECONDS, "pool": 30}


class Reply:
    """An answer whose body is still to be read. Whoever has it closes it; too early, and the connection ends."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response
        self._closed: Callable[[], None] | None = None
        self.status = response.status
        self.headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            SandboxGone: The connection broke.
        """
        with translated():
            async for piece in self._response.aiter_stream():
                yield piece

    async def read(self, limit: int) -> bytes:
        """Return the body.

        Raises:
            SandboxError: It is larger than `limit` bytes.
            SandboxGone: The connection broke.
        """
        parts, size = [], 0
        async for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise SandboxError("The sandbox sent a larger answer than is allowed.")
            parts.append(piece)
        return b"".join(parts)

    async def aclose(self) -> None:
        """Let go of the connection: back to the pool if the body was read, else closed."""
        closed, self._closed = self._closed, None
        try:
            await self._response.aclose()
        finally:
            if closed is not None:
                closed()

    def when_closed(self, closed: Callable[[], None]) -> None:
        """Have `closed` called once, when the answer is let go of."""
        self._closed = closed


class Transport(Protocol):
    """The way to one sandbox."""

    @property
    def ours(self) -> bool:
        """Whether our own daemon is known to be at the other end."""
        ...

    def address(self, port: int) -> PortAddress:
        """Say how a port is reached."""
        ...

    async def send(
        self, port: int, method: str, target: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """Send a request to a port and return its answer, once its head is there.

        Args:
            port: The port inside.
            method: `GET`, `POST` or `DELETE`.
            target: Path and query, encoded.
            headers: The request's own.
            body: What to send.

        Raises:
            SandboxGone: The sandbox does not take it, or died before it answered.
            PortClosed: Nothing listens there.
        """
        ...

    async def aclose(self) -> None:
        """Break every connection."""
        ...


class Pool:
    """Connections for HTTP/1.1, and our errors for theirs.

    A connection that the other end has closed is noticed before it is used again; a request that was sent is never
    sent twice.

    Args:
        backend: Opens the connections.
        unreachable: The error for a connection that can't be opened.
        further: What else `httpcore.AsyncConnectionPool` takes.
    """

    def __init__(
        self, backend: httpcore.AsyncNetworkBackend, unreachable: Callable[[], SandboxError], **further: Any
    ) -> None:
        self._unreachable = unreachable
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_KEEP,
            keepalive_expiry=_KEEP_SECONDS,
            network_backend=backend,
            **further,
        )
        self.lifecycle = secrets.token_hex(8)

    async def send(
        self, url: httpcore.URL, method: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """Send a request; see `Transport.send`."""
        head = dict(headers)
        if not any(key.lower() == "content-length" for key in head):
            _measure(head, method, body)
        request = httpcore.Request(
            method, url, headers=list(head.items()), content=body, extensions={"timeout": _TIMES}
        )
        try:
            with translated():
                reply = Reply(await self._pool.handle_async_request(request))
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout):
            raise self._unreachable() from None
        if reply.status != 502:
            return reply
        async with contextlib.aclosing(reply):
            raise refused(reply.status, await reply.read(ERROR_BYTES))

    async def aclose(self) -> None:
        """Break every connection."""
        with contextlib.suppress(Exception):
            await self._pool.aclose()


def _measure(headers: dict[str, str], method: str, body: Body | None) -> None:
    if isinstance(body, bytes):
        headers["Content-Length"] = str(len(body))
    elif body is not None:
        headers["Transfer-Encoding"] = "chunked"
    elif method == "POST":
        headers["Content-Length"] = "0"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what goes wrong on a connection into our errors."""
    try:
        yield
    except httpcore.LocalProtocolError as error:
        raise InvalidInput(f"That can't be asked of a sandbox: {error}.") from None
    except (httpcore.ReadError, httpcore.WriteError, httpcore.ReadTimeout, httpcore.RemoteProtocolError, OSError):
        raise gone("The sandbox broke off in the middle of a call.") from None


async def head_of(reader: asyncio.StreamReader) -> int:
    """Read an answer's head from a bare connection; return its status, 0 if it is none.

    Raises:
        SandboxGone: The connection broke.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        raise gone() from None
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
