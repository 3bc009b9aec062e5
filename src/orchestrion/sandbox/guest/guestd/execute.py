"""The code interpreter's HTTP side: contexts, and cells whose output streams as lines of JSON."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .config import Config, variables
from .contexts import Context, ContextError, Contexts, UnknownContext
from .http import BadRequest, Handler, Request, Response, Routes, json_response
from .languages import Cell

KEEPALIVE_SECONDS = 5.0
_FULL = 512 * 1024
_MAX_MILLISECONDS = 7 * 24 * 3600 * 1000
_END = {"type": "end_of_execution"}


class Outbox:
    """Lines on their way to a reader, who sets the pace."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, *messages: dict[str, Any]) -> None:
        """Add lines, then wait while there are too many; a cancelled wait loses none."""
        for message in messages:
            line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
            self._lines.append(line)
            self._size += len(line)
        self._news.set()
        while self._size > _FULL:
            self._room.clear()
            await self._room.wait()

    async def take(self, seconds: float) -> bytes:
        """Return all lines there are; nothing if none comes in so many seconds."""
        if not self._lines:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return b""
        lines = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        self._room.set()
        return lines

    def wake(self) -> None:
        """Let a waiting `take` look again."""
        self._news.set()

    def __bool__(self) -> bool:
        return bool(self._lines)


async def stream(context: Context, cell: Cell) -> AsyncIterator[bytes]:
    """Run a cell and yield what comes of it. Closing this interrupts the cell."""
    outbox = Outbox()
    work = asyncio.create_task(context.host.run(cell, outbox.put))
    work.add_done_callback(lambda _work: outbox.wake())
    try:
        while not work.done() or outbox:
            lines = await outbox.take(KEEPALIVE_SECONDS)
            if lines or not work.done():
                yield lines or b'{"type":"keepalive"}\n'
        work.result()
        yield json.dumps(_END).encode() + b"\n"
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait({work})


class CodeService:
    """Answers what E2B's code interpreter answers.

    Args:
        contexts: The sandbox's interpreters.
    """

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts

    def routes(self) -> Routes:
        """Return its handlers."""
        return {
            ("POST", "/execute"): self.execute,
            ("POST", "/contexts"): _answering(self.create),
            ("GET", "/contexts"): _answering(self.list),
            ("POST", "/contexts/"): _answering(self.restart),
            ("DELETE", "/contexts/"): _answering(self.remove),
        }

    async def execute(self, request: Request) -> Response:
        """`POST /execute`: run a cell in a context, or in a language's default one."""
        body = await _object(request)
        cell = Cell(_code(body), _env(body), _seconds(request))
        context_id, language = _optional(body, "context_id"), _optional(body, "language")
        if context_id and language:
            return _words("Only one of context_id or language can be provided", 400)
        try:
            context = self.contexts.get(context_id) if context_id else self.contexts.default(language)
        except UnknownContext:
            return _unknown(context_id)
        except ContextError as error:
            return _words(str(error), 500)
        return Response(200, {"Content-Type": "application/json"}, stream(context, cell))

    async def create(self, request: Request) -> Response:
        """`POST /contexts`."""
        body = await _object(request)
        context = await self.contexts.create(_optional(body, "language"), _optional(body, "cwd"))
        return json_response(self.contexts.view(context))

    async def list(self, _request: Request) -> Response:
        """`GET /contexts`."""
        return json_response(self.contexts.describe())

    async def restart(self, request: Request) -> Response:
        """`POST /contexts/{id}/restart`."""
        context_id, _, word = request.path.removeprefix("/contexts/").partition("/")
        if word != "restart":
            return _words(f"There is nothing at {request.path}", 404)
        await self.contexts.restart(context_id)
        return json_response(None)

    async def remove(self, request: Request) -> Response:
        """`DELETE /contexts/{id}`."""
        await self.contexts.remove(request.path.removeprefix("/contexts/"))
        return json_response(None)


_SERVICES: list[CodeService] = []


def routes(config: Config) -> Routes:
    """Return the handlers of the daemon's one code service."""
    _SERVICES[:] = [CodeService(Contexts(config))]
    return _SERVICES[0].routes()


async def prepare() -> None:
    """Start the default Python ahead; for when the daemon serves already."""
    for service in _SERVICES:
        await service.contexts.prepare()


async def close() -> None:
    """End all interpreters."""
    for service in _SERVICES:
        await service.contexts.close()


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except UnknownContext as error:
            return _unknown(str(error))
        except ContextError as error:
            return _words(str(error), 500)

    return answer


def _words(text: str, status: int) -> Response:
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, text.encode("utf-8", "replace"))


def _unknown(context_id: str | None) -> Response:
    return _words(f"Context {context_id} not found", 404)


async def _object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        raise BadRequest("The request's body is no JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The request's body must be a JSON object.")
    return body


def _optional(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise BadRequest(f"{name} must be a text.")
    return value


def _code(body: dict[str, Any]) -> str:
    code = body.get("code")
    if not isinstance(code, str):
        raise BadRequest("code must be a text.")
    return code


def _env(body: dict[str, Any]) -> dict[str, str]:
    try:
        return variables(body.get("env_vars") or {})
    except ValueError as error:
        raise BadRequest(f"env_vars can't be taken: {error}.") from None


def _seconds(request: Request) -> float | None:
    """Return the time limit that our own client asks for; 0 and none are none."""
    text = request.headers.get("orchestrion-timeout-ms", "0")
    if not text.isdecimal() or int(text) > _MAX_MILLISECONDS:
        raise BadRequest("Orchestrion-Timeout-Ms must be a number of milliseconds.")
    return int(text) / 1000 or None
