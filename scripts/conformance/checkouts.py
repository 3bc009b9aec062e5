"""Where the suites come from: a checkout that the user names, or a clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from lab import ROOT, say

_CLONES = ROOT / ".venv" / "conformance-checkouts"
_SECONDS = 300


def e2b() -> Path:
    """Return a checkout of E2B's SDKs."""
    return _checkout("E2B_REPO", "E2B", Path("packages/python-sdk/tests"), None)


def code_interpreter() -> Path:
    """Return a checkout of its code interpreter; one beside E2B's is taken."""
    beside = Path(os.environ["E2B_REPO"]).absolute().parent if os.environ.get("E2B_REPO") else None
    return _checkout("E2B_CI_REPO", "code-interpreter", Path("python/tests"), beside)


def _checkout(variable: str, name: str, proof: Path, beside: Path | None) -> Path:
    if given := os.environ.get(variable):
        path = Path(given).expanduser().absolute()
        if not (path / proof).is_dir():
            _give_up(f"{variable}={given} is no checkout of e2b-dev/{name}: it has no {proof}.")
        return path
    for path in filter(None, (beside and beside / name, _CLONES / name)):
        if (path / proof).is_dir():
            return path
    return _clone(variable, name)


def _clone(variable: str, name: str) -> Path:
    target, url = _CLONES / name, f"https://github.com/e2b-dev/{name}"
    say(f"cloning {url}")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["git", "clone", "--quiet", "--depth=1", url, str(target)]
    try:
        done = subprocess.run(command, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"}, timeout=_SECONDS, check=False)
        cloned = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        cloned = False
    if not cloned:
        _give_up(f"{url} can't be cloned here. Set {variable} to a checkout of it: make conformance {variable}=/path")
    return target


def _give_up(sentence: str) -> NoReturn:
    sys.exit(f"[conformance] {sentence}")
