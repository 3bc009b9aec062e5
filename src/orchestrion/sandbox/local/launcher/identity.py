"""Who a sandbox's processes are: its user namespace, its users, what they may."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from . import kernel

IDS = 65536
USER = 1000

# chown, dac_override, dac_read_search, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot,
# sys_nice, audit_write, setfcap: what an ordinary container's root has. They count in its own user namespace alone,
# which owns no other namespace, so none of them mounts, configures a network or traces.
ROOT_CAPABILITIES = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 18, 23, 29, 31})
_SETUID, _SYS_ADMIN = 7, 21


def new_user_namespace(base: int, proc: str) -> int:
    """Return a user namespace, by its descriptor, whose ids from 0 are those from `base` outside.

    Args:
        base: The first of 65536 ids of the host.
        proc: Where a proc of our own pid namespace is mounted.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            kernel.unshare(kernel.NEWUSER)
            theirs.send(b"+")
            theirs.recv(1)
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        ours.recv(1)
        for kind in ("uid", "gid"):
            Path(f"{proc}/{child}/{kind}_map").write_text(f"0 {base} {IDS}")
        namespace = os.open(f"{proc}/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.waitpid(child, 0)
    return namespace


def single_user_namespace(extra: int) -> None:
    """Move into a new user namespace, and `extra` ones, in which the caller is `USER` and nobody else is anybody."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.NEWUSER | extra)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{USER} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{USER} {gid} 1")


def become_root_of(namespace: int) -> None:
    """Become root of a user namespace, with the capabilities of a container's root."""
    kernel.enter(namespace, kernel.NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.bound_capabilities(ROOT_CAPABILITIES)
    # The daemon alone has one more: without no_new_privs, which sudo needs, only that lets it filter system calls.
    kernel.set_capabilities(ROOT_CAPABILITIES | {_SYS_ADMIN})


def become_user_of(namespace: int) -> None:
    """Become the ordinary user of a user namespace, who can never be anybody else."""
    kernel.enter(namespace, kernel.NEWUSER)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    kernel.bound_capabilities(frozenset())
    kernel.set_capabilities(frozenset({_SETUID}))
    os.setresuid(USER, USER, USER)
    kernel.set_capabilities(frozenset())
    kernel.no_new_privileges()


def stay_user() -> None:
    """Give up what making a user namespace gave: afterwards we are an ordinary user for good."""
    kernel.bound_capabilities(frozenset())
    kernel.set_capabilities(frozenset())
    kernel.no_new_privileges()
