"""A client on the network attacks sandboxes through the E2B endpoint, knowing an id and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn

from orchestrion.core.settings import load_settings
from orchestrion.sandbox import SandboxSpec
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import Sandbox
from orchestrion.server.e2b.app import Endpoint
from orchestrion.server.e2b.keys import Keys
from orchestrion.server.e2b.targets import Domain
from orchestrion.server.listening import bind


@dataclass
class World:
    """The endpoint, over plain TCP, and a sandbox that belongs to somebody else."""

    port: int
    home: Path
    sandboxes: Sandboxes
    sandbox: Sandbox

    @property
    def daemon(self) -> str:
        return f"49983-{self.sandbox.id}.sbx.localhost"

    async def send(self, request: str, seconds: float = 3) -> bytes:
        """Send raw bytes; return all that comes back until it is quiet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            writer.write(request.encode("latin-1"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while piece := await reader.read(65536):
                        answer += piece
        finally:
            writer.transport.abort()
        return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = load_settings(home=tmp_path / "home", sandbox_mode="local")
    async with Sandboxes(settings) as sandboxes:
        state = await sandboxes.probe()
        if not state.ok:
            pytest.skip(state.detail)
        endpoint = Endpoint(settings, sandboxes, Keys(settings.home / "e2b", []), Domain("sbx.localhost"))
        config = uvicorn.Config(
            cast(Any, endpoint),
            http="httptools",
            ws=cast(Any, endpoint.upgrades.protocol),
            lifespan="off",
            interface="asgi3",
            log_config=None,
        )
        server = uvicorn.Server(config)
        listener = bind("127.0.0.1", 0)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with endpoint.running():
                sandbox = await sandboxes.create(SandboxSpec(owner="somebody"))
                yield World(listener.getsockname()[1], settings.home, sandboxes, sandbox)
                server.should_exit = True
                endpoint.let_go()
                await task
        finally:
            await sandboxes.close_all()


@pytest.mark.parametrize("named", ["content-length", "Content-Length, x", "close, content-length"])
async def test_a_body_is_never_taken_for_another_request(world: World, named: str) -> None:
    """`Connection` may name what is for one hop only, but not the length of the body that goes along."""
    taken = json.dumps({"token": "mine"})
    inner = f"POST /init HTTP/1.1\r\nHost: x\r\nContent-Length: {len(taken)}\r\n\r\n{taken}"
    await world.send(
        f"POST /files?path=x HTTP/1.1\r\nHost: {world.daemon}\r\nConnection: {named}\r\n"
        f"Content-Length: {len(inner)}\r\n\r\n{inner}"
    )
    answer = await world.send(
        f"GET /envs HTTP/1.1\r\nHost: {world.daemon}\r\nX-Access-Token: mine\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 401"), answer
    assert await world.sandbox.ping()
    assert (await world.sandbox.run_command("echo well")).stdout == "well\n"


_CONTROL = [
    "POST /init HTTP/1.1",
    "POST //init HTTP/1.1",
    "POST /%69nit HTTP/1.1",
    "POST /%2569nit HTTP/1.1",
    "POST /init/ HTTP/1.1",
    "POST /./init HTTP/1.1",
    "POST /x/../init HTTP/1.1",
    "POST /INIT HTTP/1.1",
    "POST /init;x HTTP/1.1",
    "POST /init%00 HTTP/1.1",
    "POST /init?x=/y HTTP/1.1",
    "POST /init%3fx HTTP/1.1",
    "POST /health#/init HTTP/1.1",
    "POST http://localhost:49983/init HTTP/1.1",
    "POST /files%20HTTP/1.1%0d%0aPOST%20/init HTTP/1.1",
    "CONNECT 127.0.0.1:49983 HTTP/1.1",
    "PUT /init HTTP/1.1",
]


@pytest.mark.parametrize("line", _CONTROL)
async def test_no_spelling_reaches_what_is_the_hosts_alone(world: World, line: str) -> None:
    body = json.dumps({"token": None})
    known = f"X-Access-Token: {world.sandbox.access_token}\r\n"
    more = f"{known}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    direct = await world.send(f"{line}\r\nHost: {world.daemon}\r\n{more}")
    shared = f"E2b-Sandbox-Id: {world.sandbox.id}\r\nE2b-Sandbox-Port: 49983\r\n"
    by_header = await world.send(f"{line}\r\nHost: localhost\r\n{shared}{more}")
    for answer in (direct, by_header):
        assert not answer.startswith(b"HTTP/1.1 2"), answer
    stranger = await world.send(f"GET /envs HTTP/1.1\r\nHost: {world.daemon}\r\nConnection: close\r\n\r\n")
    assert stranger.startswith(b"HTTP/1.1 401"), "the token stands"


_SMUGGLED = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Content-Length: 0\r\nContent-Length: 44\r\n",
    "Content-Length: +44\r\n",
    "Content-Length: 0\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHg=\r\n",
    "Expect: 100-continue\r\nContent-Length: 3\r\nConnection: expect, transfer-encoding\r\n",
]


@pytest.mark.parametrize("framing", _SMUGGLED)
async def test_a_request_of_doubtful_length_is_one_request(world: World, framing: str) -> None:
    taken = json.dumps({"token": "mine"})
    inner = f"POST /init HTTP/1.1\r\nHost: {world.daemon}\r\nContent-Length: {len(taken)}\r\n\r\n{taken}"
    await world.send(
        f"POST /files?path=x HTTP/1.1\r\nHost: {world.daemon}\r\n{framing}\r\n0\r\n\r\n{inner}", seconds=1
    )
    health = await world.send(f"GET /health HTTP/1.1\r\nHost: {world.daemon}\r\nConnection: close\r\n\r\n")
    assert health.startswith(b"HTTP/1.1 204"), "nobody gets another's answer"
    stolen = await world.send(
        f"GET /envs HTTP/1.1\r\nHost: {world.daemon}\r\nX-Access-Token: mine\r\nConnection: close\r\n\r\n"
    )
    assert stolen.startswith(b"HTTP/1.1 401"), stolen


async def test_other_hosts_headers_name_no_sandbox(world: World) -> None:
    named = f"E2b-Sandbox-Id: {world.sandbox.id}\r\nE2b-Sandbox-Port: 49983\r\nConnection: close\r\n\r\n"
    for host in ("evil.example", "api.sbx.localhost", "sbx.localhost.evil.example", "49983-x.evil.example"):
        answer = await world.send(f"GET /envs HTTP/1.1\r\nHost: {host}\r\n{named}")
        assert b" 401 " in answer.split(b"\r\n")[0], (host, answer)


async def test_nothing_of_it_is_for_other_users_of_the_host(world: World) -> None:
    """Whoever knows an id gets to its public ports, so ids are not for everybody either."""
    await world.sandboxes.snapshot(world.sandbox.id)
    for name in ("sandboxes", f"sandboxes/{world.sandbox.id}", "held", "e2b", "snapshots"):
        assert (world.home / name).stat().st_mode & 0o077 == 0, name
