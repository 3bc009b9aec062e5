"""Sets the checkout up for one of make's targets, and says what it does while it does it.

    python3 scripts/bootstrap run|serve|test|check|conformance

Nothing is installed outside the checkout but Debian packages, which are named before that.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time

if sys.version_info < (3, 11):
    sys.exit("[setup] Orchestrion needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …")

import debian
import environment
import page
from console import ROOT, SetupError, give_up, say


def prepare(target: str) -> None:
    """Bring everything about that `target` needs.

    Args:
        target: `run`, `serve`, `test`, `check` or `conformance`.

    Raises:
        SetupError: Something is missing that can't be brought from here.
    """
    for_tests = target == "test"
    for_e2b = target in ("test", "conformance")
    debian.provide(debian.needs(for_tests=for_tests, for_e2b=for_e2b, environment_made=environment.PYTHON.exists()))
    environment.make_environment()
    environment.install("core", "Orchestrion's dependencies")
    environment.make_inner_environment(environment.SANDBOX_PYTHON, "the sandbox's")
    environment.install("sandbox", "the sandbox's Python packages", environment.SANDBOX_PYTHON)
    if target in ("test", "check", "conformance"):
        environment.install("dev", "test and check tools")
    if for_e2b:
        environment.make_inner_environment(environment.CONFORMANCE_PYTHON, "E2B's SDKs'")
        environment.install("conformance", "E2B's SDKs", environment.CONFORMANCE_PYTHON)
    environment.install_command()
    if target in ("serve", "test"):
        page.build()
    elif target == "check":
        page.check()
    if for_tests:
        _announce_skips()


def _announce_skips() -> None:
    if debian.chromium() is None:
        say("no Chromium: the browser tests will be skipped (sudo apt-get install -y chromium)")


def main() -> None:
    """Read the target from the command line and set up, one process at a time."""
    parser = argparse.ArgumentParser(prog="bootstrap", description=__doc__)
    parser.add_argument("target", choices=("run", "serve", "test", "check", "conformance"))
    target = parser.parse_args().target
    began = time.monotonic()
    lock = os.open(ROOT / "requirements", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare(target)
    except SetupError as error:
        give_up(error)
    except PermissionError as error:
        give_up(
            SetupError(f"{error.filename} can't be written.", "Was it made by another user? Give it to yourself.")
        )
    say(f"ready ({time.monotonic() - began:.1f} s)")


if __name__ == "__main__":
    main()
