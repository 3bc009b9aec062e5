"""HTTP/1.1 spoken to a port inside a sandbox: requests written as they are, answers read without being held back."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import httptools

from orchestrion.core.errors import SandboxGone
from orchestrion.sandbox.protocols import CODE_PORT, ENVD_PORT, PortAddress

Header = tuple[bytes, bytes]

# Of one connection only, never passed on.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
    )
)
# Where a body ends is told both hops alike, whatever a `Connection` header says: else it would be the next request.
_NEVER_NAMED = frozenset((b"content-length", b"host"))
# Between those inside (640 s) and those of clients, so that no side closes what the next is about to use.
IDLE_SECONDS = 620
_DIAL_SECONDS = 10
_PIECE = 256 * 1024
_KEPT = 16
_KEPT_SECONDS = 60
# Only our own daemon is known to leave an idle connection open for longer than we keep it.
OWN_PORTS = frozenset((ENVD_PORT, CODE_PORT))


class BrokenAnswer(Exception):
    """The service inside ended its answer too early, or it is no HTTP."""


def forwarded(headers: Iterable[Header], without: frozenset[bytes] = frozenset()) -> list[Header]:
    """Return the headers that go on to the other side.

    Args:
        headers: By lower-case name.
        without: Further names to leave out.
    """
    kept = list(headers)
    named = {part.strip().lower() for name, value in kept if name == b"connection" for part in value.split(b",")}
    dropped = HOP_BY_HOP | without | (named - _NEVER_NAMED)
    return [(name, value) for name, value in kept if name not in dropped]


@dataclass(eq=False)
class Connection:
    """A byte stream to a port inside."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0

    def abort(self) -> None:
        """Break it."""
        self.writer.transport.abort()

    @property
    def usable(self) -> bool:
        """Whether it can take another request."""
        fresh = time.monotonic() - self.idle_since < _KEPT_SECONDS
        return fresh and not (self.reader.at_eof() or self.writer.is_closing())


@dataclass
class Pool:
    """Connections that wait for the next request. One from before a pause is never used again."""

    _idle: dict[tuple[str, int], list[Connection]] = field(default_factory=lambda: defaultdict(list))
    _lifecycle: dict[str, str] = field(default_factory=dict)

    def take(self, sandbox_id: str, port: int, address: PortAddress) -> Connection | None:
        """Return one that is open, or None."""
        if self._lifecycle.get(sandbox_id) != address.lifecycle:
            self.drop(sandbox_id)
            self._lifecycle[sandbox_id] = address.lifecycle
        waiting = self._idle.get((sandbox_id, port), [])
        while waiting:
            connection = waiting.pop()
            if connection.usable:
                return connection
            connection.abort()
        return None

    def give(self, sandbox_id: str, port: int, address: PortAddress, connection: Connection) -> None:
        """Keep one for the next request, if it may be kept."""
        same = self._lifecycle.get(sandbox_id) == address.lifecycle
        waiting = self._idle[sandbox_id, port] if port in OWN_PORTS and same else None
        if waiting is None or len(waiting) >= _KEPT:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        waiting.append(connection)

    def drop(self, sandbox_id: str) -> None:
        """Close all of one sandbox."""
        self._lifecycle.pop(sandbox_id, None)
        for key in [key for key in self._idle if key[0] == sandbox_id]:
            for connection in self._idle.pop(key):
                connection.abort()

    def close(self) -> None:
        """Close all."""
        for key in list(self._idle):
            self.drop(key[0])


async def dial(address: PortAddress, *, tls: bool = False) -> Connection:
    """Open a connection.

    Args:
        address: Where to.
        tls: The port speaks TLS; its certificate is not looked at, as nobody vouches for one inside.

    Raises:
        SandboxGone: The sandbox is dead.
        PortClosed: Nothing listens there.
    """
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            connection = Connection(*await address.dial())
            if tls:
                await connection.writer.start_tls(_unchecked(), server_hostname="localhost")
    except (TimeoutError, OSError) as error:
        raise SandboxGone("The sandbox does not answer.") from error
    return connection


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Answer:
    """One answer, read as it comes.

    Args:
        connection: Where the request was written.
        method: The request's; an answer to HEAD has no body.
    """

    def __init__(self, connection: Connection, method: str) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.complete = False
        self.begun = False
        self._connection = connection
        self._bodiless = method == "HEAD"
        self._ready = False
        self._lasting = False
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        """Whether the connection can take another request now."""
        return self.complete and not self._bodiless and self._lasting

    async def head(self) -> None:
        """Read status and headers.

        Raises:
            BrokenAnswer: There are none.
        """
        while not self._ready:
            if not await self._feed():
                raise BrokenAnswer

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body in the pieces that it comes in.

        Raises:
            BrokenAnswer: It ended before its end.
        """
        while True:
            if self._parts:
                parts, self._parts = self._parts, []
                yield parts[0] if len(parts) == 1 else b"".join(parts)
            if self.complete:
                return
            if not await self._feed():
                if self._has_length():
                    raise BrokenAnswer
                return

    async def _feed(self) -> bool:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                data = await self._connection.reader.read(_PIECE)
            if data:
                self.begun = True
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, OSError, TimeoutError) as error:
            raise BrokenAnswer from error
        return bool(data)

    def _has_length(self) -> bool:
        return any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def on_message_begin(self) -> None:
        """For the parser: an answer begins."""
        if self.complete:
            raise httptools.HttpParserError("an answer that nobody asked for")
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """For the parser: a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """For the parser: all headers are there."""
        self.status = self._parser.get_status_code()
        if self.status >= 600:
            raise httptools.HttpParserError("no status of HTTP")
        if self.status >= 200:
            self._ready = True
            self._lasting = bool(self._parser.should_keep_alive())
            self.complete = self._bodiless

    def on_body(self, data: bytes) -> None:
        """For the parser: a piece of the body."""
        if not self._bodiless:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """For the parser: an answer's end, be it a preliminary one."""
        self.complete = self._ready
