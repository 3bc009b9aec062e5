"""`GET /metrics`: what the sandbox uses, not the machine it runs on."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from .config import Config
from .http import Request, Response, Routes, json_response
from .limits import MIB

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GROUP = "/sys/fs/cgroup"
# Counting a disk's use means looking at every file, so seldom, and never for long.
_DISK_SECONDS = 30.0
_WALK_SECONDS = 3.0
_UNLIMITED = 1 << 60


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    used: int
    total: int
    cache: int


def _number(path: str) -> int | None:
    """Return the number in a file; None if there is none (`max` included)."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _table(path: str) -> dict[str, int]:
    """Return the lines `name number` of a file."""
    try:
        with open(path, encoding="ascii") as file:
            pairs = (line.replace(":", " ").split()[:2] for line in file)
            return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
    except (OSError, ValueError):
        return {}


def memory(limit: int, processes: ProcessUse) -> Memory:
    """Return what all processes together hold.

    A cgroup of the sandbox's own knows exactly: the machine's root group has no `memory.current`. Else their resident
    memory is added up, which counts what they share several times.

    Args:
        limit: What they may hold, bytes.
        processes: What /proc tells of them.
    """
    machine = _table("/proc/meminfo").get("MemTotal", limit >> 10) << 10
    for current, maximum, stat, cached in (
        ("memory.current", "memory.max", "memory.stat", "file"),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_cache"),
    ):
        used, most = _number(f"{_GROUP}/{current}"), _number(f"{_GROUP}/{maximum}")
        if used is not None and most is not None and most < _UNLIMITED:
            cache = _table(f"{_GROUP}/{stat}").get(cached, 0)
            return Memory(max(used - cache, 0), min(most, machine), cache)
    total = min(limit, machine)
    return Memory(min(processes.resident, total), total, 0)


@dataclass(frozen=True)
class ProcessUse:
    """What all processes use together.

    Attributes:
        resident: Memory, bytes.
        seconds: Processor time since the start, that of processes which ended included.
    """

    resident: int
    seconds: float


def processes() -> ProcessUse:
    """Read the process table, which in a sandbox holds no others."""
    resident = ticks = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The program's name may hold anything; fields are counted from its end.
                fields = file.read().rpartition(b")")[2].split()
            # Its own time and that of its children that it waited for, process 1's orphans among them.
            ticks += sum(int(field) for field in fields[11:15])
            resident += int(fields[21]) * _PAGE
        except (OSError, IndexError, ValueError):
            continue
    return ProcessUse(resident, ticks / _TICKS)


def disk_used(places: tuple[str, ...]) -> int:
    """Return how many bytes the files below `places` take, as far as can be counted in a few seconds."""
    deadline = time.monotonic() + _WALK_SECONDS
    linked: set[tuple[int, int]] = set()
    used = 0
    waiting = [*places]
    while waiting and time.monotonic() < deadline:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if (found.st_dev, found.st_ino) in linked:
                            continue
                        linked.add((found.st_dev, found.st_ino))
                    used += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return used


class Metrics:
    """Answers `GET /metrics`.

    Args:
        config: Says what the sandbox may use and where it may write.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock, self._seconds = time.monotonic(), processes().seconds
        self._percent = 0.0
        self._disk: asyncio.Future[int] | None = None
        self._disk_at = 0.0

    async def answer(self, _request: Request) -> Response:
        """Return what is used now."""
        limits = self._config.limits
        use = await asyncio.to_thread(processes)
        held = await asyncio.to_thread(memory, limits.memory_mb * MIB, use)
        used, total = await self._disk_use()
        return json_response(
            {
                "ts": int(time.time()),
                "cpu_count": _cpus(),
                "cpu_used_pct": self._cpu_percent(use.seconds),
                "mem_used": held.used,
                "mem_total": held.total,
                "mem_cache": held.cache,
                "mem_used_mib": held.used // MIB,
                "mem_total_mib": held.total // MIB,
                "disk_used": used,
                "disk_total": total,
            }
        )

    def _cpu_percent(self, seconds: float) -> float:
        """Return how busy the processors were since the last time, 100 for all of them."""
        now = time.monotonic()
        # Ticks are coarse: over a moment they say nothing.
        if now - self._clock >= 0.1:
            share = (seconds - self._seconds) / (now - self._clock) / _cpus()
            self._percent = round(min(max(share, 0), 1) * 100, 2)
            self._clock, self._seconds = now, seconds
        return self._percent

    async def _disk_use(self) -> tuple[int, int]:
        """Return used and total bytes: of the writable directories if they are named, else of the file system."""
        places = self._config.writable
        whole = os.statvfs(places[0] if places else "/")
        size, free = whole.f_blocks * whole.f_frsize, whole.f_bavail * whole.f_frsize
        if not places:
            return size - free, size
        now = time.monotonic()
        if self._disk is None or (self._disk.done() and now - self._disk_at > _DISK_SECONDS):
            self._disk, self._disk_at = asyncio.ensure_future(asyncio.to_thread(disk_used, places)), now
        used = await asyncio.shield(self._disk)
        return used, min(self._config.limits.disk_mb * MIB, used + free)


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def routes(config: Config) -> Routes:
    """Return the route of `/metrics`."""
    return {("GET", "/metrics"): Metrics(config).answer}
