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
                yield World(listener.getsockname()[1], sandboxes, sandbox)
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
