"""The daemon's side of an interpreter: starts it, gives it cells, interrupts it, replaces it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from .config import Config
from .connect import RpcError
from .languages import CHANNEL, Cell, Language, Order
from .proctree import Identity, process_table
from .pump import Pump, Send, output_pipes
from .results import Allowance
from .supervisor import Launch, Supervised, describe_status, end_or_die
from .users import User, environment, find_user, lookup

Line: TypeAlias = dict[str, object]
Emit: TypeAlias = Callable[..., Awaitable[None]]
"""Takes any number of lines of the wire; none is lost if it is cancelled while it waits for the reader."""

_LINE = 64 * 1024 * 1024
_PIECE = 32 * 1024
_BEGIN, _SECOND_INTERRUPT, _HEED, _START = 0.7, 0.3, 0.7, 30
_TRIES, _LAST_WORDS = 3, 0.2
_GONE = "Its variables are gone; a new one takes its place."
_TICKS = os.sysconf("SC_CLK_TCK")


class KernelDied(Exception):
    """The interpreter's process ended, or no longer answers as it should."""


def account(config: Config) -> User:
    """Say who runs code: root where the sandbox has one, as E2B's does, else its user.

    Raises:
        OSError: There is no account that may.
    """
    if config.allow_root and (root := lookup("root")) is not None:
        return root
    try:
        return find_user("", config)
    except RpcError as error:
        raise OSError(error.message) from None


class _Process:
    """A running interpreter: its family of processes, its output and the channel that carries cells and results."""

    def __init__(self, program: Supervised, pumps: tuple[Pump, Pump], language: Language, user: User) -> None:
        self.program = program
        self.pumps = pumps
        self.user = user
        self.told: Mapping[str, str] = {}
        self._over = False
        self.used = False
        self._language = language
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, language: Language, config: Config, cwd: str) -> _Process:
        """Start one.

        Raises:
            OSError: It could not be started.
            KernelDied: It ended before it was ready.
        """
        user = account(config)
        ours, theirs = socket.socketpair()
        out, err, out_fd, err_fd = output_pipes()
        null = os.open(os.devnull, os.O_RDONLY)
        fds = {0: null, 1: out_fd, 2: err_fd, CHANNEL: theirs.fileno()}
        launch = Launch(
            language.argv(config), cwd, fds, config.limits, environment(user, config), user, config.allow_root
        )
        try:
            program = await Supervised.start(launch)
        except BaseException:
            out.close()
            err.close()
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in (null, out_fd, err_fd):
                os.close(fd)
        kernel = cls(program, (out, err), language, user)
        kernel.told = dict(config.envs)
        program.own = True
        await kernel._meet(ours)
        return kernel

    async def _meet(self, channel: socket.socket) -> None:
        """Open the channel and wait for the first word on it."""
        for pump in self.pumps:
            pump.drop()
        self._reader, self._writer = await asyncio.open_connection(sock=channel, limit=_LINE)
        self.program.ended.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(_START):
                await self.receive()
        except BaseException as error:
            await self.end()
            if isinstance(error, TimeoutError):
                raise KernelDied from None
            raise

    def _ended(self, _status: object) -> None:
        # A child may hold the channel open after its interpreter is gone; its last words have come by then.
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._writer.transport.abort)

    async def order(self, cell: Cell, config: Config, cwd: str | None) -> None:
        """Hand it a cell."""
        changed = {name: value for name, value in config.envs.items() if self.told.get(name) != value}
        self.told = dict(config.envs)
        self.used = True
        self._writer.write(self._language.encode(Order(cell, changed, cwd)))
        await self._writer.drain()

    async def receive(self) -> dict[str, Any]:
        """Return its next message.

        Raises:
            KernelDied: It ended, or writes what is no message.
        """
        try:
            line = await self._reader.readline()
            message = json.loads(line) if line else None
        except (ValueError, OSError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise KernelDied
        return message

    def alive(self) -> bool:
        return not self._reader.at_eof() and not self.program.ended.done()

    def interrupt(self) -> None:
        if not self._language.whole_group:
            self.program.interrupt()
        elif not self.program.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.program.pid, signal.SIGINT)

    def older(self, tick: int) -> set[Identity]:
        """Return the interpreter itself and what it had started before a moment."""
        family = self.program.members(process_table())
        return {found.identity for found in family if found.pid == self.program.pid or found.start < tick}

    async def end(self) -> None:
        """Kill it with all that it started."""
        if self._over:
            return
        self._over = True
        await end_or_die(self.program)
        self._writer.close()
        for pump in self.pumps:
            pump.close()


