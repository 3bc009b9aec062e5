"""The daemon of a sandbox, serving this machine as it is, and the client for it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

import orchestrion.sandbox.guest
from orchestrion.sandbox.client import GuestSandbox, Transport, UnixTransport
from orchestrion.sandbox.client.transport import Body, Reply
from orchestrion.sandbox.protocols import PortAddress


class Foreign:
    """The way to a daemon that knows nothing of our extensions: neither side's headers for them pass."""

    ours = False

    def __init__(self, inner: UnixTransport) -> None:
        self._inner = inner

    def address(self, port: int) -> PortAddress:
        return self._inner.address(port)

    async def send(
        self, port: int, method: str, target: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        known = {name: value for name, value in headers.items() if not name.lower().startswith("orchestrion-")}
        reply = await self._inner.send(port, method, target, known, body)
        reply.headers.pop("orchestrion-guest", None)
        return reply

    async def aclose(self) -> None:
        await self._inner.aclose()


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
    made = _client(tmp_path, daemon, UnixTransport(tmp_path / "guest.sock"))
    assert await made.ping(30)
    yield made
    await made.close()


@pytest.fixture
async def foreign(tmp_path: Path, daemon: subprocess.Popen[bytes]) -> AsyncIterator[GuestSandbox]:
    made = _client(tmp_path, daemon, Foreign(UnixTransport(tmp_path / "guest.sock")))
    assert await made.ping(30)
    yield made
    await made.close()


def _client(place: Path, daemon: subprocess.Popen[bytes], transport: Transport) -> GuestSandbox:
    async def end() -> None:
        daemon.terminate()

    home = str(place / "home")
    return GuestSandbox("a" * 20, "none", transport, access_token="", default_cwd=home, on_close=end)
