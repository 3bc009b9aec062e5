"""Keys, owners, foreign hosts and foreign pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
from server_support import Live, live, settings_for
from starlette.datastructures import Headers
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orchestrion.core.errors import ConfigError, Conflict
from orchestrion.server import serve
from orchestrion.server.listening import bind
from orchestrion.server.security import Gate, is_loopback
from orchestrion.server.serving import check_address


@pytest.fixture
async def open_server(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(settings_for(tmp_path, allowed_hosts=["orch.example"])) as running:
        yield running


@pytest.fixture
async def keyed_server(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(settings_for(tmp_path, api_keys=["first-key", "second-key"])) as running:
        yield running


HOSTS = [
    ("localhost:1", 200),
    ("LOCALHOST", 200),
    ("127.0.0.1:8700", 200),
    ("127.8.9.10", 200),
    ("[::1]:8700", 200),
    ("orch.example", 200),
    ("orch.example:443", 200),
    ("app.localhost", 200),
    ("evil.example", 403),
    ("localhost.evil.example", 403),
    ("127.0.0.1.evil.example", 403),
    ("evil.example:127.0.0.1", 403),
    ("orch.example@evil.example", 403),
    ("0.0.0.0", 403),
    ("10.0.0.1", 403),
    ("", 403),
]


async def test_a_foreign_host_name_is_refused_without_keys(open_server: Live) -> None:
    for host, status in HOSTS:
        response = await open_server.client.get("/api/sessions", headers={"Host": host})
        assert response.status_code == status, host
        if status == 403:
            assert response.json()["code"] == "forbidden"
            assert "ORCHESTRION_ALLOWED_HOSTS" in response.json()["remedy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": "{own}"}, 201),
        ({"Origin": "https://orch.example"}, 201),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
    ],
)
async def test_a_page_of_another_site_can_change_nothing(
    open_server: Live, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.format(own=open_server.url) for name, value in headers.items()}
    response = await open_server.client.post("/api/sessions", headers=sent)
    assert response.status_code == status, response.text
    listed = (await open_server.client.get("/api/sessions")).json()["sessions"]
    assert len(listed) == (1 if status == 201 else 0)


async def test_a_page_of_another_site_opens_no_socket(open_server: Live) -> None:
    url = f"ws://127.0.0.1:{open_server.port}/api/ws"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, origin="http://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    assert b'"code":"forbidden"' in refused.value.response.body
    with pytest.raises(InvalidStatus):
        async with connect("ws://evil.example/api/ws", host="127.0.0.1", port=open_server.port):
            pass
    async with connect(url, origin=open_server.url):
        pass


async def test_no_other_origin_may_read(open_server: Live) -> None:
    response = await open_server.client.get("/api/sessions", headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = await open_server.client.options(
        "/api/chat", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


async def test_every_response_has_the_security_headers(open_server: Live) -> None:
    for path in ("/", "/api/sessions", "/nothing", "/docs"):
        response = await open_server.client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "server" not in response.headers or "orchestrion" not in response.headers["server"]


PROTECTED = [
    ("GET", "/api/sessions"),
    ("POST", "/api/chat"),
    ("GET", "/api/runs"),
    ("GET", "/api/stream/x"),
    ("GET", "/api/agents"),
    ("GET", "/api/usage"),
    ("GET", "/metrics"),
    ("GET", "/api/unknown"),
    ("GET", "/preview/x/"),
]


WRONG = [None, "Bearer", "Bearer wrong", "Basic first-key", "Bearer first-key2", "Bearer Ünï"]


async def test_nothing_is_had_without_a_key(keyed_server: Live) -> None:
    for (method, path), header in product(PROTECTED, WRONG):
        headers = {"Authorization": header.encode()} if header else {}
        response = await keyed_server.client.request(method, path, headers=headers)
        assert response.status_code == 401, (method, path, header)
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["code"] == "unauthorized"


async def test_the_open_addresses_tell_little(keyed_server: Live) -> None:
    for path in ("/", "/healthz", "/docs", "/openapi.json"):
        assert (await keyed_server.client.get(path)).status_code == 200
    assert (await keyed_server.client.get("/readyz")).json() == {"status": "degraded", "checks": []}
    mine = {"Authorization": "bearer first-key"}
    assert (await keyed_server.client.get("/readyz", headers=mine)).json()["checks"]
    assert (await keyed_server.client.get("/metrics", headers=mine)).status_code == 200


async def test_a_key_sees_its_own_sessions_only(keyed_server: Live) -> None:
    first, second = {"Authorization": "Bearer first-key"}, {"Authorization": "Bearer second-key"}
    client = keyed_server.client
    session = await keyed_server.session(**first)
    run = (await client.post("/api/chat", json={"message": "hello", "session_id": session}, headers=first)).json()
    stored = await client.post(f"/api/sessions/{session}/files", files={"file": ("a.csv", b"1")}, headers=first)
    assert stored.status_code == 201
    requests = [
        ("GET", f"/api/sessions/{session}"),
        ("PATCH", f"/api/sessions/{session}"),
        ("DELETE", f"/api/sessions/{session}"),
        ("GET", f"/api/sessions/{session}/files"),
        ("POST", f"/api/sessions/{session}/files"),
        ("GET", f"/api/sessions/{session}/files/uploads/a.csv"),
        ("DELETE", f"/api/sessions/{session}/files/uploads/a.csv"),
        ("GET", f"/api/sessions/{session}/archive"),
        ("GET", f"/api/runs/{run['run_id']}"),
        ("GET", f"/api/runs/{run['run_id']}/events"),
        ("POST", f"/api/runs/{run['run_id']}/cancel"),
        ("POST", f"/api/runs/{run['run_id']}/resume"),
        ("GET", f"/api/stream/{run['run_id']}"),
        ("GET", f"/api/traces/{run['run_id']}/session.json"),
    ]
    for method, path in requests:
        body = {"json": {"title": "x"}} if method == "PATCH" else {}
        response = await client.request(method, path, headers=second, **body)
        assert response.status_code == 404, (method, path, response.text)
    chat = {"message": "hello", "session_id": session}
    assert (await client.post("/api/chat", json=chat, headers=second)).status_code == 404
    assert (await client.get("/api/sessions", headers=second)).json()["sessions"] == []
    assert (await client.get("/api/runs", headers=second)).json()["runs"] == []
    query = {"session_id": session}
    assert (await client.get("/api/runs", params=query, headers=second)).json()["runs"] == []
    assert (await client.get(f"/api/sessions/{session}/files/uploads/a.csv", headers=first)).content == b"1"
    assert "first-key" not in (await client.get(f"/api/sessions/{session}", headers=first)).text


async def test_a_socket_needs_the_key(keyed_server: Live) -> None:
    url = f"ws://127.0.0.1:{keyed_server.port}/api/ws"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url):
            pass
    assert refused.value.response.status_code == 401
    async with connect(url, additional_headers={"Authorization": "Bearer second-key"}):
        pass


async def test_with_keys_any_host_name_will_do(keyed_server: Live) -> None:
    headers = {"Host": "orch.example", "Authorization": "Bearer first-key"}
    assert (await keyed_server.client.get("/api/sessions", headers=headers)).status_code == 200


def test_owners_are_told_apart_without_keeping_their_keys() -> None:
    gate = Gate(("a", "b"), frozenset())
    owners = [gate.owner(Headers({"Authorization": f"Bearer {key}"})) for key in ("a", "b", "c")]
    assert owners[0] != owners[1]
    assert owners[2] is None
    assert owners[0] == Gate(("a",), frozenset()).owner(Headers({"Authorization": "Bearer a"}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "", "127.0.0.1.nip.io"])
def test_without_keys_no_address_but_this_machine(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        check_address(settings_for(tmp_path, host=host))
    assert refused.value.exit_code == 2
    assert "ORCHESTRION_API_KEYS" in refused.value.remedy
    check_address(settings_for(tmp_path, host=host, api_keys=["k"]))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_this_machine_needs_no_keys(host: str, tmp_path: Path) -> None:
    assert is_loopback(host)
    check_address(settings_for(tmp_path, host=host))


async def test_serve_refuses_before_it_opens_anything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(ConfigError):
        await serve(settings_for(home, host="0.0.0.0"), on_ready=print)
    assert not home.exists()


async def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict) as refused:
            await serve(settings_for(tmp_path, port=port), on_ready=print)
    assert refused.value.exit_code == 1
    assert refused.value.detail == f"Port {port} on 127.0.0.1 is already in use."


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"can't listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 0)
    with pytest.raises(ConfigError, match=r"can't listen on no\.such\.host\.invalid"):
        bind("no.such.host.invalid", 0)
