"""HTTP/1.1 with a port inside a sandbox: what is passed on, and answers read without being held back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeAlias

import httptools

from orchestrion.server.edge.connections import Connection

Header: TypeAlias = tuple[bytes, bytes]

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
_PIECE = 256 * 1024


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
