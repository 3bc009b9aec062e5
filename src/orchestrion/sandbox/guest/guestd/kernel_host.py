"""The daemon's side of the kernel: starts it, gives it cells, interrupts it, replaces it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from typing import Any

from .commands import end_or_die
from .limits import GuestLimits
from .proctree import Identity
from .pump import Pump, Send, output_pipes
from .supervisor import Launch, Supervised, describe_status

_LINE = 16 * 1024 * 1024
_CHANNEL = 3
_BEGIN, _SECOND_INTERRUPT, _HEED = 0.7, 0.3, 0.7


class KernelDied(Exception):
    """The kernel's process ended in the middle of a cell."""


class _Process:
    """A running kernel: its family of processes, its output and the channel that carries cells and results."""

    def __init__(self, program: Supervised, pumps: tuple[Pump, Pump], channel: socket.socket) -> None:
        self.program = program
        self.pumps = pumps
        self._channel = channel
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, limits: GuestLimits) -> _Process:
        ours, theirs = socket.socketpair()
        out, err, out_fd, err_fd = output_pipes()
        null = os.open(os.devnull, os.O_RDONLY)
        warm = "warm" if limits.memory_mb >= 1024 else "cold"
        argv = [sys.executable, "-P", "-m", "guestd.kernel", str(_CHANNEL), warm]
        fds = {0: null, 1: out_fd, 2: err_fd, _CHANNEL: theirs.fileno()}
        try:
            program = await Supervised.start(Launch(argv, "/workspace", fds, limits))
        except OSError:
            out.close()
            err.close()
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in (null, out_fd, err_fd):
                os.close(fd)
        out.drop()
        err.drop()
        kernel = cls(program, (out, err), ours)
        kernel._reader, kernel._writer = await asyncio.open_connection(sock=ours, limit=_LINE)
        return kernel

    async def send(self, message: dict[str, object]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any]:
        """Return its next message.

        Raises:
            KernelDied: It ended, or writes what is no message.
        """
        try:
            line = await self._reader.readline()
            message = json.loads(line) if line else None
        except (ValueError, OSError):
            message = None
        if not isinstance(message, dict):
            raise KernelDied
        return message

    def alive(self) -> bool:
        return not self._reader.at_eof()

    async def end(self) -> None:
        await end_or_die(self.program)
        self._writer.close()
        for pump in self.pumps:
            pump.close()


