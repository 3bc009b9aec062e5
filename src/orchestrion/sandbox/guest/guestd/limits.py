"""The resource limits, set before any user code runs and inherited by everything."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

MIB = 1024 * 1024
_ADJUSTMENT = "/proc/self/oom_score_adj"
_FIRST, _USUAL = b"800", b"0"


@dataclass(frozen=True)
class GuestLimits:
    """What this sandbox may use; the units are those of `orchestrion.sandbox.Limits`."""

    memory_mb: int = 4096
    processes: int = 256
    file_mb: int = 4096
    open_files: int = 1024
    cpu_seconds: int = 3600
    disk_mb: int = 10240
    files: int = 200_000

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GuestLimits:
        """Read them from the daemon's configuration; what isn't named has its default.

        Raises:
            ValueError: One is not a positive number.
        """
        given = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the limit {name} must be a positive number, not {value!r}")
        return cls(**given)


def _lower(which: int, value: int) -> None:
    """Set both limits to `value`, or leave the hard limit where it is if it's lower already."""
    _soft, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def apply_limits(limits: GuestLimits) -> None:
    """Bound this process and all its children, for good."""
    _lower(resource.RLIMIT_NPROC, limits.processes)
    _lower(resource.RLIMIT_FSIZE, limits.file_mb * MIB)
    _lower(resource.RLIMIT_DATA, limits.memory_mb * MIB)
    _lower(resource.RLIMIT_CORE, 0)


def apply_user_limits(limits: GuestLimits) -> None:
    """Bound a process that runs user code: what the daemon itself must not be held to."""
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    offer_memory()


def offer_memory() -> None:
    """Let the kernel take from this process and its children first, if the whole machine runs out of memory.

    Does nothing in an ordinary user's process that is not dumpable: then those that it was forked from have to.
    """
    with contextlib.suppress(OSError):
        adjust = os.open(_ADJUSTMENT, os.O_WRONLY)
        os.write(adjust, _FIRST)
        os.close(adjust)


class Offering:
    """Lets a process which is not dumpable offer its children's memory like that, and keep its own."""

    def __init__(self) -> None:
        self._adjust = -1

    def prepare(self) -> None:
        """Get hold of what only a dumpable process may open."""
        with contextlib.suppress(OSError):
            self._adjust = os.open(_ADJUSTMENT, os.O_WRONLY)

    @contextlib.contextmanager
    def to_children(self) -> Iterator[None]:
        """Offer the memory of what is forked meanwhile."""
        if self._adjust < 0:
            yield
            return
        with contextlib.suppress(OSError):
            os.write(self._adjust, _FIRST)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.write(self._adjust, _USUAL)


OFFERING = Offering()
