"""The Python that runs inside, and where it must be mounted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import SandboxUnavailable

MOUNT = "/opt/python"
_REMEDY = "Run `make setup`, or set ORCHESTRION_SANDBOX_PYTHON to a Python that has pandas and matplotlib."
_ASK = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.executable]))"


@dataclass(frozen=True)
class Interpreter:
    """A Python for sandboxes.

    Attributes:
        command: Its path inside the sandbox.
        mounts: Directories to mount read-only, as (host, inside).
    """

    command: str
    mounts: tuple[tuple[Path, str], ...]


def default_python() -> Path:
    """Return where `make setup` puts the sandbox's Python."""
    return Path(sys.prefix) / "sandbox" / "bin" / "python"


def _in_system(path: Path) -> bool:
    return path == Path("/usr") or Path("/usr") in path.parents


def _base_mounts(base: Path, executable: Path) -> list[tuple[Path, str]]:
    """Mount the interpreter that a venv is based on at its own path, under every name the venv may use for it."""
    real = executable.resolve()
    places = dict.fromkeys([base, base.resolve(), real.parent.parent])
    return [(place.resolve(), str(place)) for place in places if not _in_system(place)]


def locate(python: Path | None) -> Interpreter:
    """Find out how to mount a Python, by asking it.

    Args:
        python: Its path on the host; by default the one `make setup` made.

    Raises:
        SandboxUnavailable: It's missing or doesn't start.
    """
    path = python or default_python()
    if not os.access(path, os.X_OK):
        raise SandboxUnavailable(f"The sandbox's Python is missing, or not for this user to run: {path}.", _REMEDY)
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program on the path from the settings
            [path, "-I", "-S", "-c", _ASK], capture_output=True, timeout=20, check=True, env={}
        )
        _prefix, base, executable = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"The sandbox's Python does not start: {path} ({error}).", _REMEDY) from None
    prefix = path.parent.parent
    mounts = _base_mounts(Path(base), Path(executable))
    if not (prefix / "pyvenv.cfg").is_file():
        return Interpreter(str(Path(executable).resolve()), tuple(mounts))
    return Interpreter(f"{MOUNT}/bin/{path.name}", ((prefix, MOUNT), *mounts))


def refuse_exposing(interpreter: Interpreter, data: Path, user_home: Path) -> None:
    """Refuse a Python whose directories would let a sandbox read what is private.

    A Python installed right into a home directory has that as its prefix, and the prefix is mounted.

    Args:
        interpreter: What will be mounted.
        data: The data directory, which must not be inside /usr either.
        user_home: The home directory of whoever runs us.

    Raises:
        SandboxUnavailable: One of them lies inside a mount.
    """
    mounts = [source.resolve() for source, _ in interpreter.mounts]
    for place, shown in ((data, [Path("/usr"), *mounts]), (user_home, mounts)):
        holder = next((mount for mount in shown if place.resolve().is_relative_to(mount)), None)
        if holder is not None:
            raise SandboxUnavailable(
                f"A sandbox would see {holder}, and {place} lies inside it.",
                "Set ORCHESTRION_HOME to another place, or ORCHESTRION_SANDBOX_PYTHON to another Python.",
            )
