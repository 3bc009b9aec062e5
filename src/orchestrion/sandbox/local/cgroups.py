"""Control groups, where we may make them: a sandbox's memory, processes and processor time as a whole, its freezer.

Version 2 is taken if it has the controllers, else version 1, where each controller is a hierarchy of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrion.sandbox.protocols import Limits

_MIB = 1024 * 1024
_PARENT = "orchestrion"
_V1 = ("memory", "pids", "freezer", "cpu")
_WEIGHT, _SHARES = 100, 1024
# The daemon's own watch ends the biggest process and says so; the kernel's limit is the wall behind it, far enough
# for the watch to come first even when memory fills quickly.
_MARGIN_MB, _MARGIN_PROCESSES = 192, 16
_YOUNG = 120


@dataclass(frozen=True)
class Hierarchies:
    """What of control groups can be used here: controller → our directory in its hierarchy."""

    directories: Mapping[str, Path]
    unified: bool

    @property
    def limits(self) -> bool:
        """Whether memory and processes can be limited as a whole."""
        return {"memory", "pids"} <= set(self.directories)

    def describe(self) -> str:
        """Return in a few words what they give."""
        version = "cgroups v2" if self.unified else "cgroups v1"
        if self.limits:
            return f"limits by {version}"
        return "limits for each process and by the guest's own watch (cgroups are not ours to use)"


def find(root: Path = Path("/sys/fs/cgroup")) -> Hierarchies:
    """Find out, by making our directories, what can be used; those are shared by all data directories."""
    if (root / "cgroup.controllers").exists():
        return _find_unified(root, root / _PARENT)
    found = {name: root / name / _PARENT for name in _V1 if _make(root / name / _PARENT)}
    return Hierarchies(found, unified=False)


def _find_unified(root: Path, ours: Path) -> Hierarchies:
    if not _make(ours):
        return Hierarchies({}, unified=True)
    for name in ("memory", "pids", "cpu"):
        for parent in (root, ours):
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{name}")
    with contextlib.suppress(OSError):
        given = (ours / "cgroup.subtree_control").read_text().split()
        return Hierarchies(dict.fromkeys((*given, "freezer"), ours), unified=True)
    return Hierarchies({}, unified=True)


def _make(path: Path) -> bool:
    try:
        path.mkdir(exist_ok=True)
        return os.access(path / "cgroup.procs", os.W_OK)
    except OSError:
        return False


class Group:
    """One sandbox's control group.

    Args:
        hierarchies: What there is.
        name: The sandbox's id.
    """

    def __init__(self, hierarchies: Hierarchies, name: str) -> None:
        self._unified = hierarchies.unified
        self._paths = {controller: parent / name for controller, parent in hierarchies.directories.items()}

    def make(self, pid: int) -> None:
        """Make it, with one process in it."""
        for path in set(self._paths.values()):
            path.mkdir(parents=True, exist_ok=True)
            (path / "cgroup.procs").write_text(str(pid))

    def limit(self, limits: Limits) -> None:
        """Set what it may use."""
        memory = (limits.memory_mb + limits.memory_mb // 4 + _MARGIN_MB) * _MIB
        processes = limits.processes + _MARGIN_PROCESSES
        if self._unified:
            wanted = {"memory.max": memory, "pids.max": processes, "cpu.weight": _WEIGHT}
        else:
            wanted = {"memory.limit_in_bytes": memory, "pids.max": processes, "cpu.shares": _SHARES}
        for file, value in wanted.items():
            path = self._paths.get(file.partition(".")[0])
            if path is not None:
                (path / file).write_text(str(value))

    def freeze(self, frozen: bool, timeout: float = 5) -> bool:
        """Stop every process in it at once, or let them go on; say whether it came to be so."""
        path = self._paths.get("freezer")
        if path is None or not path.exists():
            return False
        if self._unified:
            (path / "cgroup.freeze").write_text(str(int(frozen)))
        else:
            (path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        return self._await(path, frozen, timeout)

    def _await(self, path: Path, frozen: bool, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self._frozen(path) != frozen:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def _frozen(self, path: Path) -> bool:
        if self._unified:
            return "frozen 1" in (path / "cgroup.events").read_text()
        return (path / "freezer.state").read_text().strip() == "FROZEN"

    def exists(self) -> bool:
        """Say whether it is there."""
        return any(path.exists() for path in self._paths.values())

    def remove(self, timeout: float = 5) -> bool:
        """Remove it, once the kernel has seen its processes off; say whether it is gone."""
        deadline = time.monotonic() + timeout
        left = set(self._paths.values())
        while left := {path for path in left if not _removed(path)}:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def tidy(hierarchies: Hierarchies) -> None:
    """Remove groups without a process, whoever left them: one that is wanted gets its process at once."""
    for parent in set(hierarchies.directories.values()):
        with contextlib.suppress(OSError):
            for entry in parent.iterdir():
                if entry.is_dir() and time.time() - entry.stat().st_mtime > _YOUNG:
                    _removed(entry)
