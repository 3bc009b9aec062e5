"""The size of request bodies: refused by its announced length, else while it comes in."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrion.core.errors import TooLarge
from orchestrion.server.problems import REQUEST_ID, from_error
from orchestrion.server.security import route_path

BODY_LIMIT = 4 * 2**20
_LINGER_SECONDS = 30.0
_LINGER_IDLE_SECONDS = 1.0


def _announced(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isdecimal() else 0


async def _drain(receive: Receive) -> None:
    """Read on for a while after a refusal and throw it away, as nginx's lingering close does.

    The refusal is on its way already; but a client that looks at it only after sending all would find the connection
    reset instead if we hung up at once.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while True:
                message = await asyncio.wait_for(receive(), _LINGER_IDLE_SECONDS)
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


class BodyLimitMiddleware:
    """Refuses bodies that are too large, and closes the connection of whoever sends one.

    Args:
        app: What it guards.
        upload_limit: Bytes that a request to a session's files may have; all others may have `BODY_LIMIT`.
    """

    def __init__(self, app: ASGIApp, upload_limit: int) -> None:
        self.app = app
        self.upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return
        limit = self.upload_limit if route_path(scope).endswith("/files") else BODY_LIMIT
        guarded = _Guarded(receive, send, limit)
        try:
            if _announced(scope) > limit:
                raise guarded.refusal()
            await self.app(scope, guarded.receive, guarded.send)
        except TooLarge as error:
            await from_error(error, str(scope.get(REQUEST_ID, "")))(scope, receive, guarded.send)


class _Guarded:
    """Counts what is received and lingers after a 413."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._seen = 0
        self._refused = False

    def refusal(self) -> TooLarge:
        return TooLarge(
            f"The request is larger than {self._limit // 2**20} MiB.",
            "Send less; ORCHESTRION_UPLOAD_LIMIT_MB is the limit for files.",
        )

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise self.refusal()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 413:
            self._refused = True
            MutableHeaders(scope=message)["connection"] = "close"
        if not self._refused or message["type"] != "http.response.body":
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await _drain(self._receive)
        await self._send({"type": "http.response.body", "body": b""})
