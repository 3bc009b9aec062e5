"""A living local sandbox, as its host sees it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from orchestrion.core.errors import SandboxError, SandboxGone
from orchestrion.sandbox.local.capture import Capture
from orchestrion.sandbox.local.records import Record, Records, kill
from orchestrion.sandbox.local.wire import Connection, text_of
from orchestrion.sandbox.protocols import CodeError, CodeResult, CommandResult, OnOutput, Output, Rich, Stream

Kind: TypeAlias = Literal["text", "html", "json", "png"]

_GRACE = 10
_RICH_BYTES = 64 * 1024 * 1024
_RICH_COUNT = 200
_KINDS: dict[str, Kind] = {"text": "text", "html": "html", "json": "json", "png": "png"}
_STREAMS: dict[str, Stream] = {"stdout": "stdout", "stderr": "stderr"}


class _Collector:
    """Takes the messages of one call: output to the caller and, to a bound, into the result."""

    def __init__(self, on_output: OnOutput | None) -> None:
        self._on_output = on_output
        self.captures: dict[Stream, Capture] = {"stdout": Capture(), "stderr": Capture()}
        self.results: list[Rich] = []
        self.waited = 0.0
        self._rich_size = 0

    async def take(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "output":
                await self._output(text_of(message, "stream"), text_of(message, "text"))
            case "rich":
                self._rich(text_of(message, "kind"), text_of(message, "data"))
            case _:
                raise SandboxError("The sandbox sent a message of an unknown kind.")

    async def _output(self, stream: str, text: str) -> None:
        if stream not in _STREAMS:
            raise SandboxError("The sandbox sent output of an unknown stream.")
        self.captures[_STREAMS[stream]].add(text)
        if self._on_output is not None:
            begin = time.monotonic()
            await self._on_output(Output(_STREAMS[stream], text))
            self.waited += time.monotonic() - begin

    def _rich(self, kind: str, data: str) -> None:
        self._rich_size += len(data)
        if kind not in _KINDS or self._rich_size > _RICH_BYTES or len(self.results) >= _RICH_COUNT:
            raise SandboxError("The sandbox sent results that are too many, too large or of an unknown kind.")
        self.results.append(Rich(_KINDS[kind], data))


class LocalSandbox:
    """Implements `orchestrion.sandbox.Sandbox`.

    Args:
        record: What is known of it.
        records: Where that is kept.
    """

    def __init__(self, record: Record, records: Records) -> None:
        self._record = record
        self._records = records

    @property
    def id(self) -> str:
        """Its identifier."""
        return self._record.id

    @property
    def provider(self) -> str:
        """The name of its provider."""
        return self._record.provider

    @property
    def pid(self) -> int:
        """Its process 1, as the host sees it."""
        return self._record.pid

    async def run_code(self, code: str, *, timeout: float = 120, on_output: OnOutput | None = None) -> CodeResult:
        """Run a cell in the session's Python; see `Sandbox.run_code`."""
        begin = time.monotonic()
        request: dict[str, object] = {"op": "run_code", "code": code, "timeout": timeout}
        end, seen = await self._call(request, timeout, on_output)
        return CodeResult(
            stdout=seen.captures["stdout"].text(),
            stderr=seen.captures["stderr"].text(),
            results=seen.results,
            error=_code_error(end.get("error")),
            timed_out=end.get("timed_out") is True,
            restarted=end.get("restarted") is True,
            seconds=time.monotonic() - begin,
        )

    async def run_command(
        self,
        command: str,
        *,
        timeout: float = 120,
        cwd: str = "/workspace",
        on_output: OnOutput | None = None,
    ) -> CommandResult:
        """Run a shell command; see `Sandbox.run_command`."""
        begin = time.monotonic()
        request: dict[str, object] = {"op": "run_command", "command": command, "cwd": cwd, "timeout": timeout}
        end, seen = await self._call(request, timeout, on_output)
        code = end.get("exit_code")
        if not isinstance(code, int) or not 0 <= code <= 255:
            raise SandboxError("The sandbox sent a result without an exit code.")
        return CommandResult(
            exit_code=code,
            stdout=seen.captures["stdout"].text(),
            stderr=seen.captures["stderr"].text(),
            timed_out=end.get("timed_out") is True,
            seconds=time.monotonic() - begin,
        )

    async def ping(self, within: float = 1) -> bool:
        """Say whether it is alive and answers, in `within` seconds."""
        try:
            async with asyncio.timeout(within):
                connection = await Connection.open(self._run)
                try:
                    await connection.send({"op": "ping"})
                    return (await connection.receive(within)).get("type") == "pong"
                finally:
                    connection.close()
        except (SandboxError, TimeoutError):
            return False

    async def close(self) -> None:
        """End it and every process in it. Never raises; may be called twice."""
        if await asyncio.to_thread(kill, self._record):
            await asyncio.to_thread(self._records.remove, self.id)

    @property
    def _run(self) -> Path:
        return self._records.root / self.id / "run"

    async def _call(
        self, request: dict[str, object], seconds: float, on_output: OnOutput | None
    ) -> tuple[dict[str, Any], _Collector]:
        """Carry out one request; however it ends here, nothing that it started goes on there."""
        connection = await Connection.open(self._run)
        seen = _Collector(on_output)
        try:
            await connection.send(request)
            end = await self._converse(connection, seen, seconds)
        except SandboxGone:
            await self.close()
            raise
        except BaseException:
            await asyncio.shield(self._cancel(connection))
            raise
        finally:
            connection.close()
        if end.get("type") == "failed":
            raise SandboxError(f"The sandbox could not do that: {text_of(end, 'message')[:500]}.")
        return end, seen

    async def _converse(self, connection: Connection, seen: _Collector, seconds: float) -> dict[str, Any]:
        begin = time.monotonic()
        while True:
            left = begin + seconds + _GRACE + seen.waited - time.monotonic()
            if left <= 0:  # a guest that never pauses would never let `receive` time out
                raise SandboxGone("The sandbox went on past its time.", "The next request makes a new one.")
            message = await connection.receive(left)
            if message.get("type") in ("done", "failed"):
                return message
            await seen.take(message)

    async def _cancel(self, connection: Connection) -> None:
        """Stop the request; a guest that doesn't confirm that in time is ended as a whole."""
        if not await connection.cancel():
            await self.close()


def _code_error(value: object) -> CodeError | None:
    if not isinstance(value, dict):
        return None
    return CodeError(*(text_of(value, key) for key in ("name", "message", "traceback")))
