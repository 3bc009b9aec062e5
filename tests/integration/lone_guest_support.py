"""The daemon of a sandbox, serving this machine as it is, and the client for it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import orchestrion.sandbox.guest
from orchestrion.sandbox.client import GuestSandbox, UnixTransport


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    home = tmp_path / "home"
    home.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "guest.sock"))
    listener.listen(64)
    root = Path(next(iter(orchestrion.sandbox.guest.__path__)))
    process = subprocess.Popen(
        [sys.executable, "-m", "guestd", "--listener", str(listener.fileno())],
        pass_fds=[listener.fileno()],
        cwd=home,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(root)},
    )
    listener.close()
    yield process
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture
async def alone(tmp_path: Path, daemon: subprocess.Popen[bytes]) -> AsyncIterator[GuestSandbox]:
    async def end() -> None:
        daemon.terminate()

    made = GuestSandbox(
        "a" * 20,
        "none",
        UnixTransport(tmp_path / "guest.sock"),
        access_token="",
        default_cwd=str(tmp_path / "home"),
        on_close=end,
    )
    assert await made.ping(30)
    yield made
    await made.close()
