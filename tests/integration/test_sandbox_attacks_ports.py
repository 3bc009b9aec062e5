"""A service inside a sandbox, seen through the server's own address, goes for the page, the browser and the site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets
from server_support import Live, live, raw, settings_for

from orchestrion.sandbox import Sandboxes

_EVIL = r"""
import asyncio
HEAD = "\r\n".join((
    "HTTP/1.1 200 OK", "Content-Type: text/html", "Set-Cookie: session=theirs; Path=/", "Clear-Site-Data: \"*\"",
    "Strict-Transport-Security: max-age=31536000; includeSubDomains", "Alt-Svc: h3=\":443\"", "NEL: {}",
    "Report-To: {}", "Service-Worker-Allowed: /", "WWW-Authenticate: Basic realm=\"the host\"",
    "Content-Security-Policy: sandbox allow-same-origin allow-scripts", "Connection: close, content-security-policy",
))
async def serve(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
    await writer.drain()
    writer.close()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 8123) as server:
        print("listening", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""
_POLICY = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Live]:
    sandboxes = Sandboxes(settings_for(tmp_path))
    try:
        state = await sandboxes.probe("local")
        if not state.ok:
            pytest.skip(state.detail)
        async with live(settings_for(tmp_path)) as running:
            yield running
        await sandboxes.close_all()
    finally:
        await sandboxes.aclose()


async def _serving(server: Live) -> str:
    """Make a sandbox with an evil service; return the path of its port."""
    made = (await server.client.post("/api/sandboxes", json={}, timeout=60)).json()["id"]
    await server.client.put(f"/api/sandboxes/{made}/files", params={"path": "evil.py"}, content=_EVIL.encode())
    await server.client.post(f"/api/sandboxes/{made}/processes", json={"command": "python3 evil.py > log"})
    wait = "until grep -q listening log; do sleep 0.1; done"
    ready = await server.client.post(f"/api/sandboxes/{made}/exec", json={"command": wait, "cwd": "/home/user"})
    assert ready.json()["exit_code"] == 0
    return f"/api/sandboxes/{made}/ports/8123"


async def test_what_a_service_says_counts_for_itself_alone(server: Live) -> None:
    port = await _serving(server)
    got = await server.client.get(
        f"{port}/page", headers={"Cookie": "jupyter=token-of-another-program", "Authorization": "Bearer key"}
    )
    assert got.status_code == 200
    assert "token-of-another-program" not in got.text
    assert "Bearer" not in got.text
    policies = got.headers.get_list("content-security-policy")
    assert policies[-1] == _POLICY, "each policy only adds to what is forbidden"
    for name in (
        *("set-cookie", "clear-site-data", "strict-transport-security", "alt-svc", "nel", "report-to"),
        *("service-worker-allowed", "www-authenticate"),
    ):
        assert name not in got.headers, name


async def test_its_page_can_not_drive_the_server(server: Live) -> None:
    """Its origin is opaque: whatever it sends says `Origin: null`, and the server answers none of it."""
    port = await _serving(server)
    one = port.split("/")[3]
    command = {"command": "touch /tmp/forged"}
    for origin in ("null", "http://evil.example", f"http://localhost:{server.port + 1}"):
        for path in (f"/api/sandboxes/{one}/exec", "/api/sandboxes", f"{port}/x"):
            answer = await server.client.post(path, json=command, headers={"Origin": origin})
            assert answer.status_code == 403, (origin, path)
        url = server.url.replace("http", "ws")
        for path in (f"/api/sandboxes/{one}/terminal", f"{port}/x"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"{url}{path}", origin=origin)  # type: ignore[arg-type]
            assert refused.value.response.status_code == 403
    rebound = await server.client.get(f"/api/sandboxes/{one}", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    async with httpx.AsyncClient(base_url=server.url) as client:
        crossing = await client.options(
            "/api/sandboxes", headers={"Origin": "null", "Access-Control-Request-Method": "POST"}
        )
        assert "access-control-allow-origin" not in crossing.headers


@pytest.mark.parametrize(
    "target", ["x%0d%0aX-Forged:%20yes", "x%0aX-Forged:%20yes%0a", "%20HTTP/1.1%0d%0aX-Forged:y"]
)
async def test_a_path_is_never_a_header(server: Live, target: str) -> None:
    port = await _serving(server)
    answer = await raw(
        server.port,
        f"GET {port}/{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
    )
    assert b"\nx-forged" not in answer.lower()
    upgrade = (
        f"GET {port}/{target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await raw(server.port, upgrade.encode())
    assert (await server.client.get(f"{port}/still")).status_code == 200
