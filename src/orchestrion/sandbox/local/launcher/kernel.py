"""The kernel's calls that Python doesn't have, as namespaces need them. All raise `OSError`."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)

# <linux/sched.h>
NEWNS: Final = 0x00020000
NEWCGROUP: Final = 0x02000000
NEWUTS: Final = 0x04000000
NEWIPC: Final = 0x08000000
NEWUSER: Final = 0x10000000
NEWPID: Final = 0x20000000
NEWNET: Final = 0x40000000

# mount(2)
NOSUID: Final = 0x2
NODEV: Final = 0x4
NOEXEC: Final = 0x8
_RECURSIVE_PRIVATE: Final = 0x4000 | 0x40000
_DETACH: Final = 2

# mount_setattr(2)
ATTR_RDONLY: Final = 0x1
ATTR_NOSUID: Final = 0x2
ATTR_NODEV: Final = 0x4
ATTR_NOEXEC: Final = 0x8
_ATTR_IDMAP: Final = 0x00100000
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 0x1
_MOVE_FROM_EMPTY_PATH: Final = 0x4

# The same numbers on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAP_VERSION = 0x20080522
_CAPS = 64


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move into new namespaces."""
    _check(_LIBC.unshare(flags), "new namespaces")


def enter(namespace: int, kind: int) -> None:
    """Move into an existing namespace, by its descriptor."""
    _check(_LIBC.setns(namespace, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Mount a new file system."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    _check(_LIBC.mount(*words, ctypes.c_ulong(flags), os.fsencode(data) or None), f"mount {kind} at {target}")


def make_private() -> None:
    """Let no mount made from here on reach other namespaces, nor theirs us."""
    _check(_LIBC.mount(None, b"/", None, ctypes.c_ulong(_RECURSIVE_PRIVATE), None), "private mounts")


def attach(
    source: str, target: str, attributes: int = 0, *, idmap: int | None = None, recursive: bool = True
) -> None:
    """Show a directory or file, with what is mounted in it, at a second place.

    Args:
        source: What.
        target: Where; exists already.
        attributes: `ATTR_*` that hold there.
        idmap: A user namespace: who is x there owns what belongs to x here.
        recursive: Also what is mounted below; an id map wants that to be nothing.
    """
    deep = _AT_RECURSIVE if recursive else 0
    tree = _check(
        _LIBC.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC | deep),
        f"open {source}",
    )
    try:
        if attributes or idmap is not None:
            flags = attributes | (0 if idmap is None else _ATTR_IDMAP)
            wanted = struct.pack("QQQQ", flags, 0, 0, idmap or 0)
            result = _LIBC.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | deep, wanted, len(wanted))
            _check(result, f"attributes of {source}" if idmap is None else f"map the ids of {source}")
        place = os.fsencode(target)
        _check(_LIBC.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, place, _MOVE_FROM_EMPTY_PATH), f"bind at {target}")
    finally:
        os.close(tree)


def restrict(target: str, attributes: int) -> None:
    """Let `ATTR_*` hold for a mount that is there already."""
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    result = _LIBC.syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), 0, wanted, len(wanted))
    _check(result, f"attributes of {target}")


def make_root(path: str) -> None:
    """Make a mount the root of this mount namespace; nothing of the old root is left."""
    os.chdir(path)
    # Both at one place: the old root lies on top of the new one, and is taken off.
    _check(_LIBC.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_LIBC.umount2(b".", _DETACH), "leave the old root")
    os.chdir("/")


def no_new_privileges() -> None:
    """Let no program gain anything by setuid bits or file capabilities, for good."""
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def bound_capabilities(kept: frozenset[int]) -> None:
    """Let no program that is started from here on have other capabilities than these."""
    for number in range(_CAPS):
        if number not in kept and _LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            if number == 0:
                _check(-1, "drop capabilities")
            break  # beyond the last one that this kernel knows
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def set_capabilities(kept: frozenset[int]) -> None:
    """Make these our effective and permitted capabilities; none are inherited."""
    halves = [sum(1 << (number - low) for number in kept if low <= number < low + 32) for low in (0, 32)]
    header = struct.pack("Ii", _CAP_VERSION, 0)
    sets = b"".join(struct.pack("III", half, half, 0) for half in halves)
    _check(_LIBC.capset(header, sets), "capset")
