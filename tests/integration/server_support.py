"""A server over real sockets, in this process, for the tests of the HTTP face."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from orchestrion.core import events as ev
from orchestrion.core.ids import new_id
from orchestrion.core.settings import Settings, load_settings
from orchestrion.runtime import Runtime
from orchestrion.server import create_app
from orchestrion.server.listening import bind
from orchestrion.store.embedded import Store, open_embedded
from orchestrion.store.models import Run, RunRequest, Session


def settings_for(home: Path, **more: Any) -> Settings:
    return load_settings(home=home, **{"model": "playbook", **more})


@dataclass
class Live:
    app: FastAPI
    runtime: Runtime
    url: str
    client: httpx.AsyncClient

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def session(self, **headers: str) -> str:
        response = await self.client.post("/api/sessions", json={"title": "t"}, headers=headers)
        assert response.status_code == 201
        return str(response.json()["session_id"])


@asynccontextmanager
async def live(settings: Settings) -> AsyncIterator[Live]:
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with Runtime(settings) as runtime:
        app = create_app(runtime)
        config = uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=75,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
                yield Live(app, runtime, url, client)
        finally:
            app.state.services.stopping.set()
            server.should_exit = True
            await task


@asynccontextmanager
async def second_store(settings: Settings) -> AsyncIterator[Store]:
    """The same files, as another process would open them."""
    async with open_embedded(settings.home) as store:
        yield store


async def plant_run(store: Store, owner: str = "local") -> Run:
    """A run that nobody carries out, so that a test can write its journal."""
    now = datetime.now(UTC)
    session = Session(session_id=new_id("ses"), title="t", owner=owner, created_at=now, updated_at=now)
    run = Run(
        run_id=new_id("run"),
        session_id=session.session_id,
        state="running",
        request=RunRequest(goal="g", session_id=session.session_id),
        created_at=now,
    )
    await store.records.add_session(session)
    await store.records.add_run(run)
    return run


def delta(run: Run, text: str) -> ev.MessageDelta:
    return ev.MessageDelta(run_id=run.run_id, message_id="m", text=text)


@dataclass
class Sse:
    id: int
    event: str
    data: dict[str, Any]


async def read_sse(response: httpx.Response) -> AsyncIterator[Sse]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Sse(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


async def raw(port: int, request: bytes, *, more: bytes = b"") -> bytes:
    """Send bytes as they are and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if more:
            writer.write(more)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
