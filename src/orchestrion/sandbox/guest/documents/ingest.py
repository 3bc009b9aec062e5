"""Many documents at once: each in a process of its own, so that a hostile one costs itself alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .extract import extract
from .kinds import Unreadable

SECONDS = 75
MEMORY = 3 * 1024**3
_PARALLEL = 2
_UNREADABLE = 3


def ingest(files: list[dict[str, str]], folder: str) -> int:
    """Extract files and write `<folder>/<id>.json` for each: what `extract` returns, or `{"error": sentence}`.

    Args:
        files: `id`, `path`, and optionally `name` and `charset` of each.
        folder: Where the results go; made if it is not there.

    Returns:
        How many could be read.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return sum(pool.map(lambda file: _one(file, Path(folder) / f"{file['id']}.json"), files))


def _one(file: dict[str, str], result: Path) -> bool:
    name = file.get("name") or Path(file["path"]).name
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    command = [sys.executable, "-m", "documents", json.dumps(file), str(result)]
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter on our own module
            command, env=environment, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL, capture_output=True
        )
    except subprocess.TimeoutExpired:
        return _failed(result, f"{name} could not be read within {SECONDS} seconds.")
    if done.returncode not in (0, _UNREADABLE):
        return _failed(result, f"{name} could not be read: its content stopped the reader.")
    return done.returncode == 0


def _failed(result: Path, sentence: str) -> bool:
    result.write_text(json.dumps({"error": sentence}), encoding="utf-8")
    return False


def main(arguments: list[str]) -> int:
    """Extract one file: the command line of the child process.

    Args:
        arguments: The file as `ingest` takes it, in JSON, and the path of the result.

    Returns:
        0 if it could be read, 3 if a sentence says why not.
    """
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))
    file = json.loads(arguments[0])
    try:
        answer = json.dumps(extract(file["path"], name=file.get("name"), charset=file.get("charset")))
    except Unreadable as error:
        answer = json.dumps({"error": str(error)})
    except MemoryError:
        return 2
    Path(arguments[1]).write_text(answer, encoding="utf-8")
    return _UNREADABLE if answer.startswith('{"error"') else 0
