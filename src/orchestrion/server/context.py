"""What surrounds every request: its id, its log context, security headers, metrics, and the last line of defence."""

from __future__ import annotations

import re
import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.ids import new_id
from orchestrion.server.metrics import Metrics
from orchestrion.server.problems import REQUEST_ID, ProblemResponse, from_error, unexpected

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")
_PREFIX = re.compile(r"^(/[A-Za-z0-9._~-]+){1,8}$")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "SAMEORIGIN",
}


def _request_id(headers: Headers) -> str:
    """Keep the caller's request id where it is a plain token, else make one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else new_id("req")


def _apply_prefix(scope: Scope, headers: Headers) -> None:
    """Let the URLs we give out begin with the prefix under which a proxy serves us."""
    prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
    if prefix and ".." not in prefix and _PREFIX.match(prefix):
        scope["root_path"] = prefix
        scope["path"] = prefix + scope["path"]


def _route(scope: Scope) -> str:
    """Return the template of the route that matched, so that labels stay few."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"


def _render(error: Exception, request_id: str) -> ProblemResponse:
    return from_error(error, request_id) if isinstance(error, OrchestrionError) else unexpected(request_id)


class _Exchange:
    """One request and what was sent for it."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.scope = scope
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.streamed = False

    async def send(self, message: Message) -> None:
        """Add the headers that every response has."""
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            self.status = message["status"]
            self.streamed = headers.get("content-type", "").startswith("text/event-stream")
        elif message["type"] == "websocket.accept":
            self.status = 101
        await self._send(message)


class ContextMiddleware:
    """The outermost layer; nothing that happens inside escapes it as anything but a problem document."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket from its first to its last byte."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = _Exchange(scope, send, _request_id(headers))
        scope[REQUEST_ID] = exchange.request_id
        _apply_prefix(scope, headers)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            await self._run(exchange, receive)
            self._record(exchange, time.perf_counter() - began)

    async def _run(self, exchange: _Exchange, receive: Receive) -> None:
        try:
            await self.app(exchange.scope, receive, exchange.send)
        except OrchestrionError as error:
            await self._answer(exchange, receive, error)
        except Exception as error:
            log.exception("unexpected error", path=exchange.scope["path"])
            await self._answer(exchange, receive, error)

    @staticmethod
    async def _answer(exchange: _Exchange, receive: Receive, error: Exception) -> None:
        if exchange.status:
            return  # The response has begun: breaking it off is all that can be said.
        response = _render(error, exchange.request_id)
        await response(exchange.scope, receive, exchange.send)

    def _record(self, exchange: _Exchange, seconds: float) -> None:
        scope: dict[str, Any] = dict(exchange.scope)
        method, route = scope.get("method", "WEBSOCKET"), _route(exchange.scope)
        self.metrics.requests.labels(method, route, str(exchange.status)).inc()
        if not exchange.streamed and scope["type"] == "http":
            self.metrics.seconds.labels(route).observe(seconds)
        log.info("request", method=method, path=scope["path"], status=exchange.status, seconds=round(seconds, 4))
