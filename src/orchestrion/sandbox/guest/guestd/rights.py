"""File work in threads, with the rights of the user it is done for.

The daemon may be root inside. What it reads and writes for a user must be decided by the kernel with that user's
rights at the moment of each call: a check beforehand is no check, as links can be swapped meanwhile. Linux keeps the
file-system identity, supplementary groups and capabilities per thread (credentials(7), setfsuid(2)), so a worker
thread takes on the user's for the length of one call. The C library's wrapper of setgroups changes all threads at
once, hence the bare system call.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Callable, Iterator
from typing import TypeVar

from .config import Config
from .users import User
from .workers import Workers

_T = TypeVar("_T")
_THREADS = 8
# How long a cancelled call waits for its thread: work on local files ends soon, a hung mount never.
_PATIENCE = 5.0
_SETGROUPS = {"x86_64": 116, "aarch64": 159}
_CAPABILITY_VERSION = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
WORKERS = Workers(_THREADS, thread_name_prefix="files")


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapSet(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


_CapSets = _CapSet * 2


def _checked(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call} was refused")


def _capabilities() -> ctypes.Array[_CapSet]:
    found = _CapSets()
    _checked(_libc.capget(ctypes.byref(_CapHeader(_CAPABILITY_VERSION, 0)), found), "capget")
    return found


def _use_capabilities(wanted: ctypes.Array[_CapSet], *, effective: bool) -> None:
    sets = _CapSets()
    for place, cap in enumerate(wanted):
        sets[place] = _CapSet(cap.effective if effective else 0, cap.permitted, cap.inheritable)
    _checked(_libc.capset(ctypes.byref(_CapHeader(_CAPABILITY_VERSION, 0)), sets), "capset")


def _set_groups(groups: tuple[int, ...]) -> None:
    number = _SETGROUPS.get(platform.machine())
    if number is None:
        raise OSError(f"The groups of a thread can't be set on {platform.machine()}.")
    array = (ctypes.c_uint32 * len(groups))(*groups)
    _checked(_libc.syscall(ctypes.c_long(number), ctypes.c_long(len(groups)), array), "setgroups")


def _set_file_ids(uid: int, gid: int) -> None:
    """Switch this thread's identity for files; both calls answer with the old id, not with success."""
    _libc.setfsgid(ctypes.c_uint32(gid))
    _libc.setfsuid(ctypes.c_uint32(uid))
    nobody = ctypes.c_uint32(0xFFFFFFFF)
    if ctypes.c_uint32(_libc.setfsuid(nobody)).value != uid or ctypes.c_uint32(_libc.setfsgid(nobody)).value != gid:
        raise PermissionError(f"The daemon can't act as user {uid}.")


@contextlib.contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Give this thread no more rights over files than `user` has, for the length of the block.

    Raises:
        OSError: The daemon can't take on that identity.
    """
    if user.uid == 0:
        yield
        return
    switch = os.geteuid() == 0
    kept, groups = _capabilities(), tuple(os.getgroups())
    try:
        if switch:
            _set_groups(user.groups)
            _set_file_ids(user.uid, user.gid)
        _use_capabilities(kept, effective=False)
        yield
    finally:
        # Back to root's uid first: without a capability in effect that alone is allowed, and the rest needs them.
        if switch:
            _libc.setfsuid(ctypes.c_uint32(os.geteuid()))
        _use_capabilities(kept, effective=True)
        if switch:
            _set_groups(groups)
            _set_file_ids(os.geteuid(), os.getegid())


class FileWorker:
    """Runs blocking file work off the event loop.

    Args:
        config: Says whether a user may do what root may.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def do_as(self, user: User, work: Callable[..., _T], *args: object) -> _T:
        """Do `work` in this thread with a user's rights.

        Where code inside may become root anyway, what the user may not do is done as root, as E2B's daemon does
        everything; `work` hands what it makes to the user.

        Raises:
            OSError: As `work` raises it.
        """
        try:
            with acting_as(user):
                return work(*args)
        except PermissionError:
            if not self._config.allow_root or user.uid == 0 or os.geteuid() != 0:
                raise
        return work(*args)

    async def run_as(self, user: User, work: Callable[..., _T], *args: object) -> _T:
        """Do `work` in a thread with a user's rights."""
        return await self.run(self.do_as, user, work, *args)

    async def run(self, work: Callable[..., _T], *args: object) -> _T:
        """Do `work` in a thread with the daemon's own rights.

        A call that is cancelled waits for its thread, so that what `work` uses can be closed afterwards.
        """
        future = asyncio.get_running_loop().run_in_executor(WORKERS, functools.partial(work, *args))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future}, timeout=_PATIENCE)
            raise

    def later(self, work: Callable[[], object]) -> None:
        """Do `work` in a thread; nobody waits for it."""
        WORKERS.submit(work)
