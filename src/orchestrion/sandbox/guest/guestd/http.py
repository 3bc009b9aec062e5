"""What a handler gets and gives: a request and a response of HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

MAX_BODY = 16 * 1024 * 1024


class BadRequest(Exception):
    """What the peer sent can't be taken; the message says why.

    Args:
        message: One sentence for the peer.
        status: The HTTP status to answer with.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Disconnected(ConnectionError):
    """The peer went away in the middle of a request."""


class Body(Protocol):
    """Reads a request's body piece by piece."""

    async def read(self) -> bytes:
        """Return the next piece, `b""` at the end.

        Raises:
            BadRequest: It is malformed, or nothing came for too long.
            Disconnected: The peer went away.
        """
        ...


@dataclass
class Request:
    """One request.

    Attributes:
        method: In capitals.
        path: Without the query, percent-decoded.
        query: The query's parameters; of one that is given twice, the last.
        headers: By lower-case name; what is given twice is joined by commas.
        port: Which of the daemon's two faces is asked, 49983 or 49999.
        trusted: It came over the host's own socket.
        disconnected: Set when the peer goes away while the handler runs.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    port: int
    trusted: bool
    content: Body
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, in pieces of up to 1 MiB. Raises as `Body.read` does."""
        while piece := await self.content.read():
            yield piece

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """Return the whole body.

        Args:
            limit: Bytes; a longer one is refused.

        Raises:
            BadRequest: It is malformed or too long.
            Disconnected: The peer went away before its end.
        """
        whole = bytearray()
        async for piece in self.stream():
            whole += piece
            if len(whole) > limit:
                raise BadRequest(f"The request's body is longer than {limit} bytes.", 413)
        return bytes(whole)


@dataclass
class Response:
    """One response.

    Attributes:
        status: The HTTP status.
        headers: Its headers. With a `Content-Length` here, a streamed body is sent as it is, otherwise in chunks.
        body: All of it, or an iterator that is closed (its `finally` runs) when the peer goes away.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Routes: TypeAlias = "dict[tuple[str, str], Handler]"


def json_response(value: object, status: int = 200) -> Response:
    """Answer with JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status, {"Content-Type": "application/json"}, body)


def error_response(status: int, message: str) -> Response:
    """Answer with an error, in the form that envd's clients read."""
    return json_response({"code": status, "message": message}, status)
