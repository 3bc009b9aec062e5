"""What a half-born sandbox is told: all that decides what it becomes. Pure; nothing runs here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrion.sandbox.local.interpreter import MOUNT, Interpreter
from orchestrion.sandbox.local.launcher.system import WRITTEN
from orchestrion.sandbox.local.places import Place
from orchestrion.sandbox.local.records import Layout, Record
from orchestrion.sandbox.protocols import SandboxSpec

PAYLOAD = "/opt/orchestrion"
_MIB = 1024 * 1024
_GATEWAY = "http://127.0.0.1:3128"
_USERS = ("/home", "/tmp", "/var/tmp", "/workspace")  # noqa: S108 - paths inside


@dataclass(frozen=True)
class System:
    """What all sandboxes of a provider are made of.

    Attributes:
        interpreter: The Python inside.
        python: The same, on the host.
        payload: The directory with the guest daemon.
        skeleton: The bare system.
    """

    interpreter: Interpreter
    python: Path
    payload: Path
    skeleton: Path


def home_of(spec: SandboxSpec) -> str:
    """Return where commands start by default."""
    return spec.workdir or ("/home/user" if spec.workspace is None else "/workspace")


def mounts(interpreter: Interpreter, payload: Path) -> list[tuple[str, str]]:
    """Return what is mounted read-only, as (host, inside)."""
    return [*((str(source), inside) for source, inside in interpreter.mounts), (str(payload), PAYLOAD)]


def environment(interpreter: Interpreter, root: bool) -> dict[str, str]:
    """Return the whole environment inside; nothing of the host's is passed on, and the keys are worth nothing."""
    threads = str(min(4, os.cpu_count() or 1))
    return {
        "PATH": f"{Path(interpreter.command).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root" if root else "/home/user",
        "USER": "root" if root else "user",
        "LOGNAME": "root" if root else "user",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",  # noqa: S108
        "PYTHONPATH": PAYLOAD,
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _GATEWAY),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1"),
        "ANTHROPIC_BASE_URL": _GATEWAY,
        "OPENAI_BASE_URL": f"{_GATEWAY}/v1",
        "ANTHROPIC_API_KEY": "sandbox",
        "OPENAI_API_KEY": "sandbox",
    }


def guest_config(record: Record, boot_id: str) -> dict[str, Any]:
    """Return the daemon's configuration; `guestd.config.Config` says what each means."""
    spec, limits = record.spec, record.spec.limits
    return {
        "token": record.token,
        "envs": dict(spec.env),
        "default_user": spec.user or "user",
        "workdir": home_of(spec),
        "limits": {
            "memory_mb": limits.memory_mb,
            "processes": limits.processes,
            "file_mb": limits.file_mb,
            "open_files": limits.open_files,
            "cpu_seconds": limits.cpu_seconds,
            "disk_mb": limits.disk_mb,
            "files": limits.files,
        },
        "allow_root": spec.root,
        "idle_seconds": spec.idle_seconds,
        "writable": list(written(record)),
        "isolated": True,
        "boot": {"sandbox_id": record.id, "boot_id": boot_id, "template": spec.template},
    }


def written(record: Record) -> tuple[str, ...]:
    """Return the places inside that together hold what a sandbox has written, and nothing of the host's system."""
    if record.layout == "plain":
        return (*_USERS, "/usr/local")
    return (*WRITTEN.values(), "/workspace") if record.spec.root else _USERS


def system_plan(place: Place, layout: Layout, base: int | None, system: System) -> dict[str, Any]:
    """Return what a half-born sandbox is told first, in JSON's values: what its system is made of."""
    return {
        "place": str(place.path),
        "layout": layout,
        "base": base or 0,
        "system": str(system.skeleton),
        "mounts": mounts(system.interpreter, system.payload),
        "moves": _moves(system),
    }


def purpose_plan(record: Record, system: System, boot_id: str) -> dict[str, Any]:
    """Return what it is told in the end, in JSON's values: what it is for."""
    spec = record.spec
    return {
        "workspace": "" if spec.workspace is None else str(spec.workspace),
        "tmp_bytes": spec.limits.tmp_mb * _MIB,
        "allow_root": spec.root,
        "environment": environment(system.interpreter, spec.root),
        "guest": guest_config(record, boot_id),
    }


def _moves(system: System) -> list[tuple[str, str]]:
    """Say under which paths the zygote's modules lie on the host, and where inside."""
    prefix = system.python.parent.parent
    venv = [(str(prefix), MOUNT)] if system.interpreter.command.startswith(f"{MOUNT}/") else []
    return [*venv, (str(system.payload), PAYLOAD)]
