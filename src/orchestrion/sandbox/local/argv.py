"""The command line of bubblewrap: what a sandbox sees and what it doesn't. Pure; nothing runs here."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from orchestrion.sandbox.local.interpreter import Interpreter
from orchestrion.sandbox.protocols import Limits

Mode: TypeAlias = Literal["root", "user"]

GUEST = Path(__file__).resolve().parent.parent / "guest"
USER_ID = 1000
_MIB = 1024 * 1024
_SMALL_TMPFS = 16 * _MIB
_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "alternatives", "fonts", "ssl/certs", "localtime", "mime.types")


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a sandbox is made.

    Attributes:
        mode: `root` needs no user namespace and drops to `uid`; `user` maps the caller into a user namespace.
        uid: The user inside.
        interpreter: The Python inside.
        workspace: The session's directory on the host.
        etc: A directory with the files of /etc that are made for this sandbox.
        limits: What it may use.
        disable_userns: Whether this bubblewrap knows `--disable-userns`.
    """

    mode: Mode
    uid: int
    interpreter: Interpreter
    workspace: Path
    etc: Path
    limits: Limits
    disable_userns: bool


def _namespaces(plan: Plan) -> list[str]:
    argv = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += ["--as-pid-1", "--new-session", "--hostname", "sandbox", "--cap-drop", "ALL"]
    if plan.mode == "root":
        # Held by setpriv alone, for the moment in which it becomes the unprivileged user.
        return [*argv, *(word for cap in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{cap}"))]
    argv += ["--unshare-user", "--uid", str(plan.uid), "--gid", str(plan.uid)]
    return [*argv, "--disable-userns"] if plan.disable_userns else argv


def _system(root: Path = Path("/")) -> list[str]:
    argv = [*_directories("/etc/ssl/certs"), "--ro-bind", "/usr", "/usr"]
    for name in _USR_LINKS:
        place = root / name
        if place.is_symlink():
            argv += ["--symlink", f"usr/{name}", f"/{name}"]
        elif place.is_dir():
            argv += ["--ro-bind", f"/{name}", f"/{name}"]
    for name in _ETC:
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return argv


def _directories(*mounts: str) -> list[str]:
    """Make the directories above mounts; left to itself, bwrap makes them so that only root may enter."""
    parents = {str(parent): None for mount in mounts for parent in reversed(Path(mount).parents)}
    return [word for parent in parents if parent != "/" for word in ("--dir", parent)]


def _tmpfs(path: str, size: int, perms: str) -> list[str]:
    return ["--perms", perms, "--size", str(size), "--tmpfs", path]


def _private(plan: Plan) -> list[str]:
    """Directories of its own; each has a size, because what is in them is memory."""
    size = plan.limits.tmp_mb * _MIB
    argv = ["--proc", "/proc", "--dev", "/dev", *_tmpfs("/dev/shm", size, "1777"), "--remount-ro", "/dev"]  # noqa: S108
    argv += [*_tmpfs("/tmp", size, "1777"), *_tmpfs("/home/user", size, "0777")]  # noqa: S108
    argv = [*_directories("/home/user"), *argv]
    return [*argv, *_tmpfs("/run", _SMALL_TMPFS, "0755"), "--dir", "/var", "--symlink", "../tmp", "/var/tmp"]  # noqa: S108


def _mounts(plan: Plan) -> list[str]:
    argv: list[str] = []
    for name in etc_files(plan.uid):
        argv += ["--ro-bind", str(plan.etc / name), f"/etc/{name}"]
    for source, inside in plan.interpreter.mounts:
        argv += [*_directories(inside), "--ro-bind", str(source), inside]
    argv += [*_directories("/opt/orchestrion")]
    argv += ["--ro-bind", str(GUEST), "/opt/orchestrion"]
    return [*argv, "--bind", str(plan.workspace), "/workspace", "--chdir", "/workspace"]


def environment(plan: Plan) -> dict[str, str]:
    """Return the whole environment inside; nothing of the host's is passed on."""
    threads = str(min(4, os.cpu_count() or 1))
    return {
        "PATH": f"{Path(plan.interpreter.command).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/home/user",
        "USER": "user",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",  # noqa: S108
        "PYTHONPATH": "/opt/orchestrion",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/home/user/.config/matplotlib",
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }


def etc_files(uid: int) -> dict[str, str]:
    """Return the files of /etc that are made, not the host's: its users are none of the sandbox's business."""
    nobody = "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    return {
        "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:{uid}:{uid}:user:/home/user:/bin/sh\n{nobody}",
        "group": f"root:x:0:\nuser:x:{uid}:\nnogroup:x:65534:\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }


def _drop(plan: Plan) -> list[str]:
    if plan.mode != "root":
        return []
    uid = str(plan.uid)
    drop = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    return ["/usr/bin/setpriv", "--reuid", uid, "--regid", uid, *drop]


def bwrap_argv(plan: Plan, command: Sequence[str], *, info_fd: int | None = None) -> list[str]:
    """Return the command line that runs `command` as process 1 of a sandbox."""
    argv = ["bwrap", *_namespaces(plan), *_system(), *_private(plan), *_mounts(plan), "--remount-ro", "/"]
    argv += ["--clearenv", *(word for name, value in environment(plan).items() for word in ("--setenv", name, value))]
    if info_fd is not None:
        argv += ["--info-fd", str(info_fd)]
    return [*argv, "--", *_drop(plan), *command]


def daemon_command(plan: Plan, listener: int, idle_seconds: float) -> list[str]:
    """Return the command of the guest daemon, which serves the inherited socket `listener`."""
    limits = plan.limits
    config = {
        "listener": listener,
        "idle_seconds": idle_seconds,
        "memory_mb": limits.memory_mb,
        "processes": limits.processes,
        "file_mb": limits.file_mb,
        "open_files": limits.open_files,
        "cpu_seconds": limits.cpu_seconds,
    }
    return [plan.interpreter.command, "-P", "-m", "guestd.daemon", json.dumps(config)]
