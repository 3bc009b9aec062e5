"""What a sandbox sees: the file system it is put together from, mount by mount.

The working directory is the sandbox's own on the host (see `orchestrion.sandbox.local.places`); every path of it is
relative, so that no name in it can be mistaken for a mount option.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from . import kernel
from .kernel import ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, NODEV, NOEXEC, NOSUID

ROOT = "root"
_TTY_GROUP = 5
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_READ_ONLY = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV
_NOTHING = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
# A device can be written to all the same; but its rights, which are the host's, can't be changed, whoever we are.
_DEVICE = ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC

# What container runtimes hide or protect in proc, being the kernel's and not the sandbox's.
_HIDDEN = (
    "kcore", "keys", "key-users", "kmsg", "kallsyms", "timer_list", "timer_stats", "sched_debug", "latency_stats",
    "kpagecount", "kpageflags", "kpagecgroup", "vmallocinfo", "slabinfo", "cmdline", "config.gz", "iomem",
)  # fmt: skip
_EMPTIED = ("acpi", "scsi", "asound")
_PROTECTED = ("bus", "driver", "dynamic_debug", "fs", "irq", "mtrr", "pressure", "sys", "sysrq-trigger", "tty")

# Where the user may write in the plain layout: in the sandbox, and the directory in `rw` that keeps it.
PLAIN = (("home/user", "home"), ("tmp", "tmp"), ("var/tmp", "vartmp"), ("usr/local", "local"))

# Where root, who may write everywhere, can have counted what was written: each copy-on-write layer and its place.
WRITTEN = {"system": "/run/written/system", "usr": "/run/written/usr"}


def mount_overlay_root(skeleton: str, namespace: int) -> None:
    """Mount the system copy-on-write: all of it can be changed, and belongs to the sandbox's own ids."""
    kernel.attach(skeleton, "lower/system", idmap=namespace, recursive=False)
    kernel.attach("/usr", "lower/usr", idmap=namespace, recursive=False)
    for name, target in (("system", ROOT), ("usr", f"{ROOT}/usr")):
        layers = f"lowerdir=lower/{name},upperdir=rw/{name}/upper,workdir=rw/{name}/work"
        kernel.mount("overlay", target, "overlay", NODEV, layers)


def mount_plain_root(skeleton: str) -> None:
    """Mount the system read-only, with directories of the sandbox's own where its user may write."""
    kernel.attach(skeleton, ROOT, _READ_ONLY)
    kernel.attach("/usr", f"{ROOT}/usr", _READ_ONLY)
    for inside, kept in PLAIN:
        if os.path.isdir(f"{ROOT}/{inside}"):
            kernel.attach(f"rw/{kept}", f"{ROOT}/{inside}", ATTR_NOSUID | ATTR_NODEV)


def mount_parts(mounts: list[list[str]]) -> None:
    """Mount the Python and the daemon's files."""
    for source, inside in mounts:
        os.makedirs(f"{ROOT}{inside}", exist_ok=True)
        kernel.attach(source, f"{ROOT}{inside}", _READ_ONLY)


def mount_own(plan: dict[str, Any]) -> None:
    """Mount what a sandbox's purpose decides: its workspace, its shared memory; and what only root may do."""
    kernel.attach(plan["workspace"] or "rw/workspace", f"{ROOT}/workspace", ATTR_NOSUID | ATTR_NODEV)
    size = f"size={plan['tmp_bytes']},mode=1777,nr_inodes=65536"
    kernel.mount("tmpfs", f"{ROOT}/dev/shm", "tmpfs", NOSUID | NODEV, size)  # noqa: S108 - inside
    if plan["allow_root"]:
        for name, inside in WRITTEN.items():
            os.makedirs(f"{ROOT}{inside}")
            kernel.attach(f"rw/{name}/upper", f"{ROOT}{inside}", _NOTHING)
    else:
        for target in (ROOT, f"{ROOT}/usr"):
            kernel.restrict(target, ATTR_NOSUID)
        kernel.restrict(f"{ROOT}/dev", ATTR_RDONLY)


def mount_devices(owner: int, own_terminals: bool) -> None:
    """Make a /dev with harmless devices only and terminals of its own."""
    dev = f"{ROOT}/dev"
    kernel.mount("tmpfs", dev, "tmpfs", NOSUID | NOEXEC, _tmpfs(owner, 1 << 20))
    for name in _DEVICES:
        _touch(f"{dev}/{name}")
        kernel.attach(f"/dev/{name}", f"{dev}/{name}", _DEVICE)
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}", 0o755)
    group = f",gid={owner + _TTY_GROUP}" if own_terminals else ""
    kernel.mount("devpts", f"{dev}/pts", "devpts", NOSUID | NOEXEC, f"newinstance,ptmxmode=0666,mode=0620{group}")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        os.symlink(target, f"{dev}/{name}")


def mount_run(owner: int) -> None:
    """Make a small /run, with the directory of the gateway's socket in it."""
    kernel.mount("tmpfs", f"{ROOT}/run", "tmpfs", NOSUID | NODEV, _tmpfs(owner, 16 << 20))
    for name in ("orchestrion", "lock", "user"):
        os.mkdir(f"{ROOT}/run/{name}", 0o755)
    kernel.attach("run/guest", f"{ROOT}/run/orchestrion", _NOTHING)


def guard_proc() -> None:
    """Hide and protect what in proc is the machine's; expects it at its place in the root."""
    proc = f"{ROOT}/proc"
    for name in _existing(proc, _PROTECTED):
        kernel.attach(f"{proc}/{name}", f"{proc}/{name}", _NOTHING)
    kernel.attach("boot_id", f"{proc}/sys/kernel/random/boot_id", _NOTHING)
    for name in _existing(proc, _HIDDEN):
        kernel.attach("/dev/null", f"{proc}/{name}", _DEVICE)
    for name in _existing(proc, _EMPTIED):
        kernel.attach("empty", f"{proc}/{name}", _NOTHING)


def _existing(folder: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if os.path.lexists(f"{folder}/{name}")]


def _tmpfs(owner: int, size: int) -> str:
    return f"mode=0755,size={size},nr_inodes=65536,uid={owner},gid={owner}"


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