class KernelHost:
    """A context's interpreter: one cell at a time, and a new interpreter when the old one is lost.

    Args:
        language: What it speaks.
        config: The daemon's; changes of it count from the next cell on.
        cwd: Says where it starts.
    """

    def __init__(self, language: Language, config: Config, cwd: Callable[[], str]) -> None:
        self._language, self._config, self._cwd = language, config, cwd
        self._lock = asyncio.Lock()
        self._kernel: _Process | None = None
        self._started_in = ""
        self._lost = False
        self._began = False
        self._count = 0

    async def prepare(self) -> None:
        """Start the interpreter ahead of the first cell.

        Raises:
            OSError, KernelDied: It could not be started.
        """
        async with self._lock:
            await self._ready()

    async def restart(self) -> None:
        """Start it anew; a cell that runs ends with an error. Raises as `prepare` does."""
        if self._kernel is not None:
            await self._kernel.end()
        async with self._lock:
            await self._ready()
            self._lost, self._count = False, 0

    async def close(self) -> None:
        """End it with everything that it started."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            await kernel.end()

    async def run(self, cell: Cell, emit: Emit) -> None:
        """Run a cell and tell `emit` what comes of it, in the lines of the wire.

        Cancelling this interrupts the cell, and replaces the interpreter if that isn't heeded.
        """
        async with self._lock:
            try:
                await self._run_in_turn(cell, emit)
            except OSError as error:
                await emit(_error("InterpreterNotStarted", f"The interpreter did not start: {error}."))
            except KernelDied:
                await emit(_error("InterpreterNotStarted", "The interpreter ended before it was ready."))

    async def _run_in_turn(self, cell: Cell, emit: Emit) -> None:
        kernel = await self._ready()
        restarted, self._lost = self._lost, False
        self._count += 1
        error = await self._run(kernel, cell, emit)
        if self._lost and not self._began:
            # It died of something earlier before it took the cell, so nothing of the cell has run: once more.
            await self._replace(kernel)
            kernel, restarted, self._lost = await self._ready(), True, False
            error = await self._run(kernel, cell, emit)
        await emit(*error)
        if restarted or self._lost:
            await emit({"type": "restarted"})
        if self._lost:
            await self._replace(kernel)
            self._lost = False

    async def _run(self, kernel: _Process, cell: Cell, emit: Emit) -> list[Line]:
        """Run a cell and return the lines that say how it failed."""
        kernel.program.out_of_memory, kernel.program.verdict = False, ""
        for pump in kernel.pumps:
            pump.listen(_stream_to(emit))
        tick = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)
        begun = asyncio.Event()
        work = asyncio.create_task(self._converse(kernel, cell, begun, emit))
        try:
            await _either(begun, work)
            done, _ = await asyncio.wait({work}, timeout=cell.seconds)
        except asyncio.CancelledError:
            # Held up by its own output, for which there is no reader any more, it could heed nothing.
            for pump in kernel.pumps:
                await pump.finish(_nobody)
            # A cell that waits for the interpreter to finish an import of its own has nothing to interrupt yet.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEGIN):
                    await _either(begun, work)
            await self._stop(kernel, work, tick)
            await self._quiet(kernel)
            raise
        self._began = begun.is_set()
        lines = await (self._outcome(kernel, work) if done else self._timed_out(kernel, work, tick, cell))
        for pump in kernel.pumps:
            await pump.finish(_stream_to(emit))
        if kernel.program.verdict and not self._lost:
            await emit(_text("stderr", f"\n[a process was killed: {kernel.program.verdict}]\n"))
        return lines

    async def _converse(self, kernel: _Process, cell: Cell, begun: asyncio.Event, emit: Emit) -> dict[str, Any]:
        """Hand over the cell, pass its results on, and return its last message."""
        cwd = self._cwd()
        moved = cwd if cwd != self._started_in and not kernel.used else None
        await kernel.order(cell, self._config, moved)
        allowance = Allowance()
        while (message := await kernel.receive()).get("type") != "end":
            if message.get("type") == "begin":
                begun.set()
                await emit({"type": "number_of_executions", "execution_count": self._count})
            elif message.get("type") == "result" and allowance.takes(message):
                await emit(message)
        if allowance.left_out:
            await emit(_text("stderr", f"\n[results that were too many or too large: {allowance.left_out}]\n"))
        return message

    async def _outcome(self, kernel: _Process, work: asyncio.Task[dict[str, Any]]) -> list[Line]:
        try:
            return _failure(work.result())
        except KernelDied:
            self._lost = True
            return [await self._cause_of_death(kernel)]

    async def _cause_of_death(self, kernel: _Process) -> Line:
        if verdict := kernel.program.verdict:
            name = "OutOfMemory" if kernel.program.out_of_memory else "OutOfDisk"
            return _error(name, f"The interpreter was killed: {verdict}. {_GONE}")
        try:
            async with asyncio.timeout(1):
                words = describe_status(await kernel.program.wait())[1]
        except TimeoutError:
            words = "closed its channel"
        return _error("InterpreterDied", f"The interpreter {words}. {_GONE}")

    async def _timed_out(
        self, kernel: _Process, work: asyncio.Task[dict[str, Any]], tick: int, cell: Cell
    ) -> list[Line]:
        await self._stop(kernel, work, tick)
        message = f"The cell was interrupted after {cell.seconds:g} s."
        if self._lost:
            message += f" It did not heed that, so its interpreter was killed. {_GONE}"
        failure = [] if self._lost else _failure(work.result())
        trace = str(failure[0].get("traceback", "")) if failure else ""
        return [_error("TimeoutError", message, trace), {"type": "interrupted", "reason": "timeout"}]

    async def _stop(self, kernel: _Process, work: asyncio.Task[dict[str, Any]], tick: int) -> None:
        """Interrupt the cell and end what it started; mark the interpreter as lost if it doesn't heed that."""
        kernel.interrupt()
        done, _ = await asyncio.wait({work}, timeout=_SECOND_INTERRUPT)
        if not await kernel.program.kill(spare=kernel.older(tick)):
            os._exit(1)
        if not done:
            # os.system() and the like ignore the interrupt while their child lives: try again now that it's dead.
            kernel.interrupt()
            done, _ = await asyncio.wait({work}, timeout=_HEED)
        if not done or work.exception() is not None:
            self._lost = True
            work.cancel()

    async def _quiet(self, kernel: _Process) -> None:
        """After a cancel nobody listens any more."""
        if self._lost:
            await self._replace(kernel)
            return
        for pump in kernel.pumps:
            await pump.finish(_nobody)

    async def _ready(self) -> _Process:
        """Return a living interpreter, of the account that code is to run as."""
        kernel = self._kernel
        if kernel is not None and not kernel.alive():
            self._lost = True
            await self._replace(kernel)
        elif kernel is not None and not kernel.used and kernel.user != account(self._config):
            await self._replace(kernel)
        if self._kernel is None:
            self._kernel = await self._start()
        return self._kernel

    async def _start(self) -> _Process:
        self._started_in = self._cwd()
        for _ in range(_TRIES - 1):
            # What kills the remains of another program may hit a supervisor that has only begun.
            with contextlib.suppress(KernelDied):
                return await _Process.start(self._language, self._config, self._started_in)
        return await _Process.start(self._language, self._config, self._started_in)

    async def _replace(self, kernel: _Process) -> None:
        self._kernel = None
        await kernel.end()
        with contextlib.suppress(OSError, KernelDied):
            self._kernel = await self._start()


def _failure(end: dict[str, Any]) -> list[Line]:
    """Return the error that an interpreter's last message tells of."""
    error, status = end.get("error"), end.get("status")
    if isinstance(error, dict):
        return [_error(*(str(error.get(key, "")) for key in ("name", "value", "traceback")))]
    return [_error("ExitStatus", str(status))] if status else []


def _error(name: str, value: str, traceback: str = "") -> Line:
    return {"type": "error", "name": name, "value": value, "traceback": traceback}


def _text(stream: str, text: str) -> Line:
    return {"type": stream, "text": text, "timestamp": datetime.now(UTC).isoformat()}


def _stream_to(emit: Emit) -> Send:
    """Take a pump's output and pass it on in pieces that every client can read as one line."""

    async def send(output: Line) -> None:
        stream, text = str(output["stream"]), str(output["text"])
        await emit(*(_text(stream, text[start : start + _PIECE]) for start in range(0, len(text), _PIECE)))

    return send


async def _either(begun: asyncio.Event, work: asyncio.Task[dict[str, Any]]) -> None:
    """Wait until the cell begins, or ends without."""
    waiting = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait({waiting, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _nobody(_output: Line) -> None:
    """Drop output."""
