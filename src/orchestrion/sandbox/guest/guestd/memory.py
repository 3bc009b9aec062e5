"""The memory watch: all processes of the sandbox together stay under its limit."""

from __future__ import annotations

import contextlib
import os
import signal

from .nursery import NURSERY
from .proctree import Process, descendants
from .supervisor import RUNNING


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


def _sizes(processes: list[Process]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for process in processes:
        share = _proportional_kib(process.pid)
        sizes[process.pid] = process.rss_kib if share is None else share
    return sizes


def enforce_memory(limit_kib: int, table: dict[int, Process]) -> None:
    """If the sandbox holds more than it may, kill its biggest process and mark whose it was."""
    inside = descendants(os.getpid(), table)
    if sum(process.rss_kib for process in inside) <= limit_kib:
        return
    # Resident sizes count pages shared after a fork many times over, so look again, at a higher price.
    sizes = _sizes(inside)
    if sum(sizes.values()) <= limit_kib:
        return
    sessions = NURSERY.sessions
    programs = (process.pid for process in inside if process.session not in sessions)
    victim = max(programs, key=sizes.__getitem__, default=None)
    if victim is None:
        return
    for program in RUNNING:
        if any(process.pid == victim for process in program.members(table)):
            program.out_of_memory = True
            program.verdict = f"over the sandbox's memory limit of {limit_kib // 1024} MiB"
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
