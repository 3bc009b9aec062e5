"""The guest's files, as a directory and as one archive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orchestrion.sandbox.bundle import payload_dir, zipapp_file


def test_the_payload_is_made_once_and_whole(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        payload = payload_dir(tmp_path)
    finally:
        os.umask(before)
    assert {path.name for path in payload.iterdir()} == {"guestd", "tables", "documents", "h11", "python_multipart"}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in payload.rglob("*"))
    assert payload_dir(tmp_path) == payload
    assert list(tmp_path.iterdir()) == [payload]


def test_the_archive_runs_alone(tmp_path: Path) -> None:
    archive = zipapp_file(tmp_path)
    done = subprocess.run([sys.executable, "-I", str(archive), "--help"], capture_output=True, text=True, check=True)
    assert "--code-port" in done.stdout
