"""The resource limits, set before any user code runs and inherited by everything."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True)
class GuestLimits:
    """What this sandbox may use; the units are those of `orchestrion.sandbox.Limits`."""

    memory_mb: int
    processes: int
    file_mb: int
    open_files: int
    cpu_seconds: int

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GuestLimits:
        """Read them from the daemon's configuration."""
        return cls(**{name: int(config[name]) for name in cls.__dataclass_fields__})


def _lower(which: int, value: int) -> None:
    """Set both limits to `value`, or leave the hard limit where it is if it's lower already."""
    _soft, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def apply_limits(limits: GuestLimits) -> None:
    """Bound this process and all its children, for good."""
    _lower(resource.RLIMIT_NPROC, limits.processes)
    _lower(resource.RLIMIT_FSIZE, limits.file_mb * MIB)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    _lower(resource.RLIMIT_DATA, limits.memory_mb * MIB)
    _lower(resource.RLIMIT_CORE, 0)


def apply_user_limits(limits: GuestLimits) -> None:
    """Bound a process that runs user code: what the daemon itself must not be held to."""
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    # If the whole machine runs out of memory, the kernel should take from the sandbox first.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as adjust:
        adjust.write("800")
