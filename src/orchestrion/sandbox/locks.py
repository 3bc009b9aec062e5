"""Locks that hold between processes; the kernel lets go of one when its holder dies, however it dies."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

from orchestrion.core.errors import SandboxError

Kind = Literal["session", "quota", "sandbox"]
_WAIT = 60.0
_POLL = 0.01


class Locks:
    """Named locks. Whoever needs several takes them in this order: session, quota, sandbox, and one of each.

    Args:
        directory: Where their files are; made when first needed. There is a fixed number of them, so that none needs
            sweeping: two names may share one, which only costs a wait.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.asynccontextmanager
    async def held(self, kind: Kind, name: str, wait: float = _WAIT) -> AsyncIterator[None]:
        """Keep everybody else out, in this process and in others.

        Args:
            kind: What is locked.
            name: Which one.
            wait: Seconds.

        Raises:
            SandboxError: Somebody holds it for too long.
        """
        for place in (self._directory.parent, self._directory):  # a mode counts for the last part alone
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        slot = hashlib.sha256(name.encode()).digest()[0]
        handle = os.open(self._directory / f"{kind}-{slot:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _take(handle, wait)
            yield
        finally:
            os.close(handle)


async def _take(handle: int, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SandboxError("Another process has been busy with this sandbox for too long.") from None
            await asyncio.sleep(_POLL)


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Say, as long as this lasts, that something is in use; any number may at once."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Only `unused` takes it exclusively, and lets go at once.
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def unused(path: Path) -> bool:
    """Say whether nobody holds `shared` of this path."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
