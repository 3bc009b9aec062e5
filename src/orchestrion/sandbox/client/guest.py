"""Requests to the daemon inside a sandbox: plain HTTP, and Connect calls in JSON."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import orjson

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.client.failures import ended, gone, refused
from orchestrion.sandbox.client.transport import ERROR_BYTES, Body, Reply, Transport
from orchestrion.sandbox.client.wire import (
    END_OF_STREAM,
    MESSAGE,
    Frames,
    Message,
    checked,
    frame,
    message_of,
    text_of,
)
from orchestrion.sandbox.protocols import ENVD_PORT

GUEST_HEADER = "orchestrion-guest"
ANSWER_SECONDS = 30
_KEEPALIVE = 50
_SILENCE = 3 * _KEEPALIVE


class Guest:
    """The daemon at the other end of a transport.

    Args:
        transport: The way there.
        token: What it demands as `X-Access-Token`; empty for nothing.
        ready: Raises `SandboxGone` once the sandbox is known to have ended.
    """

    def __init__(self, transport: Transport, token: str, ready: Callable[[], None]) -> None:
        self.transport = transport
        self._token = token
        self._ready = ready
        self._ours: bool | None = True if transport.ours else None

    async def ours(self) -> bool:
        """Say whether it is our own daemon, which ends what a call started together with the call."""
        if self._ours is None:
            async with within(ANSWER_SECONDS):
                reply = await self.transport.send(ENVD_PORT, "GET", "/health", {})
                async with contextlib.aclosing(reply):
                    self._ours = GUEST_HEADER in reply.headers
        return self._ours

    async def send(
        self, port: int, method: str, target: str, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Reply:
        """Send a request and return its answer, which the caller closes.

        Raises:
            OrchestrionError: The answer is an error; as `failures.refused` says.
            SandboxGone: The sandbox has ended.
        """
        self._ready()
        head = {**(headers or {}), **self._credentials()}
        reply = await self.transport.send(port, method, target, head, body)
        if reply.status < 400:
            return reply
        async with contextlib.aclosing(reply):
            raise refused(reply.status, await reply.read(ERROR_BYTES))

    async def fetch(
        self,
        port: int,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        seconds: float | None = None,
    ) -> bytes:
        """Send a request and return the body of its answer; see `send`."""
        async with within(seconds or ANSWER_SECONDS):
            reply = await self.send(port, method, target, headers, body)
            async with contextlib.aclosing(reply):
                return await reply.read(MESSAGE)

    async def call(self, method: str, message: Message, *, user: str | None = None) -> Message:
        """Make a unary call; `method` is `<service>/<Method>`."""
        headers = {"Content-Type": "application/json", "Connect-Protocol-Version": "1", **as_user(user)}
        return message_of(await self.fetch(ENVD_PORT, "POST", f"/{method}", headers, orjson.dumps(message)))

    async def open(
        self,
        method: str,
        message: Message,
        *,
        user: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Messages:
        """Begin a streaming call; the caller closes what it returns."""
        head = {
            "Content-Type": "application/connect+json",
            "Connect-Protocol-Version": "1",
            "Keepalive-Ping-Interval": str(_KEEPALIVE),
            **as_user(user),
            **(headers or {}),
        }
        return Messages(await self.send(ENVD_PORT, "POST", f"/{method}", head, frame(message)))

    def _credentials(self) -> dict[str, str]:
        return {"X-Access-Token": self._token} if self._token else {}


class Messages:
    """The messages of a streaming call."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._iterator = self._read()

    def __aiter__(self) -> AsyncIterator[Message]:
        """Yield them as they come, to the stream's proper end."""
        return self._iterator

    async def next(self, seconds: float = _SILENCE) -> Message | None:
        """Return the next one, None at the end; a guest that stays silent for `seconds` is taken for dead."""
        async with within(seconds):
            return await anext(self._iterator, None)

    async def aclose(self) -> None:
        """Close the stream, wherever it stands."""
        await self._reply.aclose()

    async def _read(self) -> AsyncIterator[Message]:
        frames, end = Frames(), None
        # Read on to the answer's own end: then its connection can be used again.
        async for piece in self._reply.pieces():
            for flags, body in frames.feed(piece):
                if end is not None:
                    raise unknown("something after the end of a call")
                message = message_of(body)
                if flags & END_OF_STREAM:
                    end = message
                else:
                    yield message
        if end is None:
            raise gone("The sandbox broke off in the middle of a call.")
        _check_end(end)


def _check_end(message: Message) -> None:
    error = message.get("error")
    if error is not None:
        fields = checked(error)
        raise ended(text_of(fields, "code", "unknown"), text_of(fields, "message", ""))


def as_user(user: str | None) -> dict[str, str]:
    """Return the header that says on whose behalf a call is made."""
    if user is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:'.encode()).decode()}"}


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Bound what happens inside to `seconds`.

    Raises:
        SandboxGone: The time is over; a sandbox that doesn't answer is as good as dead.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield scope
    except TimeoutError:
        if scope.expired():
            raise gone("The sandbox did not answer in time.") from None
        raise


def unknown(what: str) -> SandboxError:
    """Return the error for a message that a guest should not have sent."""
    return SandboxError(f"The sandbox sent {what}.")
