"""What is on disk about the living sandboxes, so that any process of ours finds them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrion.core.errors import SandboxError
from orchestrion.core.ids import new_id

_YOUNG = 60


@dataclass(frozen=True)
class Record:
    """`sandbox.json`.

    Attributes:
        id: The sandbox's identifier, also its directory's name.
        session_id: The session it belongs to.
        provider: Who made it.
        pid: Its process 1, as the host sees it.
        start: When that process started, in ticks since boot: a later process with this pid is another one.
        boot: Which boot that was.
        uid: The user its files belong to; None if that is the caller.
        created_at: Seconds since the epoch.
    """

    id: str
    session_id: str
    provider: str
    pid: int
    start: int
    boot: str
    uid: int | None
    created_at: float

    def alive(self) -> bool:
        """Say whether its process 1 lives."""
        return self.boot == boot_id() and start_time(self.pid) == self.start


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None if it's gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def kill(record: Record, timeout: float = 5) -> bool:
    """Kill a sandbox's process 1, and with it all others; wait until it's gone. Say whether it is."""
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return True
    try:
        # The descriptor now names whoever has the pid; only if that is still ours may it be killed.
        if not record.alive():
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


class Records:
    """The directory `sandboxes` of a data directory.

    Args:
        root: Its path; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self) -> tuple[str, Path]:
        """Make a directory for a new sandbox, readable by us alone; return its id and path."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        sandbox_id = new_id("sbx")
        path = self.root / sandbox_id
        for place in (path, path / "run", path / "etc"):
            place.mkdir(mode=0o700)
        return sandbox_id, path

    def write(self, record: Record) -> None:
        """Keep a record, at once in full."""
        path = self.root / record.id / "sandbox.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(record)))
        part.replace(path)

    def living(self) -> list[Record]:
        """Return the records of all sandboxes that live, oldest first; sweep away what the dead left."""
        found: list[Record] = []
        for path in sorted(self.root.glob("sbx_*")):
            record = _read(path)
            if record is not None and record.alive():
                found.append(record)
            elif record is not None or _age(path) > _YOUNG:
                shutil.rmtree(path, ignore_errors=True)
        return found

    def of_session(self, session_id: str) -> Record | None:
        """Return the session's living sandbox's record."""
        return next((record for record in self.living() if record.session_id == session_id), None)

    def remove(self, sandbox_id: str) -> None:
        """Forget a sandbox."""
        shutil.rmtree(self.root / sandbox_id, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def locked(self, session_id: str, wait: float) -> AsyncIterator[None]:
        """Keep other processes from making a sandbox for this session meanwhile.

        Raises:
            SandboxError: Another process holds the lock for too long.
        """
        locks = self.root / "locks"
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A fixed number of files, so that they needn't be swept; two sessions may share one, which only costs a wait.
        slot = hashlib.sha256(session_id.encode()).digest()[0]
        fd = os.open(locks / f"{slot:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _lock(fd, wait)
            yield
        finally:
            os.close(fd)


async def _lock(fd: int, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SandboxError("Another process has been making this session's sandbox for too long.") from None
            await asyncio.sleep(0.01)


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads((path / "sandbox.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0
