"""Chat, runs, sessions, health, documents: over real sockets with the playbook model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from server_support import Live, live, raw, read_sse, settings_for


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(settings_for(tmp_path)) as running:
        yield running


def assert_problem(response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body) == {"type", "title", "status", "code", "detail", "remedy", "request_id"}
    return body


async def say_hello(server: Live, **more) -> dict:
    response = await server.client.post("/api/chat", json={"message": "hello", **more})
    assert response.status_code == 202, response.text
    return response.json()


async def test_a_chat_is_accepted_streamed_and_ends(server: Live) -> None:
    accepted = await say_hello(server)
    assert accepted["stream_url"] == f"/api/stream/{accepted['run_id']}"
    async with server.client.stream("GET", accepted["stream_url"]) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        seen = [event async for event in read_sse(response)]
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert all(event.event == event.data["type"] and event.id == event.data["seq"] for event in seen)
    assert seen[0].event == "run.created"
    assert seen[-1].event == "run.finished"
    assert "message.delta" in {event.event for event in seen}


async def test_a_second_message_carries_the_session_on(server: Live) -> None:
    first = await say_hello(server)
    second = await say_hello(server, session_id=first["session_id"])
    assert second["session_id"] == first["session_id"]
    detail = (await server.client.get(f"/api/sessions/{first['session_id']}")).json()
    assert {run["run_id"] for run in detail["runs"]} == {first["run_id"], second["run_id"]}
    listed = (await server.client.get("/api/runs", params={"session_id": first["session_id"], "limit": 1})).json()
    assert len(listed["runs"]) == 1


async def test_events_come_in_pages(server: Live) -> None:
    accepted = await say_hello(server)
    async with server.client.stream("GET", accepted["stream_url"]) as response:
        seen = [event.data async for event in read_sse(response)]
    events: list = []
    after = 0
    while True:
        url = f"/api/runs/{accepted['run_id']}/events"
        page = (await server.client.get(url, params={"after": after, "limit": 2})).json()
        if not page["events"]:
            assert page["last_seq"] == after
            break
        events += page["events"]
        after = page["last_seq"]
    assert events == seen


async def test_cancel_of_an_ended_run_changes_nothing(server: Live) -> None:
    accepted = await say_hello(server)
    async with server.client.stream("GET", accepted["stream_url"]) as response:
        [event async for event in read_sse(response)]
    response = await server.client.post(f"/api/runs/{accepted['run_id']}/cancel")
    assert response.status_code == 202
    assert response.json()["state"] == "finished"
    assert_problem(await server.client.post(f"/api/runs/{accepted['run_id']}/resume"), 409, "conflict")


async def test_sessions_from_first_to_last(server: Live) -> None:
    session = (await server.client.post("/api/sessions", json={"title": "Früh"})).json()
    url = f"/api/sessions/{session['session_id']}"
    assert (await server.client.get(url)).json()["runs"] == []
    renamed = await server.client.patch(url, json={"title": "Spät"})
    assert renamed.json()["title"] == "Spät"
    assert [s["title"] for s in (await server.client.get("/api/sessions")).json()["sessions"]] == ["Spät"]
    assert_problem(await server.client.patch(url, json={"title": " "}), 422, "invalid_input")
    assert (await server.client.delete(url)).status_code == 204
    assert_problem(await server.client.get(url), 404, "not_found")
    assert (await server.client.post("/api/sessions")).status_code == 201


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "body"),
        (b"{}", "`message` is missing"),
        (b'{"message": "  "}', "white space"),
        (b'{"message": 3}', "`message`"),
        (b'{"message": "x", "colour": 1}', "`colour` is not known"),
        (b'{"message": "x", "mode": "fast"}', "`mode`"),
        (b'{"message": "x", "budget": {"usd": -1}}', "`budget.usd`"),
        (b'{"message": "x", "budget": {"usd": 1e400}}', "`budget.usd`"),
        (b"[]", "body"),
    ],
)
async def test_a_wrong_body_gets_one_sentence(server: Live, body: bytes, says: str) -> None:
    response = await server.client.post("/api/chat", content=body, headers={"Content-Type": "application/json"})
    problem = response.json()
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"
    assert says in problem["detail"]
    assert problem["remedy"]
    assert (await server.client.get("/api/runs")).json()["runs"] == []


NOT_THERE = [
    ("GET", "/api/runs/run_nope", 404, "not_found"),
    ("GET", "/api/stream/run_nope", 404, "not_found"),
    ("GET", "/api/sessions/../../etc/files", 404, "not_found"),
    ("GET", "/api/traces/run_nope/session.json", 404, "not_found"),
    ("GET", "/api/interrupts", 404, "not_found"),
    ("POST", "/api/interrupts/x/respond", 404, "not_found"),
    ("POST", "/ag-ui", 404, "not_found"),
    ("POST", "/mcp", 404, "not_found"),
    ("GET", "/api/skills", 404, "not_found"),
    ("GET", "/nothing", 404, "not_found"),
    ("GET", "/nothing.js", 404, "not_found"),
    ("GET", "/assets/../../app.py", 404, "not_found"),
    ("GET", "/assets/%2e%2e/%2e%2e/app.py", 404, "not_found"),
    ("DELETE", "/api/chat", 405, "method_not_allowed"),
    ("GET", "/api/runs?limit=0", 422, "invalid_input"),
    ("GET", "/api/runs?limit=many", 422, "invalid_input"),
    ("GET", "/api/runs/run_nope/events?after=-1", 422, "invalid_input"),
]


async def test_what_is_not_there_is_a_problem_document(server: Live) -> None:
    for method, path, status, code in NOT_THERE:
        assert_problem(await server.client.request(method, path), status, code)


async def test_an_unforeseen_error_shows_its_id_and_nothing_else(server: Live, monkeypatch) -> None:
    async def broken(**_: object) -> None:
        raise RuntimeError("secret insides")

    monkeypatch.setattr(server.runtime, "list_sessions", broken)
    response = await server.client.get("/api/sessions", headers={"X-Request-ID": "abc-123"})
    body = assert_problem(response, 500, "internal_error")
    assert body["request_id"] == "abc-123"
    assert "insides" not in response.text


async def test_request_ids_are_kept_or_made(server: Live) -> None:
    given = await server.client.get("/healthz", headers={"X-Request-ID": "mine.1"})
    assert given.headers["x-request-id"] == "mine.1"
    made = await server.client.get("/healthz", headers={"X-Request-ID": "a b\tc"})
    assert made.headers["x-request-id"].startswith("req_")


async def test_a_large_body_is_refused_before_it_is_read(server: Live) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000\r\n\r\n"
    answer = await raw(server.port, head)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/problem+json" in answer
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    head = (
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = await raw(server.port, head, more=chunk * 6)
    assert answer.startswith(b"HTTP/1.1 413")


async def test_urls_begin_with_the_prefix_of_a_proxy(server: Live) -> None:
    headers = {"X-Forwarded-Prefix": "/tools/orchestrion/"}
    response = await server.client.post("/api/chat", json={"message": "hello"}, headers=headers)
    assert response.json()["stream_url"].startswith("/tools/orchestrion/api/stream/run_")
    for hostile in ("//evil.example", "/a/../b", "/<script>"):
        response = await server.client.post(
            "/api/chat", json={"message": "hello"}, headers={"X-Forwarded-Prefix": hostile}
        )
        assert response.json()["stream_url"].startswith("/api/stream/")


async def test_health_metrics_and_descriptions(server: Live) -> None:
    assert (await server.client.get("/healthz")).json() == {"status": "ok"}
    ready = await server.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"  # the playbook is no language model
    assert {"store", "model"} <= {check["name"] for check in ready.json()["checks"]}
    await say_hello(server)
    text = (await server.client.get("/metrics")).text
    assert 'orchestrion_http_requests_total{method="POST",route="/api/chat",status="202"} 1.0' in text
    assert "orchestrion_runs_accepted_total 1.0" in text
    schema = (await server.client.get("/openapi.json")).json()
    assert {"/api/chat", "/api/stream/{run_id}", "/api/sessions/{session_id}/files"} <= set(schema["paths"])
    docs = await server.client.get("/docs")
    assert "/api/sessions/{session_id}/archive" in docs.text
    assert "<script" not in docs.text
    names = [agent["name"] for agent in (await server.client.get("/api/agents")).json()["agents"]]
    assert names == ["chat", "research", "data"]


async def test_readiness_says_no_only_when_no_run_can_be_taken(server: Live, monkeypatch) -> None:
    async def broken() -> None:
        raise RuntimeError("the store is gone")

    monkeypatch.setattr(server.runtime, "health", broken)
    response = await server.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"


async def test_the_page_or_how_to_build_it(server: Live, monkeypatch, tmp_path: Path) -> None:
    from orchestrion.server.routes import page

    monkeypatch.setattr(page, "STATIC", tmp_path / "static")
    response = await server.client.get("/")
    assert "make serve" in response.text
    (tmp_path / "static" / "assets").mkdir(parents=True)
    (tmp_path / "static" / "index.html").write_text("<title>page</title>")
    (tmp_path / "static" / "assets" / "a-1.js").write_text("1")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "static" / "link.txt").symlink_to(tmp_path / "secret.txt")
    response = await server.client.get("/")
    assert response.text == "<title>page</title>"
    assert "script-src" not in response.headers["content-security-policy"]
    assert "default-src 'self'" in response.headers["content-security-policy"]
    script = await server.client.get("/assets/a-1.js")
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-type"].startswith("text/javascript")
    assert (await server.client.get("/link.txt")).status_code == 404
    assert (await server.client.head("/")).status_code == 200


async def test_traces_and_usage(server: Live) -> None:
    accepted = await say_hello(server)
    async with server.client.stream("GET", accepted["stream_url"]) as response:
        [event async for event in read_sse(response)]
    trace = await server.client.get(f"/api/traces/{accepted['run_id']}/session.json")
    assert trace.status_code == 200
    assert trace.json()["run_id"] == accepted["run_id"]
    lines = await server.client.get(f"/api/traces/{accepted['run_id']}/events.jsonl")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert lines.text.count("\n") > 1
    assert_problem(await server.client.get(f"/api/traces/{accepted['run_id']}/passwd"), 422, "invalid_input")
    assert (await server.client.get("/api/usage")).json()["runs"] == 1
