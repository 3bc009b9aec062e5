"""What a new process gives up before it runs anything: identity, capabilities, the way back."""

from __future__ import annotations

import ctypes
import os

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4
_LAST_CAPABILITY = 40
# What containers commonly leave to root, but for raw sockets and device nodes: chown, dac_override, fowner, fsetid,
# kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, audit_write, setfcap (capabilities(7)).
_OF_ROOT = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31))
CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION_3 = 0x20080522
_LIBC = ctypes.CDLL(None, use_errno=True)


def drop_capability(number: int) -> None:
    """Let go of one capability (capset(2)); this process can't have it back."""
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if _LIBC.capget(header, sets):
        return
    # Effective, permitted and inheritable, for capabilities 0 to 31, then for those above.
    first, bit = 3 * (number // 32), 1 << number % 32
    for place in range(first, first + 3):
        sets[place] &= ~bit
    _LIBC.capset(header, sets)


def _drop_newer() -> None:
    """Drop what later kernels may have added."""
    capability = _LAST_CAPABILITY + 1
    while _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1


def become(uid: int, gid: int, groups: tuple[int, ...], *, allow_root: bool) -> None:
    """Become a user for good; what is executed next has no more than that user may have.

    Does nothing to the identity where the process isn't root: then there is but one.

    Args:
        uid: The user's number.
        gid: That of the user's group.
        groups: All groups the user is in.
        allow_root: Programs such as sudo may raise privileges again, within what containers leave to root.

    Raises:
        OSError: The kernel refused; then nothing may be executed.
    """
    if not allow_root:
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() != 0:
        return
    _LIBC.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        if not (allow_root and capability in _OF_ROOT):
            _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _drop_newer()
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
