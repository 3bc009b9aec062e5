"""The Connect protocol with its JSON codec, as E2B's SDKs speak it (connectrpc.com/docs/protocol)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any, TypeAlias

from .http import BadRequest, Disconnected, Handler, Request, Response, Routes, json_response

Message: TypeAlias = dict[str, Any]
Unary: TypeAlias = Callable[[Message, Request], Awaitable[Message]]
# A message may be given as ready JSON too, where speed counts.
ServerStream: TypeAlias = Callable[[Message, Request], AsyncGenerator["Message | bytes", None]]
ClientStream: TypeAlias = Callable[[AsyncIterator[Message], Request], Awaitable[Message]]

MAX_MESSAGE = 16 * 1024 * 1024
_COMPRESSED, _END = 1, 2
_STREAM = "application/connect+json"
_PING = 90.0
_STATUS = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}


class RpcError(Exception):
    """A call failed.

    Args:
        code: One of Connect's codes, `not_found` say.
        message: One sentence for the caller.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status that stands for its code."""
        return _STATUS[self.code]

    def to_json(self) -> Message:
        """Return it as it goes over the wire."""
        return {"code": self.code, "message": self.message}


def as_rpc_error(error: Exception) -> RpcError:
    """Say what a failure is to the caller. One that nobody foresaw also goes to the daemon's log."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, BadRequest):
        return RpcError("resource_exhausted" if error.status == 413 else "invalid_argument", str(error))
    if isinstance(error, TimeoutError):
        return RpcError("deadline_exceeded", str(error) or "The call took longer than it may.")
    if not isinstance(error, OSError):
        traceback.print_exception(error, file=sys.stderr)
    return RpcError("internal", f"{type(error).__name__}: {error}")


