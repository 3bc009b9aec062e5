"""The Python environments: `.venv` for Orchestrion, `.venv/sandbox` for the code that agents run, and
`.venv/conformance` for E2B's own SDKs, which pin versions of their own.

A stamp beside each finished step names exactly what it was made from, so that a second set-up has nothing to do and
needs no network.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from pathlib import Path

import debian
import pipconfig
from console import ROOT, SetupError, output, run, say

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
SANDBOX_PYTHON = VENV / "sandbox" / "bin" / "python"
CONFORMANCE_PYTHON = VENV / "conformance" / "bin" / "python"
_STAMPS = VENV / ".stamps"
_PIP_OPTIONS = [
    "--require-hashes",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar=off",
]


def digest(*parts: bytes) -> str:
    """Return one hash for all parts, and for where and by which Python they are set up."""
    here = f"{ROOT}|{sys.version_info[:2]}".encode()
    return hashlib.sha256(b"\0".join((here, *parts))).hexdigest()


def done(step: str, made_from: str) -> bool:
    """Tell whether a step was finished, from exactly this."""
    stamp = _STAMPS / step
    return stamp.is_file() and stamp.read_text() == made_from


def mark(step: str, made_from: str) -> None:
    """Note that a step is finished."""
    _STAMPS.mkdir(exist_ok=True)
    (_STAMPS / step).write_text(made_from)


def make_environment() -> None:
    """Make `.venv`, unless a working one is there."""
    made_from = digest()
    if done("venv", made_from) and PYTHON.exists():
        return
    # One that is of use already, made by hand, is kept; one that was moved, or is of another Python, is made anew.
    if (_STAMPS / "venv").exists() or not _works(PYTHON):
        say(f"making the Python environment .venv (Python {sys.version_info[0]}.{sys.version_info[1]})")
        _create(VENV, with_pip=debian.has_ensurepip())
    mark("venv", made_from)


def make_inner_environment(python: Path, what: str) -> None:
    """Make an environment inside `.venv`, unless a working one is there.

    Args:
        python: Its interpreter.
        what: Whose it is, as the user is told.
    """
    if not _works(python):
        folder = python.parents[1]
        say(f"making {what} Python environment {folder.relative_to(ROOT)}")
        _create(folder, with_pip=False)


def _works(python: Path) -> bool:
    return output([python, "-c", "import sys; print(sys.prefix)"]) == str(python.parents[1])


def _create(folder: Path, *, with_pip: bool) -> None:
    base = Path(getattr(sys, "_base_executable", sys.executable))
    pip = [] if with_pip else ["--without-pip"]
    if not run([base, "-m", "venv", "--clear", *pip, folder]):
        raise SetupError(f"The environment {folder} can't be made.", "Mend what Python says above, then try again.")


@cache
def _uv() -> Path | None:
    """Return uv, installing it with pip from its pinned hash; None where that can't be done."""
    lock = ROOT / "requirements" / "bootstrap.lock"
    uv = VENV / "bin" / "uv"
    made_from = digest(lock.read_bytes())
    if not (done("uv", made_from) and uv.exists()):
        say("installing uv, which installs everything else")
        if not run([*_pip(), "--python", PYTHON, "install", "--quiet", *_PIP_OPTIONS, "-r", lock]):
            say("uv can't be installed here: going on with pip, which takes longer")
            return None
        mark("uv", made_from)
    return uv if output([uv, "--version"]) else None


@cache
def _pip() -> list[str]:
    if output([PYTHON, "-c", "import pip; print(1)"]):
        return [str(PYTHON), "-m", "pip"]
    unpacked = VENV / "pip"
    wheel = next(iter(unpacked.glob("usr/share/python-wheels/pip-*.whl")), None) or debian.pip_wheel(unpacked)
    if wheel is None:
        raise SetupError(
            "Python's venv module is incomplete here: Debian has it in the package python3-venv.",
            "Run this, then the same command again: sudo apt-get install -y python3-venv",
        )
    return [str(PYTHON), str(wheel / "pip")]


def install(name: str, what: str, python: Path = PYTHON) -> None:
    """Install `requirements/<name>.lock`, each file checked against its hash, unless it is in place.

    Args:
        name: Of the lock file.
        what: What it is, as the user is told.
        python: Interpreter of the environment that it goes into.

    Raises:
        SetupError: Neither uv nor pip could install it.
    """
    lock = ROOT / "requirements" / f"{name}.lock"
    made_from = digest(lock.read_bytes())
    if done(name, made_from):
        return
    say(f"installing {what} ({lock.read_text().count('==')} packages)")
    if not (_with_uv(lock, python) or _with_pip(lock, python)):
        raise SetupError(
            f"requirements/{name}.lock could not be installed.",
            "See above: most often no network. pip's settings (index, proxy, certificates) are honoured.",
        )
    mark(name, made_from)


def _with_uv(lock: Path, python: Path) -> bool:
    uv = _uv()
    if uv is None:
        return False
    configured = _pip_configuration()
    options: list[str | Path] = [
        "--quiet",
        "--require-hashes",
        "--compile-bytecode",
        *pipconfig.flags(configured),
        "--python",
        python,
    ]
    env = {"UV_CACHE_DIR": str(_cache()), **pipconfig.to_uv(configured)}
    if run([uv, "pip", "install", *options, "-r", lock], env=env):
        return True
    say("uv could not install them: trying with pip")
    return False


def _with_pip(lock: Path, python: Path) -> bool:
    return run([*_pip(), "--python", python, "install", "--quiet", *_PIP_OPTIONS, "--compile", "-r", lock])


def _cache() -> Path:
    """Return uv's cache: inside `.venv`, so that nothing is left elsewhere and both environments share files."""
    return Path(os.environ.get("UV_CACHE_DIR") or VENV / ".cache" / "uv")


@cache
def _pip_configuration() -> dict[str, str]:
    return pipconfig.parse(output([*_pip(), "config", "list"]))


def install_command() -> None:
    """Put the checkout's `src` on the environment's path, and `orchestrion` into its `bin`.

    A path file and a script of two lines start faster than an editable install, and need no build tool.
    """
    made_from = digest(b"command 1")
    command = VENV / "bin" / "orchestrion"
    if done("command", made_from) and command.exists():
        return
    site = next((VENV / "lib").glob("python*/site-packages"))
    (site / "_orchestrion_src.pth").write_text(f"{ROOT / 'src'}\n")
    # A shell finds the interpreter: a path with a blank in it, or a long one, can't stand after `#!`.
    command.write_text(
        "#!/bin/sh\n"
        '\'\'\'exec\' "$(dirname -- "$(readlink -f -- "$0")")/python" "$0" "$@"\n'
        "' '''\n"
        "from orchestrion.cli.entry import main\n\n"
        "raise SystemExit(main())\n"
    )
    command.chmod(0o755)
    mark("command", made_from)
