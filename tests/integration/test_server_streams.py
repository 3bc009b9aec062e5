"""Readers of a run: every event once and in order, whatever the connection does."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from server_support import Live, delta, live, plant_run, read_sse, second_store, settings_for
from websockets.asyncio.client import ClientConnection, connect

from orchestrion.core import events as ev
from orchestrion.core.settings import Settings
from orchestrion.server import sse
from orchestrion.store.models import Run
from orchestrion.testing import Reply, StandIn


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Live]:
    async with live(settings) as running:
        yield running


async def read_from(server: Live, run_id: str, last: int, stop_after: int | None = None) -> list[int]:
    headers = {"Last-Event-ID": str(last)} if last else {}
    seen: list[int] = []
    async with server.client.stream("GET", f"/api/stream/{run_id}", headers=headers) as response:
        assert response.status_code == 200
        async for event in read_sse(response):
            assert event.data["seq"] == event.id
            seen.append(event.id)
            if len(seen) == stop_after:
                break
    return seen


async def restless_reader(server: Live, run_id: str, total: int, chance: random.Random) -> list[int]:
    """Drop the connection after a random number of events and come back, until the end."""
    seen: list[int] = []
    while not seen or seen[-1] < total:
        seen += await read_from(server, run_id, seen[-1] if seen else 0, chance.randint(1, 120))
        await asyncio.sleep(chance.random() * 0.03)
    return seen


async def test_ten_readers_that_drop_and_return_see_every_event_once(server: Live, settings: Settings) -> None:
    total = 1200
    async with second_store(settings) as store:
        run = await plant_run(store)

        async def write() -> None:
            for begin in range(1, total, 40):
                await store.journal.append(*(delta(run, f"{n} ") for n in range(begin, min(begin + 40, total))))
                await asyncio.sleep(0.01)
            await store.journal.append(ev.RunFinished(run_id=run.run_id, answer=""))

        readers = [restless_reader(server, run.run_id, total, random.Random(n)) for n in range(10)]
        results = (await asyncio.gather(write(), *readers))[1:]
    assert all(seen == list(range(1, total + 1)) for seen in results)


async def test_a_hundred_chats_at_once_lose_nothing(tmp_path: Path) -> None:
    text = "One two three four five. "

    def answer(request: object) -> Reply:
        return Reply(text=text)

    async with StandIn(answer) as model:
        settings = settings_for(
            tmp_path,
            model=None,
            anthropic_api_key="k",
            anthropic_model="stand-in",
            anthropic_base_url=model.url,
        )
        async with live(settings) as server:

            async def chat(number: int) -> tuple[list[int], str, str]:
                body = {"message": "hello", "mode": "chat"}
                accepted = (await server.client.post("/api/chat", json=body)).json()
                async with server.client.stream("GET", accepted["stream_url"]) as response:
                    seen = [event async for event in read_sse(response)]
                said = "".join(event.data["text"] for event in seen if event.event == "message.delta")
                return [event.id for event in seen], said, seen[-1].event

            results = await asyncio.gather(*(chat(number) for number in range(100)))
    for numbers, said, last in results:
        assert numbers == list(range(1, len(numbers) + 1))
        assert said == text
        assert last == "run.finished"


async def test_a_stream_of_an_ended_run_closes_at_once(server: Live, settings: Settings) -> None:
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(delta(run, "a"), ev.RunFinished(run_id=run.run_id, answer="a"))
        await store.records.update_run(run.model_copy(update={"state": "finished"}))
    assert await read_from(server, run.run_id, 0) == [1, 2]
    assert await read_from(server, run.run_id, 1) == [2]
    assert await read_from(server, run.run_id, 2) == []
    assert await read_from(server, run.run_id, 99) == []


async def test_a_resumed_run_is_followed_past_its_first_end(server: Live, settings: Settings) -> None:
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(
            ev.RunFailed(run_id=run.run_id, code="x", error="x"),
            ev.RunResumed(run_id=run.run_id, worker="w", reason="asked"),
            ev.RunFinished(run_id=run.run_id, answer="a"),
        )
        await store.records.update_run(run.model_copy(update={"state": "finished"}))
    assert await read_from(server, run.run_id, 0) == [1, 2, 3]
    assert await read_from(server, run.run_id, 1) == [2, 3]
    assert await read_from(server, run.run_id, 3) == []


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "9" * 30, "١"])
async def test_a_malformed_position_is_refused(server: Live, settings: Settings, position: str) -> None:
    async with second_store(settings) as store:
        run = await plant_run(store)
    response = await server.client.get(f"/api/stream/{run.run_id}", params={"after": position})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    response = await server.client.get(
        f"/api/stream/{run.run_id}", headers={"Last-Event-ID": position.encode("utf-8")}
    )
    assert response.status_code == 422


async def test_the_header_wins_over_the_parameter(server: Live, settings: Settings) -> None:
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(delta(run, "a"), delta(run, "b"), ev.RunFinished(run_id=run.run_id, answer="ab"))
    url = f"/api/stream/{run.run_id}?after=1"
    async with server.client.stream("GET", url) as response:
        assert [event.id async for event in read_sse(response)] == [2, 3]
    async with server.client.stream("GET", url, headers={"Last-Event-ID": "2"}) as response:
        assert [event.id async for event in read_sse(response)] == [3]


async def test_a_quiet_stream_beats_and_ends_with_the_server(
    server: Live, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(delta(run, "a"))
    async with server.client.stream("GET", f"/api/stream/{run.run_id}") as response:
        lines = response.aiter_lines()
        while not (await anext(lines)).startswith(":"):
            pass
        server.app.state.services.stopping.set()
        assert all(line == "" or line.startswith(":") for line in [line async for line in lines])


async def test_a_reader_that_leaves_is_let_go(server: Live, settings: Settings) -> None:
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(delta(run, "a"))
    assert await read_from(server, run.run_id, 0, stop_after=1) == [1]
    gauge = server.app.state.services.metrics.streams.labels("sse")._value
    async with asyncio.timeout(10):
        while gauge.get():
            await asyncio.sleep(0.01)


async def test_text_of_any_kind_arrives_as_it_was(server: Live, settings: Settings) -> None:
    text = "a\nb\r\n\ndata: x\n\nid: 9\u2028\u0000é😀"
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(delta(run, text), ev.RunFinished(run_id=run.run_id, answer=text))
    async with server.client.stream("GET", f"/api/stream/{run.run_id}") as response:
        # httpx splits lines at more places than the standard does, so the bytes are parsed here.
        body = (await response.aread()).decode()
    data = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
    assert json.loads(data[0])["text"] == text
    assert len(data) == 2


async def planted(settings: Settings, *texts: str) -> Run:
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(
            *(delta(run, text) for text in texts), ev.RunFinished(run_id=run.run_id, answer="")
        )
    return run


async def receive(socket: ClientConnection, count: int) -> list[dict]:
    async with asyncio.timeout(10):
        return [json.loads(await socket.recv()) for _ in range(count)]


async def test_a_web_socket_follows_runs(server: Live, settings: Settings) -> None:
    first, second = await planted(settings, "a", "b"), await planted(settings, "c")
    async with connect(f"ws://127.0.0.1:{server.port}/api/ws") as socket:
        await socket.send(json.dumps({"subscribe": first.run_id, "after": 1}))
        assert [event["seq"] for event in await receive(socket, 2)] == [2, 3]
        await socket.send(json.dumps({"subscribe": second.run_id}))
        assert [event["type"] for event in await receive(socket, 2)] == ["message.delta", "run.finished"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"subscribe": "run_nope"}', "not_found"),
        ("nonsense", "invalid_input"),
        ("{}", "invalid_input"),
        (b"bytes", "invalid_input"),
        ('{"subscribe": "run_x", "after": -1}', "invalid_input"),
    ],
)
async def test_a_web_socket_says_what_is_wrong_and_goes_on(
    server: Live, settings: Settings, message: str | bytes, code: str
) -> None:
    run = await planted(settings)
    async with connect(f"ws://127.0.0.1:{server.port}/api/ws") as socket:
        await socket.send(message)
        (answer,) = await receive(socket, 1)
        assert answer["type"] == "error"
        assert answer["problem"]["code"] == code
        await socket.send(json.dumps({"subscribe": run.run_id}))
        assert (await receive(socket, 1))[0]["type"] == "run.finished"


async def test_a_web_socket_can_let_go_of_a_run(server: Live, settings: Settings) -> None:
    async with second_store(settings) as store:
        run = await plant_run(store)
        await store.journal.append(delta(run, "a"))
        async with connect(f"ws://127.0.0.1:{server.port}/api/ws") as socket:
            await socket.send(json.dumps({"subscribe": run.run_id}))
            await receive(socket, 1)
            await socket.send(json.dumps({"unsubscribe": run.run_id}))
            await socket.send("ping")
            assert (await receive(socket, 1))[0]["type"] == "error"
            await store.journal.append(delta(run, "b"))
            await socket.send(json.dumps({"subscribe": run.run_id, "after": 0}))
            assert [event["seq"] for event in await receive(socket, 2)] == [1, 2]


async def test_no_reader_is_told_of_a_run_of_someone_else(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, api_keys=["one", "two"])
    async with live(settings) as server:
        mine = {"Authorization": "Bearer one"}
        accepted = (await server.client.post("/api/chat", json={"message": "hello"}, headers=mine)).json()
        theirs = {"Authorization": "Bearer two"}
        response = await server.client.get(accepted["stream_url"], headers=theirs)
        assert response.status_code == 404
        async with connect(f"ws://127.0.0.1:{server.port}/api/ws", additional_headers=theirs) as socket:
            await socket.send(json.dumps({"subscribe": accepted["run_id"]}))
            assert (await receive(socket, 1))[0]["problem"]["code"] == "not_found"
        async with server.client.stream("GET", accepted["stream_url"], headers=mine) as stream:
            assert [event.event async for event in read_sse(stream)][-1] == "run.finished"


async def test_small_writes_do_not_wait_for_each_other(server: Live) -> None:
    accepted: list[socket.socket] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readline()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found = socket.socket(fileno=os.dup(int(descriptor)))
            if found.family == socket.AF_INET and found.getpeername() == writer.get_extra_info("sockname"):
                accepted.append(found)
    assert len(accepted) == 1
    assert accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    accepted[0].close()
    writer.close()
