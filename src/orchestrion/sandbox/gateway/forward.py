"""Plain HTTP through the proxy: one request, streamed both ways; redirects are the client's to follow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from orchestrion.sandbox.gateway.dialler import Line
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.peer import Gone, Peer, write

_PIECE = 64 * 1024
# Between two neighbours only (RFC 9110 7.6.1), and what the proxy itself was told.
_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"te", b"trailer", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authorization", b"expect", b"http2-settings"),
    }
)
Headers = Iterable[tuple[bytes, bytes]]


class BadGateway(Exception):
    """The server's answer can't be passed on; the message is one sentence."""


@dataclass(frozen=True)
class Place:
    """What an absolute request target names."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """For the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"


def absolute(target: str) -> Place | None:
    """Read `http://host[:port]/path`; None if it is something else."""
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme != "http" or not host or parts.username is not None or port == 0:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(host, port or 80, path)


def authority(target: str) -> tuple[str, int] | None:
    """Read the `host:port` of a CONNECT; None if it is something else."""
    host, colon, port = target.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return None
    if (":" in host) != (host[0] == "[" and host[-1] == "]"):
        return None
    return host.strip("[]"), int(port)


def passed_on(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that go to the next hop."""
    known = list(headers)
    named = {
        name.strip().lower() for key, value in known if key.lower() == b"connection" for name in value.split(b",")
    }
    return [(key, value) for key, value in known if key.lower() not in _HOP_BY_HOP | named]


class Forward:
    """Carries one request and its answer.

    Args:
        peer: The sandbox's side.
        line: The outside.
        limits: The bounds.

    Attributes:
        bytes_in: Of the answer's body.
        bytes_out: Of the request's body.
    """

    def __init__(self, peer: Peer, line: Line, limits: GatewayLimits) -> None:
        self._peer = peer
        self._line = line
        self._limits = limits
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes)
        self.bytes_in = 0
        self.bytes_out = 0

    async def carry(self, request: h11.Request, place: Place) -> None:
        """Send the request and pass its answer back.

        Raises:
            BadGateway: There is no answer that could be passed on.
            Gone: One side went away in the middle.
        """
        try:
            await self._ask(request, place)
            response = await self._response()
        except (Gone, h11.RemoteProtocolError, h11.LocalProtocolError):
            raise BadGateway(f"{place.host} gave no proper answer.") from None
        headers = passed_on(response.headers.raw_items())
        await self._peer.start(response.status_code, headers, response.reason)
        await self._pass_back()

    async def _ask(self, request: h11.Request, place: Place) -> None:
        chunked = any(key == b"transfer-encoding" for key, _ in request.headers)
        dropped = {b"host", b"content-length"} if chunked else {b"host"}
        kept = [(key, value) for key, value in passed_on(request.headers.raw_items()) if key.lower() not in dropped]
        framing = [(b"transfer-encoding", b"chunked")] if chunked else []
        headers = [(b"host", place.authority.encode("latin-1")), *kept, *framing, (b"connection", b"close")]
        await self._send(h11.Request(method=request.method, target=place.path, headers=headers))
        async for piece in self._peer.body():
            self.bytes_out += len(piece)
            await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with suppress(Gone):  # a server that answers early and reads no further still has its answer
                await write(self._line.writer, data, self._limits.idle_seconds)

    async def _response(self) -> h11.Response:
        while True:
            event = await self._peer.unless_gone(self._event)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise Gone

    async def _pass_back(self) -> None:
        while True:
            try:
                event = await self._event()
            except h11.RemoteProtocolError:
                raise Gone from None  # broken off: the client must see that, so its connection ends too
            if isinstance(event, h11.Data):
                self.bytes_in += len(event.data)
                await self._peer.piece(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._peer.end()
                return
            else:
                raise Gone

    async def _event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(self._limits.idle_seconds):
                    self._http.receive_data(await self._line.reader.read(_PIECE))
            except (OSError, TimeoutError):
                raise Gone from None
