"""The web page: built with the system's Node.js where that is new enough, else with the one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import environment
from console import ROOT, SetupError, output, run, say

SOURCE = ROOT / "frontend"
BUILT = ROOT / "src" / "orchestrion" / "server" / "static"
_NOT_SOURCE = {"node_modules", "dist", ".vite"}


def build() -> None:
    """Build the page, unless the one that is there was made from the same sources.

    Raises:
        SetupError: npm could not install or build.
    """
    made_from = environment.digest(*(path.read_bytes() for path in _sources()))
    if environment.done("page", made_from) and (BUILT / "index.html").is_file():
        return
    npm, env = npm_command()
    _packages(npm, env)
    _npm_step("building the page", [npm, "run", "--silent", "build"], env)
    environment.mark("page", made_from)


def check() -> None:
    """Run the page's own checks.

    Raises:
        SetupError: One failed.
    """
    build()
    npm, env = npm_command()
    _npm_step("checking the page", [npm, "run", "--silent", "check"], env)


def _packages(npm: str, env: dict[str, str]) -> None:
    """Install what the lock file names, and nothing else; `npm ci` begins from nothing, so not without need."""
    made_from = environment.digest((SOURCE / "package-lock.json").read_bytes())
    if environment.done("page-packages", made_from) and (SOURCE / "node_modules").is_dir():
        return
    command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    _npm_step("installing what the page is built with", command, env)
    environment.mark("page-packages", made_from)


def _sources() -> Iterator[Path]:
    for folder, names, files in os.walk(SOURCE):
        names[:] = sorted(set(names) - _NOT_SOURCE)
        yield from (Path(folder) / name for name in sorted(files) if not name.endswith(".tsbuildinfo"))


def _npm_step(what: str, command: list[str], env: dict[str, str]) -> None:
    say(what)
    if not run(command, env=env, cwd=SOURCE):
        raise SetupError(f"This failed: {what}.", "See what npm says above: mostly no network.")


def version(printed: str) -> tuple[int, ...]:
    """Read `v20.19.1` as (20, 19, 1); () where there is no version in it."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", printed)
    return tuple(int(part) for part in found.groups()) if found else ()


def new_enough(node: tuple[int, ...], npm: tuple[int, ...]) -> bool:
    """Tell whether Vite runs on this Node.js and this npm can install it (npm 10 leaves its native part out)."""
    return ((20, 19) <= node < (21,) or node >= (22, 12)) and npm >= (11,)


def npm_command() -> tuple[str, dict[str, str]]:
    """Return npm and the environment that it needs."""
    cache = {"npm_config_cache": str(environment.VENV / ".cache" / "npm"), "npm_config_update_notifier": "false"}
    npm = shutil.which("npm")
    if npm and new_enough(version(output(["node", "--version"])), version(output([npm, "--version"]))):
        return npm, cache
    environment.install("node", "Node.js, to build the page: the system's is missing or too old")
    binaries = environment.VENV / "bin"
    return str(binaries / "npm"), {**cache, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
