"""Stopping all processes of a sandbox and letting them go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.local.cgroups import Group
from orchestrion.sandbox.local.records import Record
from orchestrion.sandbox.local.threads import in_full

_PATIENCE = 5.0


def freeze(pid: int, group: Group) -> bool:
    """Stop every process of a sandbox; say whether all stand still.

    Args:
        pid: Its process 1, as the host sees it.
        group: Its control group; without a freezer there, each process gets a signal that it can't refuse.
    """
    with contextlib.suppress(OSError):
        if group.freeze(True):
            return True
    return _stop_all(pid)


def thaw(pid: int, group: Group) -> None:
    """Let every process of a sandbox go on."""
    with contextlib.suppress(OSError):
        if group.freeze(False):
            return
    for process in [*_family(pid), pid]:
        _send(process, signal.SIGCONT)


def _stop_all(pid: int) -> bool:
    """Stop process 1, then its descendants, until none is left that runs: some may have forked meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while running := [process for process in (pid, *_family(pid)) if _state(process) not in "TtZX"]:
        if time.monotonic() > deadline:
            return False
        for process in running:
            _send(process, signal.SIGSTOP)
        time.sleep(0.002)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _stat(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return [b"X", b"0"]


def _state(pid: int) -> str:
    return _stat(pid)[0].decode()


def _family(root: int) -> list[int]:
    """Return all descendants; in a pid namespace every process is one of its process 1."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


class Still:
    """Keeps a sandbox's processes from changing its files, as long as it lasts.

    Args:
        record: Whose.
        group: Its control group.

    Raises:
        SandboxError: A process does not stand still.
    """

    def __init__(self, record: Record, group: Group) -> None:
        self._running = record.state == "running" and record.alive()
        self._pid, self._group = record.pid, group

    async def __aenter__(self) -> None:
        if not self._running:
            return
        try:
            stands = await in_full(freeze, self._pid, self._group)
        except BaseException:
            await self.__aexit__()
            raise
        if not stands:
            await self.__aexit__()
            raise SandboxError("The sandbox could not be stopped to copy its files: a process does not stand still.")

    async def __aexit__(self, *_error: object) -> None:
        if self._running:
            await asyncio.shield(asyncio.to_thread(thaw, self._pid, self._group))
