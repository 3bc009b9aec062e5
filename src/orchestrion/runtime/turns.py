"""Runs of one session go one after the other: they share its files, its sandbox and its conversation."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from orchestrion.core.errors import StoreError

_POLL = 0.2


class SessionTurns:
    """Gives each session's turn to one run at a time, in the order in which they came.

    Within a process they queue; between processes a file lock decides, which the kernel lets go of when its holder
    dies.

    Args:
        directory: Where the lock files are; shared by all processes of one data directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, session_id: str, on_wait: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Hold a session's turn.

        Args:
            session_id: The session.
            on_wait: Awaited once if another run has the turn.

        Raises:
            StoreError: The lock file can't be made.
        """
        queue = self._queues.setdefault(session_id, asyncio.Lock())
        waits = queue.locked()
        if waits:
            await on_wait()
        async with queue:
            handle = self._take(session_id)
            if handle is None and not waits:
                await on_wait()
            while handle is None:
                await asyncio.sleep(_POLL)
                handle = self._take(session_id)
            try:
                yield
            finally:
                (self._directory / session_id).unlink(missing_ok=True)
                os.close(handle)

    def _take(self, session_id: str) -> int | None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._directory / session_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self._directory} can't be written: {error.strerror}.", "Check the disk.") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        if os.fstat(handle).st_nlink == 0:  # its holder removed it just before we got the lock
            os.close(handle)
            return None
        return handle
