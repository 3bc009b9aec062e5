"""One request and its answer, passed between a client and a port inside as they come."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from starlette.types import Receive, Scope, Send

from orchestrion.server.edge.answer import Answer, BrokenAnswer, forwarded
from orchestrion.server.edge.connections import Connection
from orchestrion.server.edge.way import Unreachable, Way

log = structlog.get_logger(__name__)


class Exchange:
    """One request and its answer.

    Args:
        way: Where to.
        connection: Over what.
        scope: The request, with `receive` and `send` as in ASGI.
        receive: See there.
        send: See there.
    """

    def __init__(self, way: Way, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        self._way = way
        self._connection = connection
        self._scope = scope
        self._receive = receive
        self._send = send
        self._sent = False
        self._gone = False
        self._answer = Answer(connection, scope["method"])
        lengths = {
            name: value for name, value in scope["headers"] if name in {b"content-length", b"transfer-encoding"}
        }
        self._length = lengths.get(b"content-length")
        self.has_body = b"transfer-encoding" in lengths or self._length not in (None, b"0")
        self._pump: asyncio.Task[None] | None = None

    @property
    def reusable(self) -> bool:
        """Whether the connection may be kept."""
        return self._sent and not self._gone and self._answer.reusable

    async def begin(self, *, may_repeat: bool) -> bool:
        """Write the request and wait for the answer's head.

        Returns:
            False if nothing came and the request may be sent once more.

        Raises:
            Unreachable: Nothing came.
        """
        self._connection.writer.write(self._head())
        self._pump = asyncio.create_task(self._send_body())
        try:
            await self._answer.head()
        except BrokenAnswer:
            await self._stop()
            if self._gone or (may_repeat and not self._answer.begun):
                return self._gone
            raise self._lost() from None
        except BaseException:
            await self._stop()
            raise
        return True

    def _lost(self) -> Unreachable:
        message = "The sandbox was not found" if not self._answer.begun else "The service inside broke off its answer"
        return Unreachable(502, {"sandboxId": self._way.target.sandbox_id, "message": message})

    def _head(self) -> bytes:
        scope = self._scope
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        lines = [scope["method"].encode() + b" " + scope["raw_path"] + query + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self._way.headers(scope["headers"])]
        if self.has_body and self._length is None:
            lines.append(b"transfer-encoding: chunked")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def _send_body(self) -> None:
        """Pass the request's body on, then watch whether the client goes away."""
        writer = self._connection.writer
        with contextlib.suppress(OSError):
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._gone = True
                    self._connection.abort()
                    return
                if piece := message.get("body", b""):
                    self._write(writer, piece)
                    await writer.drain()
                if not message.get("more_body", False) and not self._sent:
                    self._sent = True
                    if self.has_body and self._length is None:
                        writer.write(b"0\r\n\r\n")

    def _write(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        if self._length is None:
            writer.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        else:
            writer.write(piece)

    async def finish(self) -> None:
        """Pass the answer on; if it breaks off, so does what the client gets: uvicorn closes what has no end."""
        try:
            if not self._gone:
                await self._forward()
        except BrokenAnswer:
            if not self._gone:
                log.info("a sandbox broke off an answer", sandbox=self._way.target.sandbox_id)
        finally:
            await self._stop()

    async def _forward(self) -> None:
        bodiless = frozenset((b"content-length",)) if self._answer.status in {204, 304} else frozenset[bytes]()
        headers = forwarded(self._answer.headers, bodiless)
        await self._send({"type": "http.response.start", "status": self._answer.status, "headers": headers})
        async for piece in self._answer.body():
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stop(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
