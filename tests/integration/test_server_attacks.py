"""A server against those who mean it harm: forged requests, planted files, other people's sessions."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute
from server_support import Live, live, raw, settings_for
from starlette.datastructures import Headers

from orchestrion.core.errors import ConfigError
from orchestrion.server.routes import ROUTERS
from orchestrion.server.security import Gate

FIRST, SECOND = {"Authorization": "Bearer first-key"}, {"Authorization": "Bearer second-key"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(settings_for(tmp_path)) as running:
        yield running


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(settings_for(tmp_path, api_keys=["first-key", "second-key"])) as running:
        yield running


def owned_addresses() -> list[tuple[str, str]]:
    """Every route that names a session or a run, as the application has it now."""
    found: list[tuple[str, str]] = []
    for route in [route for router in ROUTERS for route in router.routes]:
        if isinstance(route, APIRoute) and ("{session_id}" in route.path or "{run_id}" in route.path):
            found += [(method, route.path) for method in sorted(route.methods)]
    return found


async def test_no_route_forgets_whose_a_session_or_run_is(keyed: Live) -> None:
    session = await keyed.session(**FIRST)
    chat = {"message": "hello", "session_id": session}
    run = (await keyed.client.post("/api/chat", json=chat, headers=FIRST)).json()["run_id"]
    await keyed.client.post(f"/api/sessions/{session}/files", files={"file": ("a.csv", b"1")}, headers=FIRST)
    addresses = owned_addresses()
    assert len(addresses) >= 14
    for method, template in addresses:
        path = template.replace("{session_id}", session).replace("{run_id}", run)
        path = path.replace("{path:path}", "uploads/a.csv").replace("{name}", "session.json")
        body = {"title": "stolen"} if method == "PATCH" else None
        for headers, status in ((SECOND, 404), ({}, 401)):
            response = await keyed.client.request(method, path, headers=headers, json=body)
            assert response.status_code == status, (method, path)
    kept = await keyed.client.get(f"/api/sessions/{session}/files/uploads/a.csv", headers=FIRST)
    assert kept.content == b"1"


@pytest.mark.parametrize(
    "origin", ["http://[", "http://]", "//", "http://a b", "http://evil\\@127.0.0.1", "x" * 9000]
)
async def test_a_malformed_origin_is_a_foreign_one(server: Live, origin: str) -> None:
    response = await server.client.post("/api/sessions", headers={"Origin": origin})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"message": ' * 50_000, b"1" * 10_000, b'{"message": "\\ud800"}', b"\xff\xfe", b"nul\0"],
)
async def test_no_body_breaks_the_server(server: Live, body: bytes) -> None:
    response = await server.client.post("/api/chat", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_empty_key_lets_nobody_in(tmp_path: Path) -> None:
    assert Gate(("",), frozenset()).owner(Headers({})) is None
    assert Gate(("",), frozenset()).owner(Headers({"Authorization": "Bearer "})) is None
    for bad in ("", " ", "kéy", "a\nb", "a b"):
        with pytest.raises(ConfigError, match="visible ASCII"):
            settings_for(tmp_path, api_keys=[bad])


async def test_planted_names_and_times_break_neither_list_nor_archive(server: Live) -> None:
    session = await server.session()
    root = server.runtime.workspace(session).root
    root.mkdir(parents=True, exist_ok=True)
    for name in (b"good.txt", b"\xff.txt", b"a\nb.txt", b"x\\..\\..\\evil.txt", b"future.txt", b"past.txt"):
        (root / os.fsdecode(name)).write_text("x")
    os.utime(root / "future.txt", (2**33 + 2**32, 2**33 + 2**32))
    os.utime(root / "past.txt", (-(2**31), -(2**31)))
    (root / "folder").symlink_to("/etc")
    (root / "sub").mkdir()
    os.mkfifo(root / "sub" / "pipe")
    listed = (await server.client.get(f"/api/sessions/{session}/files")).json()["files"]
    assert len(listed) == 4
    response = await server.client.get(f"/api/sessions/{session}/archive")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["future.txt", "good.txt", "past.txt", "x_.._.._evil.txt"]


async def test_a_files_name_adds_no_header_and_its_html_acts_in_no_name(server: Live) -> None:
    session = await server.session()
    root = server.runtime.workspace(session).root
    root.mkdir(parents=True, exist_ok=True)
    for name in ('a"; filename=b;<script>.html', "a\r\nSet-Cookie: x=1\r\n\r\n.html", "ü\u202elmth.exe.svg"):
        (root / name).write_text("<script>alert(1)</script>")
        response = await server.client.get(f"/api/sessions/{session}/files/{quote(name)}")
        assert "set-cookie" not in response.headers
        if response.status_code == 200:
            assert response.headers["content-security-policy"].startswith("sandbox;")
            plain = response.headers["content-disposition"].partition("filename*=")[0]
            assert re.fullmatch(r'inline; filename="[A-Za-z0-9 ._()-]+"; ', plain)
        else:
            assert (response.status_code, "\n" in name) == (404, True)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../server/app.py",
        "/assets/%2e%2e/%2e%2e/server/app.py",
        "/assets//etc/passwd",
        "/assets/..%2f..%2fapp.py",
    ],
)
async def test_no_path_leads_out_of_the_page(server: Live, path: str) -> None:
    answer = await raw(server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404")


async def test_a_prefix_from_outside_opens_no_door(keyed: Live) -> None:
    for prefix in ("/assets", "/x", "//evil.example", "/api", "/..", "/assets/x.js"):
        response = await keyed.client.get("/api/sessions", headers={"X-Forwarded-Prefix": prefix})
        assert response.status_code == 401, prefix
        page = await keyed.client.get("/", headers={"X-Forwarded-Prefix": prefix})
        assert "evil.example" not in page.text


async def test_an_empty_home_is_closed_to_others(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    home.mkdir(mode=0o755)
    async with live(settings_for(home)):
        assert home.stat().st_mode & 0o777 == 0o700


async def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "shared"
    (home / "traces").mkdir(parents=True)
    (home / "config.toml").write_text("")
    for place in (home, home / "traces"):
        place.chmod(0o755)
    before = os.umask(0)
    try:
        async with live(settings_for(home)) as running:
            await running.session()
            modes = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}
    finally:
        os.umask(before)
    assert home.stat().st_mode & 0o777 == 0o755
    assert modes["workspaces"] == modes["traces"] == 0o700
    assert {mode for name, mode in modes.items() if name.startswith("orchestrion.db")} == {0o600}
