"""The disk watch: what the sandbox has written stays under its limits, whatever file system it lies on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from .limits import MIB, GuestLimits
from .proctree import process_table
from .supervisor import RUNNING, Supervised

_BLOCK = 512
_REST_FACTOR, _SHORTEST_REST = 20, 1.0


class DiskWatch:
    """Looks after the places that code inside may write to.

    Args:
        places: Directories; what they hold is counted together.
    """

    def __init__(self, places: Iterable[str]) -> None:
        self._places = tuple(places)
        self._free: dict[str, tuple[int, int]] = {}
        self._rested = 0.0
        self._written: dict[Supervised, int] = {}

    async def enforce(self, limits: GuestLimits) -> None:
        """If the places hold more than they may, kill whoever writes most and say so where it was started."""
        if not self._places or time.monotonic() < self._rested or not self._shrunk():
            return
        started = time.monotonic()
        excess = await asyncio.to_thread(measure, self._places, limits)
        self._rested = time.monotonic() + max(_SHORTEST_REST, _REST_FACTOR * (time.monotonic() - started))
        if excess:
            # What holds it is still there at the next look, so look again whether or not space shrinks.
            self._free.clear()
            await self._stop(excess)

    def _shrunk(self) -> bool:
        """Say whether a file system has less room than at the last look; it costs next to nothing to ask."""
        before, self._free = self._free, dict(_room(self._places))
        return any(_less(room, before.get(place)) for place, room in self._free.items())

    async def _stop(self, excess: str) -> None:
        writer = self._busiest()
        for program in [writer] if writer is not None else list(RUNNING):
            program.verdict = excess
            await program.kill()

    def _busiest(self) -> Supervised | None:
        """Return the program whose family wrote most since the last excess; None if that can't be told."""
        table = process_table()
        totals = {program: sum(_wrote(process.pid) for process in program.members(table)) for program in RUNNING}
        before, self._written = self._written, totals
        gains = {program: total - before.get(program, 0) for program, total in totals.items()}
        busiest = max(gains, key=gains.__getitem__, default=None)
        return busiest if busiest is not None and gains[busiest] > 0 else None


def _room(places: Iterable[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for place in places:
        with contextlib.suppress(OSError):
            system = os.statvfs(place)
            yield place, (system.f_bfree, system.f_ffree)


def _less(room: tuple[int, int], before: tuple[int, int] | None) -> bool:
    """Say whether there are fewer blocks or fewer inodes."""
    return before is None or room[0] < before[0] or room[1] < before[1]


def _wrote(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"wchar:")), 0)
    except (OSError, ValueError):
        return 0


def measure(places: Iterable[str], limits: GuestLimits) -> str:
    """Count what lies in `places`, no further than the limits; say in words which one is passed, "" if none is."""
    size = 0
    seen: set[tuple[int, int]] = set()
    for count, entry in enumerate(_entries(places), 1):
        size += _weight(entry, seen)
        if size > limits.disk_mb * MIB:
            return f"over the sandbox's disk limit of {limits.disk_mb} MiB"
        if count > limits.files:
            return f"over the sandbox's limit of {limits.files} files"
    return ""


def _weight(entry: os.DirEntry[str], seen: set[tuple[int, int]]) -> int:
    """Return a file's bytes on disk; of one with several names, only at the first."""
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
        if (found.st_dev, found.st_ino) in seen:
            return 0
        seen.add((found.st_dev, found.st_ino))
    return found.st_blocks * _BLOCK


def _entries(places: Iterable[str]) -> Iterator[os.DirEntry[str]]:
    queue = list(places)
    while queue:
        with contextlib.suppress(OSError), _opened(queue.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                yield entry


def _opened(directory: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """List a directory. One that its owner, who is who we are, has closed even to himself is opened again: nobody
    could count what it holds."""
    try:
        return os.scandir(directory)
    except PermissionError:
        os.chmod(directory, stat.S_IMODE(os.lstat(directory).st_mode) | stat.S_IRWXU)
        return os.scandir(directory)
