"""kill -9 of the server in the middle of a run: nothing shown is lost, and the run goes on by itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrion.testing import Reply, Request, StandIn, ToolCall

PLAN = "1. Write once\n2. Go on"


@asynccontextmanager
async def serving(home: Path, model: StandIn) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """`orchestrion serve` as a process of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "ORCHESTRION_HOME": str(home),
        "ANTHROPIC_API_KEY": "test-key",
        "ANTHROPIC_MODEL": "claude-stand-in",
        "ANTHROPIC_BASE_URL": model.url,
    }
    command = [str(Path(sys.prefix, "bin", "orchestrion")), "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        async with asyncio.timeout(60):
            while not (found := re.search(rb"ready on (\S+)", line := await process.stdout.readline())):
                assert line, "the server ended before it was ready"
        async with httpx.AsyncClient(base_url=found[1].decode(), timeout=30) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def stream(client: httpx.AsyncClient, run_id: str, after: int = 0) -> AsyncIterator[dict[str, Any]]:
    async with client.stream("GET", f"/api/stream/{run_id}", headers={"Last-Event-ID": str(after)}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line[5:])


def worker(request: Request, gate: asyncio.Event) -> Any:
    """The agent writes a line twice over; between the two it waits for the gate."""
    results = sum(
        message["role"] == "user" and "tool_result" in str(message["content"]) for message in request.messages
    )
    append = "import pathlib\nwith open('effects.txt', 'a') as f:\n    f.write('{}\\n')"
    if results == 0:
        return Reply(tool_calls=[ToolCall("execute_code", {"code": append.format("first")})])
    if results == 1:

        async def later() -> Reply:
            await gate.wait()
            return Reply(tool_calls=[ToolCall("execute_code", {"code": append.format("second")})])

        return later()
    return Reply("Both are written.")


@pytest.mark.usefixtures("sandboxes")
async def test_a_run_outlives_its_server(tmp_path: Path) -> None:
    gate = asyncio.Event()

    def respond(request: Request) -> Any:
        if "planner" in request.system:
            return Reply(PLAN)
        if "summariser" in request.system:
            return Reply("All done.")
        return worker(request, gate)

    home = tmp_path / "home"
    async with StandIn(respond) as model:
        seen: list[dict[str, Any]] = []
        async with serving(home, model) as (process, client):
            answer = (await client.post("/api/chat", json={"message": "do it", "agent": "data"})).json()
            run_id = answer["run_id"]
            try:
                async for event in stream(client, run_id):
                    seen.append(event)
                    if event["type"] == "tool.finished":
                        while model.active == 0:
                            await asyncio.sleep(0.01)
                        process.send_signal(signal.SIGKILL)
            except httpx.HTTPError:
                pass
            await process.wait()
        assert seen[-1]["type"] != "run.finished"
        gate.set()
        async with serving(home, model) as (_, client):
            again = [event async for event in stream(client, run_id)]
            rest = [event async for event in stream(client, run_id, after=seen[-1]["seq"])]
            run = (await client.get(f"/api/runs/{run_id}")).json()
            effects = (await client.get(f"/api/sessions/{run['session_id']}/files/effects.txt")).text
    assert again[: len(seen)] == seen
    assert seen + rest == again
    assert [event["seq"] for event in again] == list(range(1, len(again) + 1))
    assert "run.resumed" in [event["type"] for event in rest]
    assert again[-1]["type"] == "run.finished"
    assert run["state"] == "finished"
    assert effects.split() == ["first", "second"]


@pytest.mark.usefixtures("sandboxes")
async def test_a_call_that_was_cut_off_is_not_repeated(tmp_path: Path) -> None:
    def respond(request: Request) -> Reply:
        if "planner" in request.system:
            return Reply(PLAN)
        if "summariser" in request.system:
            return Reply("All done.")
        if "tool_result" in str(request.messages):
            return Reply("unknown was said" if "outcome of this call is unknown" in str(request.messages) else "?")
        code = "with open('effects.txt', 'a') as f:\n    f.write('once\\n')\nimport time\ntime.sleep(60)"
        return Reply(tool_calls=[ToolCall("execute_code", {"code": code})])

    home = tmp_path / "home"
    async with StandIn(respond) as model:
        async with serving(home, model) as (process, client):
            run = (await client.post("/api/chat", json={"message": "do it", "agent": "data"})).json()
            effects = home / "workspaces" / run["session_id"] / "effects.txt"
            async with asyncio.timeout(30):
                while not (effects.exists() and effects.read_text()):
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        async with serving(home, model) as (_, client):
            events = [event async for event in stream(client, run["run_id"])]
    assert effects.read_text() == "once\n"
    finished = [event for event in events if event["type"] == "tool.finished"]
    assert [event["status"] for event in finished] == ["unknown"]
    assert events[-1]["type"] == "run.finished"
    assert any(
        "unknown was said" in event.get("text", "") for event in events if event["type"] == "message.completed"
    )


async def test_a_stop_hands_back_and_the_next_server_goes_on(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def respond(_: Request) -> Reply:
        await gate.wait()
        return Reply("hello after the restart")

    async with StandIn(respond) as model:
        async with serving(tmp_path, model) as (process, client):
            run = (await client.post("/api/chat", json={"message": "hello"})).json()
            while not model.active:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await process.wait()
        gate.set()
        async with serving(tmp_path, model) as (_, client):
            events = [event async for event in stream(client, run["run_id"])]
    assert events[-1]["type"] == "run.finished"
    assert events[-1]["answer"] == "hello after the restart"
