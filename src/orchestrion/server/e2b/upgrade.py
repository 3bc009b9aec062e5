"""WebSockets through the edge: once the service inside has agreed, the two connections are spliced."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson

from orchestrion.server.e2b.answers import Refusal
from orchestrion.server.e2b.targets import Domain
from orchestrion.server.edge.answer import IDLE_SECONDS, Header
from orchestrion.server.edge.connections import OWN_PORTS, Connection
from orchestrion.server.edge.edge import Edge
from orchestrion.server.edge.way import Unreachable, Way

_HEAD_BYTES = 64 * 1024
_PIECE = 256 * 1024
_END = b"\r\n\r\n"


class Upgrades:
    """Takes over connections that ask for an upgrade.

    Args:
        domain: Tells where they lead.
        edge: Finds the way there.
    """

    def __init__(self, domain: Domain, edge: Edge) -> None:
        self._domain = domain
        self._edge = edge
        self._running: set[asyncio.Task[None]] = set()

    def protocol(self, **_: Any) -> asyncio.StreamReaderProtocol:
        """Make what uvicorn hands such a connection to, the request's head first."""
        reader = asyncio.StreamReader(_HEAD_BYTES)
        return asyncio.StreamReaderProtocol(reader, self._start)

    def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """End all."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            try:
                await self._upgrade(reader, writer)
            except Unreachable as error:
                writer.write(_refusal(error.status, error.body))
            except Refusal as error:
                writer.write(_refusal(error.status, {"code": error.status, "message": error.message}))
        with contextlib.suppress(OSError):
            writer.close()

    async def _upgrade(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, headers = parse_head(await reader.readuntil(_END))
        names = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        target = self._domain.target(names)
        if target is None:
            raise Refusal(404, "The control plane has no WebSockets.")
        if target.port in OWN_PORTS:
            raise Refusal(400, "The sandbox's daemon has no WebSockets.")
        way = await self._edge.find(target, names, path="")
        connection, _ = await self._edge.connect(way, fresh=True)
        try:
            connection.writer.write(_request(way, line, headers))
            await _converse(reader, writer, connection)
        finally:
            self._edge.release(way, connection)


def parse_head(head: bytes) -> tuple[bytes, list[Header]]:
    """Return a request's first line, and its headers by lower-case name."""
    line, *rest = head[: -len(_END)].split(b"\r\n")
    pairs = (field.partition(b":") for field in rest)
    return line, [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def _request(way: Way, line: bytes, headers: list[Header]) -> bytes:
    upgrade = next((value for name, value in headers if name == b"upgrade"), b"websocket")
    lines = [line, *(name + b": " + value for name, value in way.headers(headers))]
    return b"\r\n".join((*lines, b"Connection: Upgrade", b"Upgrade: " + upgrade)) + _END


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inside: Connection) -> None:
    async with asyncio.timeout(IDLE_SECONDS):
        head = await inside.reader.readuntil(_END)
    agreed = head.split(b" ", 2)[1:2] == [b"101"]
    writer.write(head if agreed else _closing(head))
    down = asyncio.create_task(_copy(inside.reader, writer))
    # Without an agreement the client has nothing more to say: what it sent would reach the service unchecked.
    up = asyncio.create_task(_copy(reader, inside.writer) if agreed else reader.read(1))
    try:
        await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> bytes:
    while piece := await source.read(_PIECE):
        sink.write(piece)
        await sink.drain()
    return b""


def _closing(head: bytes) -> bytes:
    line, headers = parse_head(head)
    kept = [name + b": " + value for name, value in headers if name != b"connection"]
    return b"\r\n".join((line, *kept, b"connection: close")) + _END


def _refusal(status: int, body: object) -> bytes:
    content = orjson.dumps(body)
    head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + content
