"""Who descends from whom, read from /proc, and how to end a whole family."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_STOP_ROUNDS = 40

Identity: TypeAlias = "tuple[int, int]"
Family: TypeAlias = "Callable[[dict[int, Process]], list[Process]]"


@dataclass(frozen=True)
class Process:
    """A line of the process table; `start` tells a process from a later one with the same pid."""

    pid: int
    parent: int
    session: int
    state: str
    start: int
    rss_kib: int

    @property
    def identity(self) -> Identity:
        """What names this process and no other."""
        return self.pid, self.start


def read_process(pid: int) -> Process | None:
    """Return one process, or None if it's gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold spaces and parentheses; fields are counted from its end.
            fields = file.read().rpartition(b")")[2].split()
        return Process(
            pid, int(fields[1]), int(fields[3]), fields[0].decode(), int(fields[19]), int(fields[21]) * _PAGE_KIB
        )
    except (OSError, IndexError, ValueError):
        return None


def process_table() -> dict[int, Process]:
    """Return every process of this sandbox."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def descendants(root: int, table: dict[int, Process]) -> list[Process]:
    """Return what descends from `root`, without `root` itself."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += [process.pid for process in below]
    return found


def orphans(table: dict[int, Process], sessions: AbstractSet[int]) -> list[int]:
    """Return what has lost its parent: such children of the daemon and of its nursery as those did not make.

    Args:
        table: The process table.
        sessions: The daemon's and its nursery's sessions. What they make for themselves stays in these; a program is
            given a session of its own before it runs, and none can join another's.
    """
    parents = {os.getpid(), *sessions}
    return [
        process.pid for process in table.values() if process.parent in parents and process.session not in sessions
    ]


def _targets(find: Family, spare: AbstractSet[Identity]) -> list[Process]:
    family = find(process_table())
    return [process for process in family if process.identity not in spare and process.state not in "ZX"]


def _signal_all(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


async def kill_family(find: Family, spare: AbstractSet[Identity] = frozenset()) -> bool:
    """Kill what `find` picks from the process table but `spare`, also what forks while we do it.

    They are all stopped before any is killed: a stopped process still fills its place under the process limit, so a
    fork bomb runs out of places instead of refilling those that a kill would free.

    Returns:
        Whether nothing is left, after at most 1.5 s.
    """
    for _ in range(_STOP_ROUNDS):
        running = [process for process in _targets(find, spare) if process.state not in "Tt"]
        if not running:
            break
        _signal_all(running, signal.SIGSTOP)
        await asyncio.sleep(0.001)
    deadline = time.monotonic() + 1.5
    while left := _targets(find, spare):
        if time.monotonic() > deadline:
            return False
        _signal_all(left, signal.SIGKILL)
        await asyncio.sleep(0.002)
    return True
