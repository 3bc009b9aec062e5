"""Where a request's head and body begin and end in the stream of bytes. Whatever is ambiguous is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, unquote

import h11

from .http import BadRequest

MAX_HEAD = 64 * 1024
_PIECE = 1024 * 1024
_CHUNK_LINE = 1024
_TRAILER_LINES = 64
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?\Z")


class Source(Protocol):
    """Bytes from the peer."""

    async def take(self, most: int) -> bytes:
        """Return at least one byte and at most `most`. Raises `Disconnected` at the end of the stream."""
        ...

    async def line(self, most: int) -> bytes:
        """Return the next line without its CRLF. Raises `BadRequest` if it is longer than `most` bytes."""
        ...

    def proceed(self) -> None:
        """Tell a peer that waits for it to go on (100 Continue)."""
        ...


@dataclass(frozen=True)
class Head:
    """A request's head; `length` is that of its body, None for one in chunks."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    length: int | None

    @property
    def path(self) -> str:
        """The path without the query, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True, max_num_fields=100))

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request."""
        return self.version == "1.1" and "close" not in self.headers.get("connection", "").lower()


def parse_head(data: bytes) -> Head:
    """Read a request's head, up to and with its empty line.

    Raises:
        BadRequest: It is none.
    """
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest("A line of the request's head ends without a carriage return.")
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        parser.receive_data(data)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise BadRequest(f"This is not HTTP: {error}", error.error_status_hint) from None
    if not isinstance(event, h11.Request):
        raise BadRequest("This is not HTTP.")
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    method, target, version = (part.decode("latin-1") for part in (event.method, event.target, event.http_version))
    return Head(method, target, version, headers, _length(headers))


def _length(headers: dict[str, str]) -> int | None:
    if "transfer-encoding" not in headers:
        return int(headers.get("content-length", "0"))
    if "content-length" in headers:
        raise BadRequest("A request has either a Content-Length or a Transfer-Encoding.")
    return None


class SizedBody:
    """A body of known length."""

    def __init__(self, source: Source, length: int) -> None:
        self._source = source
        self.left = length

    async def read(self) -> bytes:
        """Return the next piece."""
        if not self.left:
            return b""
        self._source.proceed()
        piece = await self._source.take(min(self.left, _PIECE))
        self.left -= len(piece)
        return piece


class ChunkedBody:
    """A body in chunks (RFC 9112, section 7.1)."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0
        self._ended = False

    @property
    def left(self) -> int:
        """Zero once it has been read to its end."""
        return 0 if self._ended else 1

    async def read(self) -> bytes:
        """Return the next piece."""
        if self._ended:
            return b""
        self._source.proceed()
        if not self._left:
            self._left = await self._size()
        if not self._left:
            await self._trailers()
            return b""
        piece = await self._source.take(min(self._left, _PIECE))
        self._left -= len(piece)
        if not self._left and await self._source.line(_CHUNK_LINE):
            raise BadRequest("A chunk of the request's body is longer than it says.")
        return piece

    async def _size(self) -> int:
        match = _CHUNK_SIZE.match(await self._source.line(_CHUNK_LINE))
        if match is None:
            raise BadRequest("A chunk of the request's body has no size.")
        return int(match[1], 16)

    async def _trailers(self) -> None:
        for _ in range(_TRAILER_LINES):
            if not await self._source.line(_CHUNK_LINE):
                self._ended = True
                return
        raise BadRequest("The request's body has too many trailers.")
