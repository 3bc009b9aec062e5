"""Cells in live interpreters."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import orjson

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.client.collect import Collector
from orchestrion.sandbox.client.commands import GRACE, milliseconds
from orchestrion.sandbox.client.failures import gone
from orchestrion.sandbox.client.guest import Guest, unknown
from orchestrion.sandbox.client.transport import Reply
from orchestrion.sandbox.client.wire import Lines, Message, checked, message_of, text_of, value_of
from orchestrion.sandbox.protocols import (
    CODE_PORT,
    CodeError,
    CodeResult,
    Context,
    Language,
    OnOutput,
    Rich,
    RichKind,
)

_JSON = {"Content-Type": "application/json"}
_START_SECONDS = 60
_RESULTS = 200
_RESULT_BYTES = 64 * 1024 * 1024
# The richest representation first, plain text last.
_KINDS: tuple[RichKind, ...] = (
    *("html", "markdown", "svg", "png", "jpeg", "pdf", "latex"),
    *("javascript", "data", "chart", "json", "text"),
)
_BINARY = ("png", "jpeg", "pdf")


async def run(
    guest: Guest,
    code: str,
    *,
    language: Language,
    context: str | None,
    env: Mapping[str, str],
    timeout: float,
    on_output: OnOutput | None,
) -> CodeResult:
    """Run a cell; see `Sandbox.run_code`.

    Our own daemon minds the time and says what became of the interpreter. Of any other the call is broken off at its
    deadline, on which the cell is interrupted.
    """
    ours = await guest.ours()
    scope = asyncio.timeout(timeout + GRACE if ours else timeout)
    cell = _Cell(Collector(on_output, scope))
    message = {
        "code": code,
        "context_id": context,
        "language": None if context else language,
        "env_vars": dict(env) or None,
    }
    headers = {**_JSON, "Orchestrion-Timeout-Ms": milliseconds(timeout)}
    try:
        async with scope:
            reply = await guest.send(CODE_PORT, "POST", "/execute", headers, orjson.dumps(message))
            async with contextlib.aclosing(reply):
                await cell.follow(reply)
    except TimeoutError:
        if not scope.expired():
            raise
        if ours:
            raise gone("The sandbox went on past its time.") from None
        cell.timed_out = True
    return cell.result()


class _Cell:
    """What a cell has given so far."""

    def __init__(self, seen: Collector) -> None:
        self._seen = seen
        self._begin = time.monotonic()
        self._results: list[Rich] = []
        self._size = 0
        self._error: CodeError | None = None
        self._restarted = False
        self.timed_out = False

    async def follow(self, reply: Reply) -> None:
        """Take all that an answer says.

        Raises:
            SandboxGone: It broke off.
            SandboxError: It makes no sense.
        """
        ended = False
        # Read on to the answer's own end: then its connection can be used again.
        async for line in _lines(reply):
            if ended:
                raise unknown("something after the end of a cell")
            message = message_of(line)
            match message.get("type"):
                case "stdout":
                    await self._seen.take("stdout", text_of(message, "text"))
                case "stderr":
                    await self._seen.take("stderr", text_of(message, "text"))
                case "end_of_execution":
                    ended = True
                case _:
                    self._note(message)
        if not ended:
            raise gone("The sandbox broke off in the middle of a call.")

    def _note(self, message: Message) -> None:
        match message.get("type"):
            case "result":
                self._take_result(message)
            case "error" if self._error is None:
                self._error = CodeError(*(text_of(message, key, "") for key in ("name", "value", "traceback")))
            case "interrupted":
                self.timed_out = True
            case "restarted":
                self._restarted = True

    def _take_result(self, message: Message) -> None:
        for kind in _KINDS:
            value = message.get(kind)
            if value is None:
                continue
            data = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
            data = text_of({kind: data}, kind)
            self._size += len(data)
            if self._size > _RESULT_BYTES or len(self._results) >= _RESULTS:
                raise unknown("results that are too many or too large")
            if kind in _BINARY:
                _check_base64(data)
            self._results.append(Rich(kind, data))

    def result(self) -> CodeResult:
        """Return what the cell gave."""
        return CodeResult(
            stdout=self._seen.text("stdout"),
            stderr=self._seen.text("stderr"),
            results=self._results,
            error=None if self.timed_out else self._error,
            timed_out=self.timed_out,
            restarted=self._restarted,
            seconds=time.monotonic() - self._begin,
        )


async def _lines(reply: Reply) -> AsyncIterator[bytes]:
    lines = Lines()
    async for piece in reply.pieces():
        for line in lines.feed(piece):
            if line:
                yield line


def _check_base64(data: str) -> None:
    try:
        base64.b64decode(data)
    except (binascii.Error, ValueError):
        raise SandboxError("The sandbox sent a picture that is not base64.") from None


async def make_context(guest: Guest, language: Language, cwd: str) -> Context:
    """Start a further interpreter."""
    body = orjson.dumps({"language": language, "cwd": cwd})
    return _context(value_of(await guest.fetch(CODE_PORT, "POST", "/contexts", _JSON, body, seconds=_START_SECONDS)))


async def contexts(guest: Guest) -> list[Context]:
    """Return the live interpreters."""
    found = value_of(await guest.fetch(CODE_PORT, "GET", "/contexts"))
    if not isinstance(found, list):
        raise unknown("a list of interpreters that is none")
    return [_context(one) for one in found]


async def restart_context(guest: Guest, context: str) -> None:
    """Start an interpreter anew."""
    await guest.fetch(CODE_PORT, "POST", f"/contexts/{quote(context, safe='')}/restart", seconds=_START_SECONDS)


async def remove_context(guest: Guest, context: str) -> None:
    """End an interpreter."""
    await guest.fetch(CODE_PORT, "DELETE", f"/contexts/{quote(context, safe='')}")


def _context(value: object) -> Context:
    fields = checked(value)
    return Context(text_of(fields, "id"), text_of(fields, "language"), text_of(fields, "cwd", ""))
