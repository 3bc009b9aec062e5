"""What is on disk about the sandboxes, so that any process of ours finds them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import select
import signal
import string
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from orchestrion.core.errors import NotFound
from orchestrion.sandbox.local.places import Place, sweep
from orchestrion.sandbox.locks import unused
from orchestrion.sandbox.protocols import Limits, Network, SandboxInfo, SandboxSpec, State

Layout: TypeAlias = Literal["overlay", "plain"]
Mode: TypeAlias = Literal["root", "user"]

_YOUNG = 120
_PF_EXITING = 0x4  # <linux/sched.h>
_LETTERS, _ID = f"{string.ascii_lowercase}{string.digits}", 20


@dataclass(frozen=True)
class Record:
    """`sandbox.json`.

    Attributes:
        id: The sandbox's identifier, also its directory's name.
        spec: What was asked for.
        mode: Whether it was made by root or by an ordinary user.
        layout: How its file system is put together.
        base: The host's id of its root; None if its user is the caller.
        token: What its daemon demands.
        created_at: Seconds since the epoch.
        state: What it was told to be.
        memory: For a paused one: whether its processes are kept.
        pid: Its process 1, as the host sees it; 0 if there is none.
        start: When that process started, in ticks since boot: a later process with this pid is another one.
        boot: Which boot of the machine that was.
        lifecycle: Changes with every pause and start.
    """

    id: str
    spec: SandboxSpec
    mode: Mode
    layout: Layout
    base: int | None
    token: str
    created_at: float
    state: State = "running"
    memory: bool = True
    pid: int = 0
    start: int = 0
    boot: str = ""
    lifecycle: int = 0

    def alive(self) -> bool:
        """Say whether its process 1 lives, frozen or not, and has not begun to end: that waits for all others."""
        stat = self._stat()
        return stat is not None and not int(stat[6]) & _PF_EXITING

    def there(self) -> bool:
        """Say whether its process 1 is still there, be it that it is coming to its end."""
        return self._stat() is not None

    def _stat(self) -> list[bytes] | None:
        """Return the fields of its process 1 from the state on; None if it is gone or a zombie."""
        stat = _stat(self.pid) if self.pid > 0 and self.boot == boot_id() else None
        return None if stat is None or _start(stat) != self.start else stat

    def info(self) -> SandboxInfo:
        """Return what is known of it; one that crashed counts as paused: its files can be resumed."""
        alive = self.alive()
        state: State = "running" if self.state == "running" and alive else "paused"
        memory = alive and self.memory
        return SandboxInfo(self.id, "local", state, datetime.fromtimestamp(self.created_at, UTC), self.spec, memory)

    def born(self, pid: int) -> Record:
        """Return it with a new process 1."""
        return replace(self, state="running", memory=True, pid=pid, start=start_time(pid) or 0, boot=boot_id())


def new_id() -> str:
    """Return a new identifier, as it can stand in a host name."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_ID))


def is_id(name: str) -> bool:
    """Say whether a name has the form of an identifier."""
    return len(name) == _ID and set(name) <= set(_LETTERS)


@functools.cache
def boot_id() -> str:
    """Return what names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None if it's gone or a zombie."""
    stat = _stat(pid)
    return None if stat is None else _start(stat)


def _start(stat: list[bytes]) -> int | None:
    return None if stat[0] in (b"Z", b"X") else int(stat[19])


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of a process's line from its state on; None if it's gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def kill(record: Record, thaw: Callable[[], object], timeout: float = 5) -> bool:
    """Kill a sandbox's process 1, and with it all others; wait until it's gone. Say whether it is.

    Args:
        record: Whose.
        thaw: Lets a frozen one go on: only then does it die.
        timeout: Seconds.
    """
    if record.pid <= 0:
        return True
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return True
    try:
        # The descriptor now names whoever has the pid; only if that is still ours may it be killed.
        if not record.there():
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        thaw()
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def spec_to_json(spec: SandboxSpec) -> dict[str, Any]:
    """Return a spec as JSON values."""
    return {**asdict(spec), "workspace": None if spec.workspace is None else str(spec.workspace)}


def spec_of_json(value: dict[str, Any]) -> SandboxSpec:
    """Read a spec that `spec_to_json` gave."""
    network: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in value["network"].items()
    }
    known = {name: value[name] for name in (field.name for field in fields(SandboxSpec)) if name in value}
    known |= {"network": Network(**network), "limits": Limits(**value["limits"])}
    known["workspace"] = None if value["workspace"] is None else Path(value["workspace"])
    return SandboxSpec(**known)


class Records:
    """The directory `sandboxes` of a data directory.

    Args:
        root: Its path; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, sandbox_id: str) -> Place:
        """Return a sandbox's directory."""
        return Place(self.root / sandbox_id)

    def write(self, record: Record) -> None:
        """Keep a record, at once in full."""
        path = self.root / record.id / "sandbox.json"
        part = path.with_name(f"sandbox.{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({**record.__dict__, "spec": spec_to_json(record.spec)}, file)
        part.replace(path)

    def read(self, sandbox_id: str) -> Record:
        """Return a sandbox's record.

        Raises:
            NotFound: There is no such sandbox.
        """
        record = self._read(sandbox_id) if is_id(sandbox_id) else None
        if record is None:
            raise NotFound(
                f"There is no sandbox {sandbox_id[:80]}.", "`orchestrion sandbox list` shows those there are."
            )
        return record

    def _read(self, name: str) -> Record | None:
        try:
            values = json.loads((self.root / name / "sandbox.json").read_text())
            return Record(**{**values, "spec": spec_of_json(values["spec"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def all(self) -> list[Record]:
        """Return every record, oldest first."""
        found = [record for name in self._names() if (record := self._read(name)) is not None]
        return sorted(found, key=lambda record: (record.created_at, record.id))

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.root) if is_id(name)]
        except FileNotFoundError:
            return []

    def unrecorded(self) -> list[str]:
        """Return the names of directories that no sandbox has, and that nobody is making one in."""
        bare = [name for name in self._names() if self._read(name) is None and _age(self.root / name) > _YOUNG]
        return [name for name in bare if unused(self.place(name).claim)]

    def sweep(self) -> None:
        """Remove what a removal that was cut off has left."""
        for path in self.root.glob(".gone-*"):
            if _age(path) > _YOUNG:
                sweep(path)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0