def timeout_seconds(request: Request) -> float | None:
    """Return how long the caller lets the call take; None for ever.

    Raises:
        RpcError: The header is no number.
    """
    text = request.headers.get("connect-timeout-ms", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 10:
        raise RpcError(
            "invalid_argument", f"Connect-Timeout-Ms must be milliseconds, up to ten digits, not '{text}'."
        )
    return int(text) / 1000 or None


def ping_seconds(request: Request) -> float:
    """Return after how long a silence the caller wants a sign of life."""
    text = request.headers.get("keepalive-ping-interval", "")
    return float(text) if text.isdecimal() and int(text[:6]) > 0 else _PING


def _message(data: bytes) -> Message:
    try:
        message = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise RpcError("invalid_argument", "The message is not JSON.") from None
    if not isinstance(message, dict):
        raise RpcError("invalid_argument", "The message must be a JSON object.")
    return message


def frame(message: Message | bytes, flags: int = 0) -> bytes:
    """Put a message into the envelope of a stream."""
    data = message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode()
    return struct.pack(">BI", flags, len(data)) + data


async def frames(request: Request) -> AsyncIterator[Message]:
    """Yield the messages of a request's body as they come.

    Raises:
        RpcError: One is malformed, compressed or too long.
        Disconnected: The peer went away.
    """
    buffer = bytearray()
    async for piece in request.stream():
        buffer += piece
        while len(buffer) >= 5:
            flags, length = struct.unpack(">BI", buffer[:5])
            if length > MAX_MESSAGE:
                raise RpcError("resource_exhausted", f"A message may have {MAX_MESSAGE} bytes.")
            if flags & _COMPRESSED:
                raise RpcError("unimplemented", "Compressed messages are not supported.")
            if len(buffer) < 5 + length:
                break
            data = bytes(memoryview(buffer)[5 : 5 + length])
            del buffer[: 5 + length]
            if flags & _END:
                return
            yield _message(data)
    if buffer:
        raise RpcError("invalid_argument", "The request ends in the middle of a message.")


def _wrong_type(request: Request, wanted: str) -> Response | None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given == wanted:
        return None
    answer = json_response({"code": "unknown", "message": f"Only {wanted} is supported."}, 415)
    return Response(415, {**answer.headers, "Accept-Post": wanted}, answer.body)


def _ended(error: Exception | None = None) -> bytes:
    return frame({"error": as_rpc_error(error).to_json()} if error else {}, _END)


def _streamed(body: bytes | AsyncIterator[bytes]) -> Response:
    return Response(200, {"Content-Type": _STREAM}, body)


def unary(call: Unary) -> Handler:
    """Make a handler of a call with one message in and one out."""

    async def handle(request: Request) -> Response:
        if wrong := _wrong_type(request, "application/json"):
            return wrong
        try:
            return json_response(await call(_message(await request.body(MAX_MESSAGE)), request))
        except Disconnected:
            raise
        except Exception as error:
            failure = as_rpc_error(error)
            return json_response(failure.to_json(), failure.status)

    return handle


async def _first(request: Request) -> Message:
    """Return the one message of a server stream's request, whose body is read to its end."""
    found: Message | None = None
    async for message in frames(request):
        if found is not None:
            raise RpcError("invalid_argument", "This call takes one message.")
        found = message
    if found is None:
        raise RpcError("invalid_argument", "This call takes one message.")
    return found


async def _until(
    seconds: float | None, answers: AsyncGenerator[Message | bytes, None]
) -> AsyncIterator[Message | bytes]:
    """Pass answers on for so long. Raises `TimeoutError`."""
    end = None if seconds is None else asyncio.get_running_loop().time() + seconds
    while True:
        async with asyncio.timeout_at(end):
            answer = await anext(answers, None)
        if answer is None:
            return
        yield answer


def server_stream(call: ServerStream, *, own_deadline: bool = False) -> Handler:
    """Make a handler of a call with one message in and many out.

    Args:
        call: Is closed (its `finally` runs) when the caller goes away.
        own_deadline: It heeds `Connect-Timeout-Ms` itself; else it is closed at that time.
    """

    async def body(message: Message, request: Request) -> AsyncIterator[bytes]:
        try:
            deadline = None if own_deadline else timeout_seconds(request)
            async with contextlib.aclosing(call(message, request)) as answers:
                async for answer in _until(deadline, answers):
                    yield frame(answer)
        except Disconnected:
            raise
        except Exception as error:
            yield _ended(error)
        else:
            yield _ended()

    async def handle(request: Request) -> Response:
        if wrong := _wrong_type(request, _STREAM):
            return wrong
        try:
            message = await _first(request)
        except RpcError as error:
            return _streamed(_ended(error))
        return _streamed(body(message, request))

    return handle


def client_stream(call: ClientStream) -> Handler:
    """Make a handler of a call with many messages in and one out."""

    async def handle(request: Request) -> Response:
        if wrong := _wrong_type(request, _STREAM):
            return wrong
        try:
            return _streamed(frame(await call(frames(request), request)) + _ended())
        except Disconnected:
            raise
        except Exception as error:
            return _streamed(_ended(error))

    return handle


def routes(
    service: str,
    *,
    unary: Mapping[str, Unary] | None = None,
    server: Mapping[str, ServerStream] | None = None,
    client: Mapping[str, ClientStream] | None = None,
    own_deadline: Collection[str] = (),
) -> Routes:
    """Return the routes of a service.

    Args:
        service: Its full name, `process.Process` say.
        unary: Its calls with one message either way, by name.
        server: Those that answer with a stream, by name.
        client: Those that take a stream, by name.
        own_deadline: Those server streams that heed `Connect-Timeout-Ms` themselves.
    """
    found = {name: _unary(call) for name, call in (unary or {}).items()}
    found |= {name: server_stream(call, own_deadline=name in own_deadline) for name, call in (server or {}).items()}
    found |= {name: client_stream(call) for name, call in (client or {}).items()}
    return {("POST", f"/{service}/{name}"): handler for name, handler in found.items()}


_unary = unary
