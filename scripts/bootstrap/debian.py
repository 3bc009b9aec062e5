"""Debian packages: what is missing, named before it is installed; never with somebody else's rights."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from console import SetupError, run, say

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


@dataclass(frozen=True)
class Need:
    """Something the system must provide.

    Attributes:
        package: Debian's name for it.
        why: What it is for, as the user is told.
        present: Whether it is there.
    """

    package: str
    why: str
    present: bool


def has_ensurepip() -> bool:
    """Tell whether Python's venv module is whole; Debian ships the part that installs pip on its own."""
    return importlib.util.find_spec("ensurepip") is not None


def needs(*, for_tests: bool, for_e2b: bool, environment_made: bool) -> list[Need]:
    """List what the system must provide, with what is there already.

    Args:
        for_tests: Whether the tests' needs count too.
        for_e2b: Whether those of E2B's SDKs and suites do.
        environment_made: Whether `.venv` is there, so that nothing is needed to make it.
    """
    listed = [
        Need("python3-venv", "makes Python environments", environment_made or has_ensurepip()),
    ]
    if for_e2b:
        why = "E2B's clients use it inside sandboxes"
        listed.append(Need("sudo", why, shutil.which("sudo") is not None))
    if for_tests:
        listed.append(Need("chromium", "for the browser tests", chromium() is not None))
        listed.append(Need("libatomic1", "for the browser tests", _loads("libatomic.so.1")))
    return listed


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def chromium() -> str | None:
    """Return the path of the system's Chromium."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def provide(wanted: list[Need]) -> None:
    """Install what is missing as root; as an ordinary user say what is missing and go on without it.

    Raises:
        SetupError: Something could not be installed.
    """
    missing = [need for need in wanted if not need.present]
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _install(missing, " ".join(need.package for need in missing))
        return
    for need in missing:
        say(f"{need.package} ({need.why}) is not installed: going on without it")


def _install(missing: list[Need], names: str) -> None:
    say("installing Debian packages: " + ", ".join(f"{need.package} ({need.why})" for need in missing))
    # Lists that are there may be good enough; only if they are not is it worth asking the mirror for new ones.
    if _apt_install(names, quietly=True):
        return
    say("renewing the package lists (apt-get update)")
    run(["apt-get", "update", "-qq"])
    if not _apt_install(names, quietly=False):
        raise SetupError(
            f"apt-get could not install {names}.", "Mend what it says above, then run the same command again."
        )


def _apt_install(names: str, *, quietly: bool) -> bool:
    noise = ["-qq", "-o=Dpkg::Use-Pty=0"]
    command = ["apt-get", "install", "-y", "--no-install-recommends", *noise, *names.split()]
    return run(["sh", "-c", f"{' '.join(command)} >/dev/null{' 2>&1' if quietly else ''}"], env=QUIET)


def pip_wheel(folder: Path) -> Path | None:
    """Take pip out of Debian's package of it, without root and without installing anything.

    Args:
        folder: Where the package is unpacked.

    Returns:
        The wheel, which Python can run as it is; None where it can't be had.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say("python3-venv is missing: taking pip out of Debian's package python3-pip-whl, into .venv")
    if not run(["apt-get", "download", "-qq", "python3-pip-whl"], cwd=folder):
        return None
    for package in folder.glob("*.deb"):
        run(["dpkg-deb", "-x", package, folder])
    return next(iter(folder.glob("usr/share/python-wheels/pip-*.whl")), None)
