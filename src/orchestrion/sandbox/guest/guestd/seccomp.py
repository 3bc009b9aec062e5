"""A system call filter: what code in a sandbox never needs, and the kernel's past holes were often behind.

A deny list on top of namespaces and dropped capabilities (seccomp(2), classic BPF). Above all no new user namespace:
in one of its own, code would have all capabilities again and with them far more of the kernel to attack. And only the
usual families of sockets: vsock, which leads from a virtual machine to its host, belongs to no network namespace.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 4, 38, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_X32 = 0x40000000
_CLONE3 = 435
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NEW_NAMESPACES = 0x7E020000

# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_FAMILIES = (1, 2, 10, 16)

# The same everywhere: io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_getfd,
# process_madvise, mount_setattr, quotactl_fd, open_tree_attr.
_COMMON = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443, 467)

# Architecture → (audit number, clone, socket, socketpair, denied), from the kernel's tables. Denied, in
# this order: ptrace, pivot_root, chroot, acct, mount, umount2, swapon, swapoff, reboot, init_module,
# delete_module, quotactl, kexec_load, add_key, request_key, keyctl, unshare, perf_event_open,
# name_to_handle_at, open_by_handle_at, setns, process_vm_readv, process_vm_writev, kcmp, finit_module,
# kexec_file_load, bpf, userfaultfd, syslog, fanotify_init; on x86 modify_ldt.
_X86 = (101, 155, 161, 163, 165, 166, 167, 168, 169, 175, 176, 179, 246, 248, 249, 250, 272, 298, 303, 304)
_X86_LATE = (308, 310, 311, 312, 313, 320, 321, 323, 103, 300, 154)
_ARM = (117, 41, 51, 89, 40, 39, 224, 225, 142, 105, 106, 60, 104, 217, 218, 219, 97, 241, 264, 265)
_ARM_LATE = (268, 270, 271, 272, 273, 294, 280, 282, 116, 262)
_TABLES = {
    "x86_64": (0xC000003E, 56, 41, 53, _X86 + _X86_LATE),
    "aarch64": (0xC00000B7, 220, 198, 199, _ARM + _ARM_LATE),
}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _deny(number: int, errno: int) -> list[bytes]:
    return [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | errno)]


def _usual_families(number: int) -> list[bytes]:
    """Return the steps that refuse a socket of another family, as a kernel that was built without it does."""
    count = len(_FAMILIES)
    steps = [_step(_EQUAL, number, 0, count + 3), _step(_LOAD, _FIRST_ARGUMENT)]
    steps += [_step(_EQUAL, family, count - place) for place, family in enumerate(_FAMILIES)]
    return [*steps, _step(_RETURN, _ERRNO | _EAFNOSUPPORT), _step(_RETURN, _ALLOW)]


@functools.cache
def build_filter(machine: str) -> bytes | None:
    """Return the filter for an architecture; None if there is none for it."""
    if machine not in _TABLES:
        return None
    arch, clone, socket, socketpair, denied = _TABLES[machine]
    steps = [_step(_LOAD, _ARCH), _step(_EQUAL, arch, 1, 0), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER)]
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    for number in (*denied, *_COMMON):
        steps += _deny(number, _EPERM)
    # Its flags are behind a pointer, out of a filter's sight; libc falls back to clone.
    steps += _deny(_CLONE3, _ENOSYS) + _usual_families(socket) + _usual_families(socketpair)
    steps += [_step(_EQUAL, clone, 0, 3), _step(_LOAD, _FIRST_ARGUMENT), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1)]
    return b"".join([*steps, _step(_RETURN, _ERRNO | _EPERM), _step(_RETURN, _ALLOW)])


def apply_filter(*, no_new_privs: bool = True) -> None:
    """Filter this process and all its children, for good.

    Args:
        no_new_privs: Also let no program raise its privileges ever again. Without, the caller must be root in its
            user namespace.

    Raises:
        OSError: The kernel refused the filter.
    """
    code = build_filter(os.uname().machine)
    if code is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    refused = no_new_privs and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if refused or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "the system call filter was refused")


def set_dumpable(allowed: bool) -> None:
    """Say whether other processes of the same user may look into this one's memory and descriptors (/proc/<pid>)."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, int(allowed), 0, 0, 0)
