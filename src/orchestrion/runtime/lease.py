"""Which worker processes are alive: each holds a file lock that the kernel lets go when the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from orchestrion.core.ids import new_id


class WorkerLease:
    """This process's claim to be alive.

    Args:
        directory: Where the lock files are; shared by all processes of one data directory.
    """

    def __init__(self, directory: Path) -> None:
        self.worker = new_id("wkr")
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(directory / self.worker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def alive(self, worker: str | None) -> bool:
        """Say whether a worker's process lives; its file is removed if it does not."""
        if worker is None:
            return False
        if worker == self.worker:
            return True
        try:
            handle = os.open(self._directory / worker, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            (self._directory / worker).unlink(missing_ok=True)
            return False
        finally:
            os.close(handle)

    def release(self) -> None:
        """Let go: whatever this worker still holds is up for others."""
        (self._directory / self.worker).unlink(missing_ok=True)
        os.close(self._handle)
