"""What the page's tests share: real servers, and what they need of the machine."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrion.testing import StandIn

ORCHESTRION = Path(sys.executable).with_name("orchestrion")
CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "src" / "orchestrion" / "server" / "static" / "index.html"
READY = re.compile(r"ready on (http://\S+)")
PATIENCE_MS = 60_000

NEEDS = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM} (apt-get install chromium)"),
    pytest.mark.skipif(not BUILT.exists(), reason="the page is not built (npm run build in frontend/)"),
]


class Server:
    """`orchestrion serve` as a process of its own, that may be killed and started again on its port."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        mine = ("ANTHROPIC_", "OPENAI_", "ORCHESTRION_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        self._environment = {**inherited, "ORCHESTRION_HOME": str(home), **settings}
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        port = self.url.rsplit(":", 1)[-1] if self.url else "0"
        self._process = await asyncio.create_subprocess_exec(
            str(ORCHESTRION), "serve", "--port", port,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout
        async with asyncio.timeout(30):
            async for line in self._process.stdout:
                if match := READY.search(line.decode()):
                    self.url = match[1]
                    return
        raise AssertionError("the server ended before it was ready")

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process and self._process.returncode is None:
            self._process.send_signal(how)
            await asyncio.wait_for(self._process.wait(), 20)


class Bench:
    """Starts servers and stand-ins for one test, and ends them after it."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self._home = home
        self._stack = stack

    async def serve(self, **settings: str) -> Server:
        server = Server(self._home, settings)
        self._stack.push_async_callback(server.end)
        await server.start()
        return server

    async def serve_with(self, stand_in: StandIn) -> Server:
        await self._stack.enter_async_context(stand_in)
        return await self.serve(ANTHROPIC_BASE_URL=stand_in.url, ANTHROPIC_API_KEY="sk-page-test")

    async def post(self, server: Server, path: str, body: object) -> Any:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            return (await client.post(path, json=body)).raise_for_status().json()
