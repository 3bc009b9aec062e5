"""What processes of the sandboxes print, kept for those who look later."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import structlog

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.protocols import Process, ProcessEnd, ProcessOutput, Sandbox

log = structlog.get_logger(__name__)

_KEPT = 1024 * 1024
_KEPT_ENDED = 64


@dataclass(frozen=True)
class LogLine:
    """One piece of a process's log.

    Attributes:
        seq: Counted from 1; a reader may come back at any one that is still kept.
        kind: `stdout`, `stderr`, `pty`, `end` or `note`.
        data: Base64 of the output; the sentence of a note; the exit code of an end.
    """

    seq: int
    kind: str
    data: str | int


@dataclass
class _Log:
    lines: deque[LogLine] = field(default_factory=deque)
    size: int = 0
    seq: int = 0
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, kind: str, data: str | int) -> None:
        """Append a piece; the oldest make room for it."""
        async with self.changed:
            self.seq += 1
            self.lines.append(LogLine(self.seq, kind, data))
            self.size += len(str(data))
            while self.size > _KEPT and len(self.lines) > 1:
                self.size -= len(str(self.lines.popleft().data))
            self.ended = self.ended or kind == "end"
            self.changed.notify_all()


class ProcessLogs:
    """Watches processes that were started through the API, and those that somebody asks for.

    The sandbox itself keeps no output that nobody watches; so what a process printed before it was watched is lost,
    and the log says so.
    """

    def __init__(self) -> None:
        self._logs: dict[tuple[str, int], _Log] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, sandbox: Sandbox, process: Process) -> None:
        """Keep what a process prints from now on."""
        self._begin((sandbox.id, process.pid), process)

    async def follow(self, sandbox: Sandbox, pid: int, after: int = 0) -> AsyncGenerator[LogLine, None]:
        """Yield a process's log from a number on, until the process has ended.

        Raises:
            NotFound: There is no such process, and none is remembered.
        """
        log_of = self._logs.get((sandbox.id, pid))
        if log_of is None:
            log_of = self._begin((sandbox.id, pid), await sandbox.processes.connect(pid))
            await log_of.add("note", "What it printed before was not kept.")
        return self._lines(log_of, after)

    async def _lines(self, log_of: _Log, after: int) -> AsyncGenerator[LogLine, None]:
        while True:
            fresh = [line for line in log_of.lines if line.seq > after]
            if fresh and fresh[0].seq > after + 1:
                yield LogLine(fresh[0].seq - 1, "note", "Earlier output is no longer kept.")
            for line in fresh:
                yield line
                after = line.seq
            async with log_of.changed:
                if log_of.seq > after:
                    continue
                if log_of.ended:
                    return
                await log_of.changed.wait()

    def _begin(self, key: tuple[str, int], process: Process) -> _Log:
        self._forget_old()
        log_of = self._logs[key] = _Log()
        task = asyncio.create_task(self._record(log_of, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return log_of

    async def _record(self, log_of: _Log, process: Process) -> None:
        try:
            async for event in process.events():
                if isinstance(event, ProcessOutput):
                    await log_of.add(event.stream, base64.b64encode(event.data).decode())
                elif isinstance(event, ProcessEnd):
                    await log_of.add("end", event.exit_code)
        except OrchestrionError as error:
            await log_of.add("note", error.detail)
        finally:
            log_of.ended = True
            async with log_of.changed:
                log_of.changed.notify_all()
            with contextlib.suppress(OrchestrionError):
                await process.close()

    def _forget_old(self) -> None:
        ended = [key for key, kept in self._logs.items() if kept.ended]
        for key in ended[: max(0, len(ended) - _KEPT_ENDED)]:
            del self._logs[key]

    async def aclose(self) -> None:
        """Stop watching; the processes go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
