"""A runtime in a data directory of its own, with the stand-in as its model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrion.core.events import Event
from orchestrion.core.settings import Settings
from orchestrion.runtime import Runtime
from orchestrion.store.models import Run, RunRequest
from orchestrion.testing import Responder, StandIn

CSV = "day,region,units\n2024-01-01,north,5\n2024-01-02,south,7\n2024-01-03,north,9\n"


def settings_for(home: Path, server: StandIn | None = None, **values: Any) -> Settings:
    """Settings that name the stand-in, or the playbook if there is none."""
    model: dict[str, Any] = {"model": "playbook"}
    if server is not None:
        model = {
            "anthropic_api_key": "test-key",
            "anthropic_model": "claude-stand-in",
            "anthropic_base_url": server.url,
        }
    return Settings(home=home, **(model | values))


@asynccontextmanager
async def running(home: Path, responder: Responder, **values: Any) -> AsyncIterator[tuple[Runtime, StandIn]]:
    """A runtime whose models are played by `responder` over real sockets."""
    async with StandIn(responder) as server, Runtime(settings_for(home, server, **values)) as runtime:
        yield runtime, server


async def upload(runtime: Runtime, session_id: str, name: str, data: bytes) -> str:
    """Put a file into a session and return its path."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    file = await runtime.workspace(session_id).store_upload(name, chunks(), limit=2**30)
    return file.path


async def to_the_end(runtime: Runtime, request: RunRequest) -> tuple[Run, list[Event]]:
    """Carry a goal out and return the run as it ended, and its events."""
    run = await runtime.submit(request, owner="local")
    events = [event async for event in runtime.follow(run.run_id, owner=None)]
    return await runtime.get_run(run.run_id, owner=None), events


def types(events: list[Event]) -> list[str]:
    """The events' types, in order."""
    return [event.type for event in events]
