"""What is kept on disk about every sandbox, beside what its provider keeps: whose it is and how long it may live.

`held/<id>.json` is a sandbox's lease, `held/<id>.use` says by its time when the sandbox was last used and by its lock
whether it is in use now, `held/sessions/<session>` names the session's sandbox or, after `!`, why it is gone;
`held/snapshots/` says whose those are, `held/coming/` which sandboxes are just being made.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from orchestrion.core.errors import NotFound
from orchestrion.sandbox.locks import Kind, Locks, shared, unused
from orchestrion.sandbox.protocols import SandboxInfo

OnTimeout = Literal["kill", "pause"]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Lease:
    """How long a sandbox may live, and whose it is. Times are seconds since the epoch.

    Attributes:
        id: The sandbox.
        provider: Who makes it.
        session_id: The session that it belongs to; None for one that was made for itself.
        owner: Whose quota it counts against.
        created_at: When it was made.
        seconds: The time that it was given last; None for no limit.
        ends_at: When that is over; None for never, or while it is paused.
        on_timeout: What happens then.
        auto_resume: Traffic wakes it from a pause.
        keep_memory: A pause at the end of its time keeps its processes.
        paused: It is paused.
        memory: Its processes are there, running or kept by a pause.
        fresh: It was started anew on its files, and its session has not heard of that yet.
        epoch: How often it was resumed; what is known of an earlier epoch may not hold any more.
    """

    id: str
    provider: str
    session_id: str | None
    owner: str
    created_at: float
    seconds: float | None = None
    ends_at: float | None = None
    on_timeout: OnTimeout = "kill"
    auto_resume: bool = False
    keep_memory: bool = True
    paused: bool = False
    memory: bool = True
    fresh: bool = False
    epoch: int = 0


@dataclass(frozen=True)
class Held:
    """What is known of a sandbox and how long it may live.

    Attributes:
        info: What its provider knows.
        ends_at: When its time is over; None for never, or while it is paused.
        on_timeout: What happens then.
        auto_resume: Traffic wakes it from a pause.
        keep_memory: A pause at the end of its time keeps its processes.
    """

    info: SandboxInfo
    ends_at: datetime | None
    on_timeout: OnTimeout
    auto_resume: bool
    keep_memory: bool

    @classmethod
    def of(cls, lease: Lease, info: SandboxInfo) -> Held:
        """Put together what is known from both sides."""
        ends_at = None if lease.ends_at is None else datetime.fromtimestamp(lease.ends_at, UTC)
        return cls(info, ends_at, lease.on_timeout, lease.auto_resume, lease.keep_memory)


class Registry:
    """The leases of one data directory, seen alike by all its processes.

    A single lease is read on the event loop: a few system calls, mostly on a file that is known already, take a
    fraction of what handing them to a thread does.

    Args:
        directory: Where they are; made when the first is kept.
        clock: Returns the time, seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._root = directory
        self._clock = clock
        self._locks = Locks(directory / "locks")
        self._read: dict[str, tuple[tuple[int, int], Lease]] = {}

    def locked(self, kind: Kind, name: str) -> AbstractAsyncContextManager[None]:
        """Keep others from changing this session's sandbox, this owner's number of them, or this sandbox."""
        return self._locks.held(kind, name)

    async def keep(self, lease: Lease) -> None:
        """Write a lease, at once in full."""
        await asyncio.to_thread(self._keep, lease)

    def _keep(self, lease: Lease) -> None:
        self.make_directories()
        _write(self._root / f"{lease.id}.json", json.dumps(asdict(lease)))
        if lease.session_id is not None:
            _write(self._root / "sessions" / lease.session_id, lease.id)
        (self._root / f"{lease.id}.use").touch(mode=0o600)

    def make_directories(self) -> None:
        """Make the directories if they are missing."""
        for place in (self._root, self._root / "sessions", self._root / "snapshots", self.coming):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def get(self, sandbox_id: str) -> Lease:
        """Return a sandbox's lease.

        Raises:
            NotFound: There is no such sandbox.
        """
        lease = self._load(sandbox_id)
        if lease is None:
            raise NotFound(
                f"There is no sandbox {sandbox_id[:80]}.", "`orchestrion sandbox list` shows those there are."
            )
        return lease

    async def of_session(self, session_id: str) -> Lease | None:
        """Return the lease of a session's sandbox; None if it has none."""
        return self._of_session(session_id)

    def _of_session(self, session_id: str) -> Lease | None:
        try:
            sandbox_id = (self._root / "sessions" / session_id).read_text()
        except OSError:
            return None
        return self._load(sandbox_id)

    async def why_gone(self, session_id: str) -> str:
        """Return, once, why a session's sandbox is gone; empty if it has one or never had."""
        return self._why_gone(session_id)

    def _why_gone(self, session_id: str) -> str:
        path = self._root / "sessions" / session_id
        try:
            text = path.read_text()
        except OSError:
            return ""
        if not text.startswith("!"):
            return ""
        path.unlink(missing_ok=True)
        return text[1:]

    async def all(self) -> list[Lease]:
        """Return every lease, the oldest sandbox's first."""
        return await asyncio.to_thread(self.now)

    def now(self) -> list[Lease]:
        """As `all`, for a thread that may block."""
        names = [path.stem for path in self._root.glob("*.json")]
        for gone in self._read.keys() - set(names):
            self._read.pop(gone, None)
        found = [lease for name in names if (lease := self._load(name))]
        return sorted(found, key=lambda lease: (lease.created_at, lease.id))

    def _load(self, sandbox_id: str) -> Lease | None:
        """Read a lease, unless it is still the one that was read last time."""
        if not sandbox_id.isalnum():
            return None
        path = self._root / f"{sandbox_id}.json"
        try:
            found = path.stat()
            version = (found.st_mtime_ns, found.st_ino)
            known = self._read.get(sandbox_id)
            if known is None or known[0] != version:
                known = self._read[sandbox_id] = version, Lease(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return known[1]

    async def forget(self, lease: Lease, why: str = "") -> None:
        """Drop a lease; `why` is what its session is told when it asks for its sandbox again."""
        await asyncio.to_thread(self._forget, lease, why)

    def _forget(self, lease: Lease, why: str) -> None:
        current = self._of_session(lease.session_id) if lease.session_id else None
        if lease.session_id is not None and current is not None and current.id == lease.id:
            path = self._root / "sessions" / lease.session_id
            if why:
                _write(path, f"!{why}")
            else:
                path.unlink(missing_ok=True)
        for suffix in (".json", ".use"):
            (self._root / f"{lease.id}{suffix}").unlink(missing_ok=True)

    # Use

    def touch(self, sandbox_id: str) -> None:
        """Note that a sandbox is used just now."""
        now = self._clock()
        with contextlib.suppress(OSError):  # it was removed meanwhile
            os.utime(self._root / f"{sandbox_id}.use", (now, now))

    def used_at(self, lease: Lease) -> float:
        """Return when a sandbox was last used."""
        try:
            return max((self._root / f"{lease.id}.use").stat().st_mtime, lease.created_at)
        except OSError:
            return lease.created_at

    def in_use(self, sandbox_id: str) -> bool:
        """Say whether somebody, in any process, uses a sandbox now."""
        return not unused(self._root / f"{sandbox_id}.use")

    @contextlib.contextmanager
    def using(self, sandbox_id: str) -> Iterator[None]:
        """Say, as long as this lasts, that a sandbox is in use."""
        path = self._root / f"{sandbox_id}.use"
        mark: AbstractContextManager[None] = shared(path) if path.exists() else contextlib.nullcontext()
        with mark:
            self.touch(sandbox_id)
            try:
                yield
            finally:
                self.touch(sandbox_id)

    @property
    def coming(self) -> Path:
        """Where it is noted which sandboxes are just being made."""
        return self._root / "coming"

    # Snapshots

    async def own_snapshot(self, snapshot_id: str, owner: str) -> None:
        """Note whose a snapshot is."""
        await asyncio.to_thread(self._own_snapshot, snapshot_id, owner)

    def _own_snapshot(self, snapshot_id: str, owner: str) -> None:
        self.make_directories()
        _write(self._snapshot(snapshot_id), owner)

    async def snapshot_owner(self, snapshot_id: str) -> str | None:
        """Return whose a snapshot is; None if that is not known."""
        try:
            return await asyncio.to_thread(self._snapshot(snapshot_id).read_text)
        except OSError:
            return None

    async def forget_snapshot(self, snapshot_id: str) -> None:
        """Drop what was noted of a snapshot."""
        await asyncio.to_thread(self._snapshot(snapshot_id).unlink, missing_ok=True)

    def _snapshot(self, snapshot_id: str) -> Path:
        return self._root / "snapshots" / hashlib.sha256(snapshot_id.encode()).hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
