"""Output on its way from a process to those who listen, at the pace of the slowest of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from .connect import Message

_CHUNK = 256 * 1024
_PIPE = 1024 * 1024
_F_SETPIPE_SZ = 1031
_USUAL_PIPE = 65536
_FULL = 512 * 1024

Item: TypeAlias = "tuple[str, bytes] | Message"


class Listener:
    """What one caller has yet to be told.

    Args:
        drained: Called when there is room again after it was full.
    """

    def __init__(self, drained: Callable[[], None]) -> None:
        self._items: deque[Item] = deque()
        self._size = 0
        self._drained = drained
        self._waiting: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether it has so much to tell already that the process should wait."""
        return self._size >= _FULL

    def tell(self, item: Item) -> None:
        """Add output (`stdout`, `stderr` or `pty`, and the bytes), or the message that ends it all."""
        self._items.append(item)
        if isinstance(item, tuple):
            self._size += len(item[1])
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def next(self, seconds: float) -> Item | None:
        """Return what is next, output of one kind joined; None if nothing came for so long."""
        if not self._items:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(seconds):
                    await self._waiting
            except TimeoutError:
                return None
            finally:
                self._waiting = None
        was_full = self.full
        item = self._joined(self._items.popleft())
        if was_full and not self.full:
            self._drained()
        return item

    def _joined(self, first: Item) -> Item:
        if not isinstance(first, tuple):
            return first
        kind, parts, size = first[0], [first[1]], len(first[1])
        while self._items and size < _CHUNK:
            follower = self._items[0]
            if not isinstance(follower, tuple) or follower[0] != kind:
                break
            parts.append(follower[1])
            size += len(follower[1])
            self._items.popleft()
        self._size -= size
        return kind, parts[0] if len(parts) == 1 else b"".join(parts)


class Outlet:
    """Reads one pipe or terminal and tells what comes.

    Args:
        kind: `stdout`, `stderr` or `pty`.
        descriptor: What to read; it belongs to the outlet from now on.
        tell: Is given each piece.
    """

    def __init__(self, kind: str, descriptor: int, tell: Callable[[str, bytes], None]) -> None:
        self.kind, self._fd, self._tell = kind, descriptor, tell
        self._open = self._reading = True
        self._grown = kind == "pty"
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._ready)

    def pause(self) -> None:
        """Let the process wait."""
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._fd)

    def resume(self) -> None:
        """Read on."""
        if self._open and not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._fd, self._ready)

    def finish(self) -> None:
        """Tell what is there now, then drop the rest: what a process left behind must not block on a full pipe."""
        budget = _PIPE
        while self._open and budget > 0:
            data = self._read()
            if not data:
                break
            budget -= len(data)
            self._tell(self.kind, data)
        self._tell = _nobody
        self.resume()

    def _ready(self) -> None:
        data = self._read()
        if data:
            self._tell(self.kind, data)
            if len(data) >= _USUAL_PIPE and not self._grown:
                self._grow()

    def _grow(self) -> None:
        """Make room for a process that writes much. The system may have no more to give."""
        self._grown = True
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._fd, _F_SETPIPE_SZ, _PIPE)

    def _read(self) -> bytes:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            # A terminal whose programs have all left says EIO.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._close()
        return data

    def _close(self) -> None:
        self._open = False
        self.pause()
        os.close(self._fd)


class Inlet:
    """Writes to a process's input.

    Args:
        descriptor: A pipe's writing end or a terminal; it belongs to the inlet from now on.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._fd = descriptor
        self._turn = asyncio.Lock()
        self.open = True

    async def write(self, data: bytes) -> None:
        """Write all of it, at the reader's pace.

        Raises:
            OSError: Nobody reads any more.
        """
        async with self._turn:
            rest = memoryview(data)
            while rest:
                if not self.open:
                    raise BrokenPipeError(errno.EPIPE, "the input is closed")
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    await self._writable()

    def close(self) -> None:
        """End the input."""
        if self.open:
            self.open = False
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)

    async def _writable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self._fd, ready.set)
        try:
            # Closing takes the descriptor from under us; look again now and then.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await ready.wait()
        finally:
            if self.open:
                loop.remove_writer(self._fd)


def _nobody(_kind: str, _data: bytes) -> None:
    """Drop output."""


def encode(item: tuple[str, bytes]) -> bytes:
    """Return output as the event that goes over the wire, without a detour through Python's objects."""
    return b'{"event":{"data":{"%b":"%b"}}}' % (item[0].encode(), base64.b64encode(item[1]))


def event(name: str, value: Any = None) -> Message:
    """Return another event as it goes over the wire."""
    return {"event": {name: {} if value is None else value}}
