"""How a sandbox is born: a fork of the zygote becomes process 1 of a machine of its own.

Half-born it has namespaces and a system of its own, and waits to hear what it is for. It is told over a socket by the
host process; if that ends before the sandbox has been recorded, the half-born one ends too, so nothing is ever left
that nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import random
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

from . import identity, kernel, system

MESSAGE = 128 * 1024
_OWN = kernel.NEWNS | kernel.NEWPID | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS
_DESCRIPTORS = 1024
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _UP = 0x8913, 0x8914, 0x1


def fork_sandbox(channel: socket.socket, mode: str) -> None:
    """In a fork of the zygote: fork process 1, tell the host its pid, and end."""
    try:
        os.setsid()
        if mode == "root":
            kernel.unshare(_OWN)
        else:
            identity.single_user_namespace(_OWN)
        first = os.fork()
        if first == 0:
            _be_born(channel, mode)
        channel.send(json.dumps({"pid": first}).encode())
    except BaseException as error:
        channel.send(json.dumps({"error": str(error)}).encode())
    os._exit(0)


def _be_born(channel: socket.socket, mode: str) -> NoReturn:
    """In process 1: put the system together as told, wait to be told the rest, then be the daemon."""
    try:
        os.setsid()
        kernel.make_private()
        socket.sethostname("sandbox")
        _raise_loopback()
        plan, _ = _receive(channel)
        namespace = _prepare(plan, mode)
        channel.send(b'{"prepared": true}')
        plan, fds = _receive(channel)
        listener, log = fds
        os.dup2(log, 1)
        os.dup2(log, 2)
        _move_in(plan, namespace)
        channel.send(b'{"ready": true}')
        os.closerange(3, listener)
        os.closerange(listener + 1, _DESCRIPTORS)
        _serve(plan, listener)
        # The mark of an end that was meant; whoever sweeps looks for it.
        os.write(2, b"\nended\n")
    except BaseException as error:
        _fail(channel, error)
    os._exit(0)


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    text, fds, _, _ = socket.recv_fds(channel, MESSAGE, 2)
    if not text:
        os._exit(0)
    return json.loads(text), fds


def _fail(channel: socket.socket, error: BaseException) -> None:
    text = f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error.strerror or error)
    try:
        channel.send(json.dumps({"error": text[:2000]}).encode())
    except OSError:
        os.write(2, f"\n{text}\n".encode(errors="replace"))
    os._exit(1)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def _prepare(plan: dict[str, Any], mode: str) -> int | None:
    """Put together all that does not depend on what the sandbox is for; return its user namespace if it has one."""
    os.umask(0o022)
    os.chdir(plan["place"])
    kernel.mount("proc", "proc", "proc", kernel.NOSUID | kernel.NODEV | kernel.NOEXEC)
    namespace = identity.new_user_namespace(plan["base"], "proc") if mode == "root" else None
    if plan["layout"] == "overlay" and namespace is not None:
        system.mount_overlay_root(plan["system"], namespace)
    else:
        system.mount_plain_root(plan["system"])
    owner = plan["base"] if mode == "root" else identity.USER
    system.mount_parts(plan["mounts"])
    system.mount_devices(owner, mode == "root")
    system.mount_run(owner)
    kernel.attach("proc", f"{system.ROOT}/proc")
    system.guard_proc()
    _open_low_ports()
    _rehome(plan["moves"])
    _rehearse()
    return namespace


def _rehearse() -> None:
    """Do once what the daemon does at its start."""
    asyncio.run(importlib.import_module("guestd.daemon").rehearse())


def _move_in(plan: dict[str, Any], namespace: int | None) -> None:
    """Add what this sandbox alone has, move into the system, and become who lives there."""
    system.mount_own(plan)
    kernel.unshare(kernel.NEWCGROUP)
    kernel.make_root(system.ROOT)
    if namespace is None:
        identity.stay_user()
    elif plan["allow_root"]:
        identity.become_root_of(namespace)
    else:
        identity.become_user_of(namespace)


def _open_low_ports() -> None:
    """Let the user listen on any port: the network is the sandbox's own."""
    # Not ours to say in a user's own namespace on some kernels; such ports are a nicety.
    with contextlib.suppress(OSError):
        Path("proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")


def _serve(plan: dict[str, Any], listener: int) -> None:
    """Be the guest daemon."""
    os.environ.clear()
    os.environ.update(plan["environment"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    random.seed()
    os.chdir(plan["environment"]["HOME"])
    config = importlib.import_module("guestd.config").Config()
    config.update(plan["guest"])
    importlib.import_module("guestd.daemon").run(config, socket.socket(fileno=listener))


def _rehome(moves: list[list[str]]) -> None:
    """Let modules that the zygote loaded find their files at the places they have inside."""

    def moved(path: str) -> str:
        for old, new in moves:
            if path == old or path.startswith(f"{old}/"):
                return new + path[len(old) :]
        return path

    sys.path[:] = [moved(path) for path in sys.path]
    for name in ("prefix", "exec_prefix", "executable"):
        setattr(sys, name, moved(getattr(sys, name)))
    for module in list(sys.modules.values()):
        for name in ("__file__", "__cached__"):
            if isinstance(getattr(module, name, None), str):
                setattr(module, name, moved(getattr(module, name)))
        if isinstance(getattr(module, "__path__", None), list):
            module.__path__[:] = [moved(path) for path in module.__path__]
    sys.path_importer_cache.clear()
