"""Output on its way out: from a pipe to the host, at the host's pace."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Send: TypeAlias = Callable[[dict[str, object]], Awaitable[None]]

_CHUNK = 65536
_SMALL = 16384
_COALESCE = 0.01
_DRAIN_CHUNKS = 32


class Pump:
    """Carries one pipe's output to whoever listens at the moment.

    Between two cells, or once a command has ended but left processes behind, output is read and dropped, so that no
    process blocks on a full pipe. While somebody does, the pipe is read only as fast as the
    host takes it: an endless writer is slowed down, memory isn't filled.

    Args:
        stream: `stdout` or `stderr`.
        descriptor: The pipe's reading end, which now belongs to the pump.
    """

    def __init__(self, stream: str, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._stream, self._fd = stream, descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._task: asyncio.Task[None] | None = None
        self._open = True

    def listen(self, send: Send) -> None:
        """Give output to `send` from now on."""
        if self._open:
            asyncio.get_running_loop().remove_reader(self._fd)
        self._decoder.reset()
        self._task = asyncio.create_task(self._run(send))

    def drop(self) -> None:
        """Read and drop what comes, until somebody listens."""
        if self._open:
            asyncio.get_running_loop().add_reader(self._fd, self._read)

    async def finish(self, send: Send) -> None:
        """Send what is still in the pipe, then go back to dropping."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await self._task
            self._task = None
        await self._drain(send)
        self.drop()

    def close(self) -> None:
        """Let go of the pipe."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)

    async def _run(self, send: Send) -> None:
        while self._open:
            await self._readable()
            data = self._read()
            if data is None:
                continue
            await self._forward(data, send)
            # Many tiny writes become few messages: what comes within this moment is read at once.
            if len(data) < _SMALL:
                await asyncio.sleep(_COALESCE)

    async def _drain(self, send: Send) -> None:
        for _ in range(_DRAIN_CHUNKS):
            data = self._read() if self._open else None
            if not data:
                break
            await self._forward(data, send)
        if rest := self._decoder.decode(b"", final=True):
            await send({"type": "output", "stream": self._stream, "text": rest})

    async def _forward(self, data: bytes, send: Send) -> None:
        if text := self._decoder.decode(data):
            await send({"type": "output", "stream": self._stream, "text": text})

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            if self._open:
                loop.remove_reader(self._fd)

    def _read(self) -> bytes | None:
        """Return what is there now; None if nothing is; close at the end of the file."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.close()
        return data


def output_pipes() -> tuple[Pump, Pump, int, int]:
    """Return pumps for stdout and stderr, and the writing ends for the program (to be closed here once it runs)."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    return Pump("stdout", out_read), Pump("stderr", err_read), out_write, err_write
