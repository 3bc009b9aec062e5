"""What tests of sandboxes look at on the host: processes, mounts, control groups, memory, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from orchestrion.sandbox.local.records import Records

NOBODY = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
SANDBOX_PYTHON = Path(sys.prefix) / "sandbox" / "bin" / "python"
_GROUPS = Path("/sys/fs/cgroup")
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


def runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def python_for_others(folder: Path) -> tuple[str, str]:
    """Return Pythons that another user may run: one for us, one for sandboxes; copied if ours are out of reach."""
    ours, theirs = sys.executable, str(SANDBOX_PYTHON)
    # By a shell: setpriv itself still reaches what only root may.
    if all(runs([*NOBODY, "sh", "-c", '"$0" -c ""', python]) for python in (ours, theirs)):
        return ours, theirs
    copy = folder / "python"
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    if not runs([system, "-m", "venv", "--without-pip", "--symlinks", str(copy)]):
        pytest.skip("another user can't run the sandbox's Python, and there is none of its version in /usr")
    packages = Path("lib") / f"python3.{sys.version_info.minor}" / "site-packages"
    source = SANDBOX_PYTHON.parent.parent / packages
    shutil.copytree(source, copy / packages, copy_function=os.link, symlinks=True, dirs_exist_ok=True)
    return system, str(copy / "bin" / "python")


def as_ordinary_user(folder: Path) -> tuple[list[str], str, dict[str, str]]:
    """Return how an ordinary user runs our Python, the Python for his sandboxes, and his environment."""
    ours, theirs = python_for_others(folder)
    os.chown(folder, 12345, 12345)
    environment = dict(os.environ) | {
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([path for path in sys.path if path]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return [*NOBODY, ours], theirs, environment


def pid_of(home: Path, sandbox_id: str) -> int:
    """Return the host's pid of a sandbox's process 1."""
    return Records(home / "sandboxes").read(sandbox_id).pid


def resident(pid: int | str = "self") -> int:
    """Return the memory that a process has in hand, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def proportional(pid: int | str) -> int:
    """Return a process's share of memory in bytes, what it shares with others divided among them."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Growth:
    """By how much a process's memory grew at most, bytes."""

    def __init__(self, pid: int | str) -> None:
        self._pid, self._before, self.most = pid, resident(pid), 0

    async def watch(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self.most = max(self.most, resident(self._pid) - self._before)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def growth(pid: int | str = "self") -> AsyncIterator[Growth]:
    """Watch a process's memory."""
    seen = Growth(pid)
    task = asyncio.create_task(seen.watch())
    try:
        yield seen
    finally:
        task.cancel()


def processes_of(ids: Iterable[str]) -> dict[int, str]:
    """Return every process of the machine that belongs to sandboxes, by its mounts or its control group.

    A mount that lives on in any namespace is found thus too: a namespace without a process has none.
    """
    wanted = list(ids)
    found: dict[int, str] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{name}/cgroup").read_text() + Path(f"/proc/{name}/mountinfo").read_text()
            if any(sandbox_id in text for sandbox_id in wanted):
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_text()[:200].replace("\0", " ")
    return found


def groups_of(ids: Iterable[str]) -> list[str]:
    """Return the control groups of sandboxes."""
    wanted = set(ids)
    return [str(path) for path in _GROUPS.glob("**/orchestrion/*") if path.name in wanted]


def sockets_below(home: Path) -> list[str]:
    """Return the unix sockets of a data directory that somebody has open."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return [line.split()[-1] for line in lines if str(home) in line]


def children() -> list[int]:
    """Return our children that live."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


async def eventually(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds; fail if it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)
