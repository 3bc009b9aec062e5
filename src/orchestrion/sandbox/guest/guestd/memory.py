"""The memory watch: all processes of the sandbox together stay under its limit."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from .proctree import Process, process_table
from .supervisor import Supervised


def _proportional_kib(pid: int) -> int | None:
    """Return a process's share of memory, pages it shares with others divided among them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        return None
    return None


def _sizes(table: dict[int, Process]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for pid, process in table.items():
        share = _proportional_kib(pid)
        sizes[pid] = process.rss_kib if share is None else share
    return sizes


def enforce_memory(limit_kib: int, running: Iterable[Supervised]) -> None:
    """If the sandbox holds more than it may, kill its biggest process and mark whose it was."""
    table = process_table()
    if sum(process.rss_kib for process in table.values()) <= limit_kib:
        return
    # Resident sizes count pages shared after a fork many times over, so look again, at a higher price.
    sizes = _sizes(table)
    if sum(sizes.values()) <= limit_kib:
        return
    programs = list(running)
    spared = {os.getpid(), *(program.supervisor for program in programs)}
    victim = max((pid for pid in sizes if pid not in spared), key=sizes.__getitem__, default=None)
    if victim is None:
        return
    for program in programs:
        if any(process.pid == victim for process in program.members(table)):
            program.out_of_memory = True
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