class KernelHost:
    """The session's Python: one cell at a time, always one kernel ready.

    Args:
        limits: What its processes may use.
        running: The list of what runs now, for the memory watch.
    """

    def __init__(self, limits: GuestLimits, running: set[Supervised]) -> None:
        self._limits = limits
        self._running = running
        self._lock = asyncio.Lock()
        self._kernel: _Process | None = None
        self._lost = False
        self._began = False

    async def prepare(self) -> None:
        """Start the kernel ahead of the first cell."""
        async with self._lock:
            with contextlib.suppress(OSError):
                await self._ready()

    async def run(self, request: dict[str, Any], send: Send) -> dict[str, object]:
        """Run a cell; cancelling this interrupts it, and replaces the kernel if that isn't heeded."""
        async with self._lock:
            kernel = await self._ready()
            restarted, self._lost = self._lost, False
            result = await self._run(kernel, request, send)
            if self._lost and not self._began:
                # It died of something earlier before it took the cell, so nothing of the cell has run: once more.
                await self._replace(kernel)
                kernel = await self._ready()
                restarted, self._lost = True, False
                result = await self._run(kernel, request, send)
            result["restarted"] = restarted or self._lost
            if self._lost:
                await self._replace(kernel)
                self._lost = False
            return result

    async def _run(self, kernel: _Process, request: dict[str, Any], send: Send) -> dict[str, object]:
        kernel.program.out_of_memory = False
        for pump in kernel.pumps:
            pump.listen(send)
        before = kernel.program.family()
        begun = asyncio.Event()
        cell = asyncio.create_task(self._cell(kernel, str(request["code"]), begun, send))
        try:
            await _either(begun, cell)
            done, _ = await asyncio.wait({cell}, timeout=float(request["timeout"]))
        except asyncio.CancelledError:
            # A cell that waits for the kernel to finish an import of its own can't be interrupted before it begins.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEGIN):
                    await _either(begun, cell)
            await self._stop(kernel, cell, before)
            await self._quiet(kernel)
            raise
        self._began = begun.is_set()
        if done:
            result = await self._outcome(kernel, cell)
        else:
            result = await self._timed_out(kernel, cell, before, float(request["timeout"]))
        for pump in kernel.pumps:
            await pump.finish(send)
        if kernel.program.out_of_memory and not self._lost:
            text = f"\n[a process was killed: over the sandbox's memory limit of {self._limits.memory_mb} MiB]\n"
            await send({"type": "output", "stream": "stderr", "text": text})
        return result

    async def _cell(self, kernel: _Process, code: str, begun: asyncio.Event, send: Send) -> dict[str, Any]:
        await kernel.send({"code": code})
        while (message := await kernel.receive()).get("type") in ("begin", "rich"):
            begun.set()
            if message["type"] == "rich":
                await send(message)
        return message

    async def _outcome(self, kernel: _Process, cell: asyncio.Task[dict[str, Any]]) -> dict[str, object]:
        try:
            return {"type": "done", "error": cell.result().get("error"), "timed_out": False}
        except KernelDied:
            self._lost = True
            return {"type": "done", "error": await self._cause_of_death(kernel), "timed_out": False}

    async def _cause_of_death(self, kernel: _Process) -> dict[str, str]:
        gone = "Its variables are gone; a new interpreter has taken its place."
        if kernel.program.out_of_memory:
            limit = f"over the sandbox's memory limit of {self._limits.memory_mb} MiB"
            return {"name": "OutOfMemory", "message": f"The interpreter was killed: {limit}. {gone}", "traceback": ""}
        try:
            async with asyncio.timeout(1):
                words = describe_status(await kernel.program.wait())[1]
        except TimeoutError:
            words = "closed its channel"
        return {"name": "InterpreterDied", "message": f"The interpreter {words}. {gone}", "traceback": ""}

    async def _timed_out(
        self, kernel: _Process, cell: asyncio.Task[dict[str, Any]], before: set[Identity], seconds: float
    ) -> dict[str, object]:
        await self._stop(kernel, cell, before)
        message = f"The cell was interrupted after {seconds:g} s."
        if self._lost:
            message += " It did not heed that, so its interpreter was replaced: its variables are gone."
        error = None if self._lost else cell.result().get("error")
        trace = str(error.get("traceback", "")) if isinstance(error, dict) else ""
        error = {"name": "TimeoutError", "message": message, "traceback": trace}
        return {"type": "done", "error": error, "timed_out": True}

    async def _stop(self, kernel: _Process, cell: asyncio.Task[dict[str, Any]], before: set[Identity]) -> None:
        """Interrupt the cell and end what it started; mark the kernel as lost if it doesn't heed that."""
        kernel.program.interrupt()
        done, _ = await asyncio.wait({cell}, timeout=_SECOND_INTERRUPT)
        if not await kernel.program.kill(spare=before):
            os._exit(1)
        if not done:
            # os.system() and the like ignore the interrupt while their child lives: try again now that it's dead.
            kernel.program.interrupt()
            done, _ = await asyncio.wait({cell}, timeout=_HEED)
        if not done or cell.exception() is not None:
            self._lost = True
            cell.cancel()

    async def _quiet(self, kernel: _Process) -> None:
        """After a cancel nobody listens any more."""
        if self._lost:
            await self._replace(kernel)
            return
        for pump in kernel.pumps:
            await pump.finish(_nobody)

    async def _ready(self) -> _Process:
        if self._kernel is not None and not self._kernel.alive():
            self._lost = True
            await self._replace(self._kernel)
        if self._kernel is None:
            self._kernel = await _Process.start(self._limits)
            self._running.add(self._kernel.program)
        return self._kernel

    async def _replace(self, kernel: _Process) -> None:
        self._running.discard(kernel.program)
        self._kernel = None
        await kernel.end()
        with contextlib.suppress(OSError):
            self._kernel = await _Process.start(self._limits)
            self._running.add(self._kernel.program)


async def _either(begun: asyncio.Event, cell: asyncio.Task[dict[str, Any]]) -> None:
    """Wait until the cell begins, or ends without."""
    waiting = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait({waiting, cell}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _nobody(_message: dict[str, object]) -> None:
    """Drop output."""
