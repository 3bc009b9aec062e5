"""The edge: any port of a sandbox, reached through us; bytes pass both ways as they come."""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Callable, Mapping

import structlog
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, PortClosed
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import ENVD_PORT, Network
from orchestrion.server.edge.connections import OWN_PORTS, Connection, Pool, dial
from orchestrion.server.edge.exchange import Exchange
from orchestrion.server.edge.way import TRAFFIC_HEADER, Target, Unreachable, Way, not_found

log = structlog.get_logger(__name__)

# How the host drives the daemon; nobody else may.
_HOST_ONLY = frozenset({"/init", "/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw", "/upgrade"})
_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS"})


class Edge:
    """Passes requests on to sandboxes.

    Args:
        sandboxes: Whose ports.
        token_of: Returns the token that the ports of a private sandbox demand; None where whoever asks has shown that
            the sandbox is theirs.
    """

    def __init__(self, sandboxes: Sandboxes, token_of: Callable[[str], str] | None) -> None:
        self._sandboxes = sandboxes
        self._token_of = token_of
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
        if self._token_of is None or network.public_ports or target.port == ENVD_PORT:
            return
        expected = self._token_of(target.sandbox_id)
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
            await JSONResponse({"code": 405, "message": "This is no proxy."}, 405)(scope, receive, send)
            return
        try:
            way = await self.find(target, names, scope["path"])
            await self._exchange(way, scope, receive, send)
        except Unreachable as refused:
            await JSONResponse(refused.body, refused.status)(scope, receive, send)

    async def _exchange(self, way: Way, scope: Scope, receive: Receive, send: Send) -> None:
        connection, used = await self.connect(way)
        exchange = Exchange(way, connection, scope, receive, send)
        # A kept connection may have been closed inside just now; what has no body can go again.
        if not await exchange.begin(may_repeat=used and scope["method"] in _SAFE_TO_REPEAT and not exchange.has_body):
            self.release(way, connection)
            connection, _ = await self.connect(way, fresh=True)
            exchange = Exchange(way, connection, scope, receive, send)
            await exchange.begin(may_repeat=False)
        try:
            await exchange.finish()
        finally:
            self.release(way, connection, reusable=exchange.reusable)
