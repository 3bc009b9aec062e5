"""What set-up says and how it runs commands: one line before each step, one clear sentence when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]


class SetupError(Exception):
    """Set-up can't go on.

    Attributes:
        remedy: What to do about it; a command where there is one.
    """

    def __init__(self, sentence: str, remedy: str) -> None:
        super().__init__(sentence)
        self.remedy = remedy


def say(text: str) -> None:
    """Print one line of progress at once, even into a pipe."""
    print(f"[setup] {text}", flush=True)


def give_up(error: SetupError) -> NoReturn:
    """Print the sentence and the remedy on stderr and leave with exit code 1."""
    sys.stdout.flush()
    print(f"[setup] {error}\n[setup] {error.remedy}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> bool:
    """Run a command with its output shown; return whether it exited with 0."""
    words = [str(part) for part in command]
    try:
        done = subprocess.run(words, cwd=cwd, env={**os.environ, **(env or {})}, check=False)
    except OSError as error:
        say(f"{command[0]} can't be run: {error.strerror}")
        return False
    return done.returncode == 0


def output(command: Sequence[str | Path], *, timeout: float = 60) -> str:
    """Return what a command prints, stripped; empty where it can't be run or fails."""
    words = [str(part) for part in command]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
