"""A server that stands in for a model's provider: real sockets, real protocols, scripted answers."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from orchestrion.models.wire import BadRequest
from orchestrion.testing.anthropic_wire import AnthropicWire
from orchestrion.testing.http import Connection, Disconnected, HttpRequest
from orchestrion.testing.openai_wire import OpenAIWire
from orchestrion.testing.replies import Failure, Reply, Request, Responder
from orchestrion.testing.wire import RenderedWire

_WIRES: Mapping[str, RenderedWire] = {"/v1/messages": AnthropicWire(), "/v1/chat/completions": OpenAIWire()}
_HEADER_LIMIT = 1024 * 1024
MODEL = "stand-in"


class StandIn:
    """Serves the Anthropic Messages and the OpenAI Chat Completions protocols on a loopback port.

    Use it as `async with StandIn(responder) as server:` and point a client at `server.url` (Anthropic) or
    `server.openai_url`. It refuses what the providers refuse: a tool result without its call, a missing field,
    sampling parameters for models that no longer take them.

    Args:
        responder: Gives the `Reply` to each `Request`; plain or async.
        port: 0 takes a free one.
        api_key: The only key accepted; None accepts any.
        keep: How many requests the log holds.

    Attributes:
        requests: The last requests, oldest first.
        disconnects: How many clients went away before their answer was complete.
        active: How many answers are under way.
    """

    def __init__(self, responder: Responder, *, port: int = 0, api_key: str | None = None, keep: int = 1000) -> None:
        self._responder = responder
        self._port = port
        self._api_key = api_key
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: deque[Request] = deque(maxlen=keep)
        self.disconnects = 0
        self.active = 0

    @property
    def url(self) -> str:
        """The base URL for Anthropic clients."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI clients."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self._port, limit=_HEADER_LIMIT, backlog=1024
        )
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> StandIn:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(Connection(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            while request := await connection.read():
                self.active += 1
                try:
                    await self._answer(connection, request)
                finally:
                    self.active -= 1
        except Disconnected:
            self.disconnects += 1
        finally:
            connection.close()

    async def _answer(self, connection: Connection, http: HttpRequest) -> None:
        if http.method == "GET" and http.path == "/v1/models":
            await connection.send_json(200, _models())
        elif http.method == "POST" and http.path == "/v1/messages/count_tokens":
            await connection.send_json(200, {"input_tokens": max(1, len(http.body) // 4)})
        elif http.method == "POST" and http.path in _WIRES:
            await self._call(connection, http, _WIRES[http.path])
        else:
            failure = Failure(404, f"Not found: {http.method} {http.path}")
            await connection.send_json(404, AnthropicWire().error(failure))

    async def _call(self, connection: Connection, http: HttpRequest, wire: RenderedWire) -> None:
        request, reply = await self._decide(http, wire)
        await connection.pause(reply.first_token_delay)
        error = reply.error
        if request is None or (error and (error.after_chunks is None or not request.stream)):
            await _send_error(connection, wire, error or Failure(500))
        elif request.stream:
            await _stream(connection, wire, request, reply)
        elif reply.drop_after is not None:
            connection.abort()
            raise Disconnected
        else:
            await connection.send_json(200, wire.whole(request, reply))

    async def _decide(self, http: HttpRequest, wire: RenderedWire) -> tuple[Request | None, Reply]:
        if not self._authorized(http.headers):
            return None, Reply(error=Failure(401, "invalid x-api-key"))
        try:
            request = wire.request(_body(http.body), http.headers)
        except BadRequest as error:
            return None, Reply(error=Failure(400, str(error)))
        self.requests.append(request)
        try:
            reply = self._responder(request)
            return request, await reply if inspect.isawaitable(reply) else reply
        except Exception as error:
            # A broken script must be seen by the test as what it is, not as a server that hangs.
            return request, Reply(error=Failure(400, f"The responder failed: {type(error).__name__}: {error}"))

    def _authorized(self, headers: Mapping[str, str]) -> bool:
        if self._api_key is None:
            return True
        sent = headers.get("x-api-key") or headers.get("authorization", "").partition(" ")[2]
        return hmac.compare_digest(sent.encode(), self._api_key.encode())


def _body(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        raise BadRequest("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("The request body is not a JSON object")
    return body


def _models() -> dict[str, Any]:
    entry = {
        "id": MODEL,
        "object": "model",
        "type": "model",
        "created": 0,
        "owned_by": "orchestrion",
        "display_name": "Stand-in",
        "created_at": "2026-01-01T00:00:00Z",
    }
    return {"object": "list", "data": [entry], "has_more": False, "first_id": MODEL, "last_id": MODEL}


async def _send_error(connection: Connection, wire: RenderedWire, failure: Failure) -> None:
    headers = {} if failure.retry_after is None else {"retry-after": f"{failure.retry_after:g}"}
    await connection.send_json(failure.status, wire.error(failure), headers)


async def _stream(connection: Connection, wire: RenderedWire, request: Request, reply: Reply) -> None:
    await connection.start_stream()
    sent = 0
    for piece in wire.stream(request, reply):
        if piece.content:
            if reply.error and sent == reply.error.after_chunks:
                await connection.send_piece(wire.error_event(reply.error))
                break
            if sent == reply.drop_after:
                connection.abort()
                raise Disconnected
            await connection.pause(reply.delay if sent else 0)
            sent += 1
        await connection.send_piece(piece.data)
    await connection.end_stream()
