"""The edge: any port of a sandbox, reached through us; bytes pass both ways as they come."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, PortClosed
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import ENVD_PORT, Network, PortAddress
from orchestrion.server.e2b.answers import answer
from orchestrion.server.e2b.keys import Keys
from orchestrion.server.e2b.targets import Target
from orchestrion.server.e2b.upstream import (
    OWN_PORTS,
    Answer,
    BrokenAnswer,
    Connection,
    Header,
    Pool,
    dial,
    forwarded,
)

log = structlog.get_logger(__name__)

TRAFFIC_HEADER = "e2b-traffic-access-token"
# How the host drives the daemon; nobody else may.
_HOST_ONLY = frozenset({"/init", "/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw", "/upgrade"})
_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS"})


class Unreachable(Exception):
    """A request that can't be passed on.

    Args:
        status: HTTP status.
        body: What is answered; SDKs look for its words.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(body["message"])
        self.status = status
        self.body = {**body, "code": status}


@dataclass(frozen=True)
class Way:
    """A port of a running sandbox, and how requests must look there."""

    target: Target
    address: PortAddress
    network: Network

    @property
    def tls(self) -> bool:
        """Whether the port speaks TLS."""
        return self.target.port in self.network.https_ports

    def headers(self, raw: list[Header]) -> list[Header]:
        """Return a request's headers as the port inside gets them, without those of the connection."""
        extra = {name.lower().encode(): value.encode() for name, value in self.address.headers.items()}
        host = next((value for name, value in raw if name == b"host"), b"")
        if self.network.mask_host and self.target.port != ENVD_PORT:
            host = self.network.mask_host.replace("${PORT}", str(self.target.port)).encode()
        hidden = frozenset((b"host", TRAFFIC_HEADER.encode(), *extra))
        extra.pop(b"host", None)
        return [(b"Host", host), *forwarded(raw, hidden), *extra.items()]


class Edge:
    """Passes requests on to sandboxes.

    Args:
        sandboxes: Whose ports.
        keys: Make the tokens of private sandboxes; None where whoever asks has shown that the sandbox is theirs.
    """

    def __init__(self, sandboxes: Sandboxes, keys: Keys | None) -> None:
        self._sandboxes = sandboxes
        self._keys = keys
        self._pool = Pool()
        self._active: dict[str, set[Connection]] = defaultdict(set)

    async def find(self, target: Target, headers: Mapping[str, str], path: str) -> Way:
        """Find the way to a port; a paused sandbox is woken if it was made so.

        Raises:
            Unreachable: There is no such sandbox, it does not run, or the request may not go there.
        """
        if target.port in OWN_PORTS and path in _HOST_ONLY:
            raise Unreachable(404, {"message": "There is nothing here."})
        try:
            network = (await self._sandboxes.held(target.sandbox_id)).info.spec.network
            self._check_token(target, network, headers.get(TRAFFIC_HEADER))
            sandbox = await self._sandboxes.open(target.sandbox_id, traffic=True)
        except (NotFound, Conflict) as error:
            raise not_found(target) from error
        except OrchestrionError as error:
            log.info("a sandbox could not be opened for traffic", sandbox=target.sandbox_id, detail=str(error))
            raise not_found(target) from error
        return Way(target, sandbox.port(target.port), network)

    def _check_token(self, target: Target, network: Network, given: str | None) -> None:
        if self._keys is None or network.public_ports or target.port == ENVD_PORT:
            return
        expected = self._keys.traffic_token(target.sandbox_id)
        if not hmac.compare_digest(expected.encode(), (given or "").encode()):
            wrong = "invalid" if given else "missing"
            message = f"This sandbox's ports need a token: the header '{TRAFFIC_HEADER}' is {wrong}."
            raise Unreachable(403, {"sandboxId": target.sandbox_id, "message": message})

    async def connect(self, way: Way, *, fresh: bool = False) -> tuple[Connection, bool]:
        """Return a connection, and whether it has been used before.

        Raises:
            Unreachable: Sandbox or port don't answer.
        """
        target = way.target
        connection = None if fresh else self._pool.take(target.sandbox_id, target.port, way.address)
        if connection is not None:
            self._active[target.sandbox_id].add(connection)
            return connection, True
        try:
            connection = await dial(way.address, tls=way.tls)
        except PortClosed:
            message = "The sandbox is running but port is not open"
            body = {"sandboxId": target.sandbox_id, "message": message, "port": target.port}
            raise Unreachable(502, body) from None
        except OrchestrionError as error:
            raise not_found(target) from error
        self._active[target.sandbox_id].add(connection)
        return connection, False

    def release(self, way: Way, connection: Connection, *, reusable: bool = False) -> None:
        """Give a connection back."""
        active = self._active.get(way.target.sandbox_id, set())
        active.discard(connection)
        if not active:
            self._active.pop(way.target.sandbox_id, None)
        if reusable:
            self._pool.give(way.target.sandbox_id, way.target.port, way.address, connection)
        else:
            connection.abort()

    @property
    def busy(self) -> list[str]:
        """The sandboxes that requests are under way to."""
        return list(self._active)

    def cut(self, sandbox_id: str) -> None:
        """Break what is under way to a sandbox that was paused or killed: it would hang for ever."""
        self._pool.drop(sandbox_id)
        for connection in list(self._active.get(sandbox_id, ())):
            connection.abort()

    def close(self) -> None:
        """Break everything."""
        self._pool.close()
        for sandbox_id in self.busy:
            self.cut(sandbox_id)

    async def serve(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one HTTP request on, and its answer back."""
        names = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] == "CONNECT":
            await answer({"code": 405, "message": "This is no proxy."}, 405)(scope, receive, send)
            return
        try:
            way = await self.find(target, names, scope["path"])
            await self._exchange(way, scope, receive, send)
        except Unreachable as refused:
            await answer(refused.body, refused.status)(scope, receive, send)

    async def _exchange(self, way: Way, scope: Scope, receive: Receive, send: Send) -> None:
        connection, used = await self.connect(way)
        exchange = _Exchange(way, connection, scope, receive, send)
        # A kept connection may have been closed inside just now; what has no body can go again.
        if not await exchange.begin(may_repeat=used and scope["method"] in _SAFE_TO_REPEAT and not exchange.has_body):
            self.release(way, connection)
            connection, _ = await self.connect(way, fresh=True)
            exchange = _Exchange(way, connection, scope, receive, send)
            await exchange.begin(may_repeat=False)
        try:
            await exchange.finish()
        finally:
            self.release(way, connection, reusable=exchange.reusable)


class _Exchange:
    """One request and its answer, over one connection."""

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


def not_found(target: Target) -> Unreachable:
    """Return the answer for a sandbox that does not run."""
    return Unreachable(502, {"sandboxId": target.sandbox_id, "message": "The sandbox was not found"})
