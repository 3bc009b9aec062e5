"""The guest daemon's file side over its own HTTP server, on a unix socket as the host reaches it."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrion.sandbox.guest.guestd import files_http, filesystem, metrics
from orchestrion.sandbox.guest.guestd.app import App
from orchestrion.sandbox.guest.guestd.config import Config
from orchestrion.sandbox.guest.guestd.limits import GuestLimits
from orchestrion.sandbox.guest.guestd.server import Server


def guest_config(token: str | None = None) -> Config:
    """As root without an account `user`, that is who the daemon itself is."""
    limits = GuestLimits(memory_mb=512, disk_mb=100)
    return Config(token=token, limits=limits, allow_root=os.geteuid() == 0)


class Guest:
    """The daemon's file side and a client of it."""

    def __init__(self, config: Config, client: httpx.AsyncClient, home: Path) -> None:
        self.config, self.client, self.home = config, client, home

    async def call(self, method: str, user: str | None = None, **message: Any) -> dict[str, Any]:
        headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()} if user else {}
        answer = await self.client.post(f"/filesystem.Filesystem/{method}", json=message, headers=headers)
        return {"status": answer.status_code, **answer.json()}

    async def write(self, path: Path | str, data: bytes, **more: Any) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream", **more.pop("headers", {})}
        params = {"path": str(path), **more}
        return await self.client.post("/files", params=params, content=data, headers=headers)

    async def read(self, path: Path | str, **headers: str) -> httpx.Response:
        return await self.client.get("/files", params={"path": str(path)}, headers=headers)

    async def watch(self, path: Path, **options: bool) -> str:
        return str((await self.call("CreateWatcher", path=str(path), **options))["watcherId"])

    async def changes(self, watcher: str) -> list[tuple[str, str]]:
        answer = await self.call("GetWatcherEvents", watcherId=watcher)
        return [(event["type"].removeprefix("EVENT_TYPE_"), event["name"]) for event in answer["events"]]


@pytest.fixture
def config() -> Config:
    return guest_config()


@pytest.fixture
async def guest(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guest]:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    routes = {**files_http.routes(config), **filesystem.routes(config), **metrics.routes(config)}
    server = Server(App(config, routes, lambda _config: None), {})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "guest.sock"))
    listener.listen()
    await server.listen_unix(listener)
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "guest.sock"))
    headers = {"X-Access-Token": config.token} if config.token else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://guest", headers=headers, timeout=30) as client:
        yield Guest(config, client, home)
    server.close()


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    lines = b""
    for name, file_name, data in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name is not None else "")
        lines += f"--edge\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"
    return lines + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return found
