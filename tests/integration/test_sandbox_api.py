"""`/api/sandboxes` over real sockets, with real sandboxes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from server_support import Live, live, settings_for

from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes

_ECHO = """
import asyncio, hashlib, base64
async def serve(reader, writer):
    head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
    if "upgrade: websocket" not in head.lower():
        body = head.encode()
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nSet-Cookie: a=b\\r\\n\\r\\n" % len(body) + body)
        await writer.drain(); writer.close(); return
    key = next(l.split(": ")[1] for l in head.split("\\r\\n") if l.lower().startswith("sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    writer.write(f"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                 f"Sec-WebSocket-Accept: {accept}\\r\\n\\r\\n".encode())
    while True:
        first, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(length & 127)))
        writer.write(bytes([first, len(data)]) + data)
        await writer.drain()
        if first & 15 == 8: break
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 8123) as server:
        print("listening", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Live]:
    state = await _probe(settings_for(tmp_path))
    if state:
        pytest.skip(state)
    async with live(settings_for(tmp_path)) as running:
        yield running
    await _end_all(settings_for(tmp_path))


async def _probe(settings: Settings) -> str:
    sandboxes = Sandboxes(settings)
    try:
        state = await sandboxes.probe("local")
        return "" if state.ok else f"{state.detail} {state.remedy}"
    finally:
        await sandboxes.aclose()


async def _end_all(settings: Settings) -> None:
    sandboxes = Sandboxes(settings)
    await sandboxes.close_all()
    await sandboxes.aclose()


async def make(server: Live, **wanted: Any) -> str:
    answer = await server.client.post("/api/sandboxes", json=wanted, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_sandbox_is_made_used_paused_copied_and_ended(server: Live) -> None:
    one = await make(server, metadata={"for": "test"}, env={"COLOUR": "teal"})
    listed = (await server.client.get("/api/sandboxes")).json()["sandboxes"]
    assert [(item["id"], item["state"], item["metadata"]) for item in listed] == [(one, "running", {"for": "test"})]

    command = {"command": "echo $COLOUR; echo oops >&2; exit 3"}
    result = (await server.client.post(f"/api/sandboxes/{one}/exec", json=command)).json()
    assert (result["exit_code"], result["stdout"], result["stderr"]) == (3, "teal\n", "oops\n")
    for code in ("x = 20", "x + 22"):
        cell = (await server.client.post(f"/api/sandboxes/{one}/code", json={"code": code}, timeout=60)).json()
    assert cell["results"] == [{"kind": "text", "data": "42"}]

    paused = (await server.client.post(f"/api/sandboxes/{one}/pause")).json()
    assert paused["state"] == "paused"
    again = await server.client.post(f"/api/sandboxes/{one}/pause")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    refused = await server.client.post(f"/api/sandboxes/{one}/exec", json={"command": "true"})
    assert refused.status_code == 409
    assert (await server.client.post(f"/api/sandboxes/{one}/resume")).json()["state"] == "running"
    cell = (await server.client.post(f"/api/sandboxes/{one}/code", json={"code": "x"})).json()
    assert cell["results"] == [{"kind": "text", "data": "20"}], "a pause with memory keeps variables"

    await server.client.post(f"/api/sandboxes/{one}/exec", json={"command": "echo kept > /home/user/note"})
    copies = (await server.client.post(f"/api/sandboxes/{one}/fork", json={"count": 2}, timeout=60)).json()
    assert copies["errors"] == []
    for copy in copies["sandboxes"]:
        read = await server.client.post(f"/api/sandboxes/{copy['id']}/exec", json={"command": "cat /home/user/note"})
        assert read.json()["stdout"] == "kept\n"

    assert (await server.client.delete(f"/api/sandboxes/{one}")).status_code == 204
    gone = await server.client.get(f"/api/sandboxes/{one}")
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_a_snapshot_is_a_template_for_others(server: Live) -> None:
    one = await make(server)
    await server.client.post(f"/api/sandboxes/{one}/exec", json={"command": "echo v1 > /home/user/version"})
    kept = await server.client.post(f"/api/sandboxes/{one}/snapshots", json={"name": "mine"}, timeout=60)
    assert kept.status_code == 201, kept.text
    other = await make(server, template="mine")
    read = await server.client.post(f"/api/sandboxes/{other}/exec", json={"command": "cat version"})
    assert read.json()["stdout"] == "v1\n"
    assert [one["names"] for one in (await server.client.get("/api/snapshots")).json()["snapshots"]] != []
    assert (await server.client.delete(f"/api/snapshots/{kept.json()['id']}")).status_code == 204
    missing = await server.client.post("/api/sandboxes", json={"template": "mine"})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_files_go_in_and_come_out_whole(server: Live) -> None:
    one = await make(server)
    data = bytes(range(256)) * 4096
    where = {"path": "/home/user/new folder/ü.bin"}
    put = await server.client.put(f"/api/sandboxes/{one}/files", params=where, content=data)
    assert put.status_code == 204, put.text
    got = await server.client.get(f"/api/sandboxes/{one}/files/content", params=where)
    assert got.content == data
    assert got.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got.headers["content-security-policy"]
    listed = await server.client.get(f"/api/sandboxes/{one}/files", params={"path": "/home/user/new folder"})
    assert [(entry["name"], entry["size"]) for entry in listed.json()["entries"]] == [("ü.bin", len(data))]
    assert (await server.client.delete(f"/api/sandboxes/{one}/files", params=where)).status_code == 204
    missing = await server.client.get(f"/api/sandboxes/{one}/files/content", params=where)
    assert missing.status_code == 404


async def test_a_process_goes_on_and_its_log_is_kept(server: Live) -> None:
    one = await make(server)
    body = {"command": "for i in 1 2 3; do echo line $i; done; sleep 60"}
    pid = (await server.client.post(f"/api/sandboxes/{one}/processes", json=body)).json()["pid"]
    running = (await server.client.get(f"/api/sandboxes/{one}/processes")).json()["processes"]
    assert [process["pid"] for process in running] == [pid]
    url = f"/api/sandboxes/{one}/processes/{pid}"
    killing = asyncio.create_task(_kill_later(server.client, url))
    text, kinds = "", []
    async with server.client.stream("GET", f"{url}/logs", timeout=30) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line[7:])
            if line.startswith("data: ") and kinds[-1] == "stdout":
                text += base64.b64decode(json.loads(line[6:])).decode()
    await killing
    assert text == "line 1\nline 2\nline 3\n"
    assert kinds[-1] == "end"
    again = await server.client.get(f"{url}/logs")
    assert "event: end" in again.text, "the log of an ended process is still there"
    assert (await server.client.delete(url)).status_code == 404


async def _kill_later(client: httpx.AsyncClient, url: str) -> None:
    await asyncio.sleep(0.5)
    assert (await client.delete(url)).status_code == 204


async def test_leaving_ends_the_command(server: Live) -> None:
    one = await make(server)
    with pytest.raises(httpx.ReadTimeout):
        await server.client.post(f"/api/sandboxes/{one}/exec", json={"command": "sleep 77 & sleep 77"}, timeout=0.5)
    # A bare machine has no `pgrep`.
    look = "cat /proc/[0-9]*/comm 2>/dev/null | grep -x sleep"
    for _ in range(20):
        await asyncio.sleep(0.1)
        left = await server.client.post(f"/api/sandboxes/{one}/exec", json={"command": look})
        if left.json()["exit_code"] == 1:
            return
    raise AssertionError("the command is still running two seconds after its caller left")


async def test_a_terminal(server: Live) -> None:
    one = await make(server)
    url = server.url.replace("http", "ws") + f"/api/sandboxes/{one}/terminal?columns=100&rows=30"
    async with websockets.connect(url) as terminal:
        await terminal.send(b"stty size; echo to''gether; exit 5\n")
        shown = b""
        try:
            async with asyncio.timeout(20):
                async for piece in terminal:
                    shown += piece if isinstance(piece, bytes) else piece.encode()
        except websockets.ConnectionClosed:
            pass
    assert b"30 100" in shown
    assert b"together" in shown
    assert terminal.close_reason == "exit 5"


async def test_a_service_inside_is_reached_by_http_and_websocket(server: Live) -> None:
    one = await make(server)
    await server.client.put(f"/api/sandboxes/{one}/files", params={"path": "echo.py"}, content=_ECHO.encode())
    started = await server.client.post(f"/api/sandboxes/{one}/processes", json={"command": "python3 echo.py"})
    url = f"/api/sandboxes/{one}/processes/{started.json()['pid']}/logs"
    async with server.client.stream("GET", url, timeout=30) as stream:
        async for line in stream.aiter_lines():
            if line == "event: stdout":
                break
    ports = f"/api/sandboxes/{one}/ports"
    got = await server.client.get(
        f"{ports}/8123/some/where?q=1", headers={"X-Mine": "yes", "Authorization": "Bearer k"}
    )
    assert got.text.startswith("GET /some/where?q=1 HTTP/1.1\r\n")
    assert "x-mine: yes" in got.text.lower()
    assert "bearer" not in got.text.lower(), "our key is not the service's business"
    assert "sandbox allow-scripts" in got.headers["content-security-policy"]
    assert "allow-same-origin" not in got.headers["content-security-policy"]
    async with websockets.connect(f"{server.url.replace('http', 'ws')}{ports}/8123/socket") as socket:
        await socket.send("tide")
        assert await socket.recv() == "tide"
        await socket.send(b"\x00\xff")
        assert await socket.recv() == b"\x00\xff"
    closed = await server.client.get(f"{ports}/8124/")
    assert closed.status_code == 502
    assert "port is not open" in closed.text
    daemon = await server.client.get(f"{ports}/49983/health")
    assert daemon.status_code == 403


async def test_what_is_wrong_is_said(server: Live) -> None:
    assert (await server.client.get("/api/sandboxes/nosuchsandbox0000000")).status_code == 404
    for body in ({"seconds": 0}, {"colour": "red"}, {"network": {"allow": ["http://not a host/"]}}):
        assert (await server.client.post("/api/sandboxes", json=body)).status_code == 422, body
    one = await make(server)
    root = await server.client.post(f"/api/sandboxes/{one}/exec", json={"command": "id -u", "user": "root"})
    assert root.status_code >= 400
    assert "root" in root.json()["detail"]
    unknown = await server.client.post("/api/sandboxes", json={"provider": "abacus"})
    assert unknown.status_code == 503
    assert "abacus" in unknown.json()["detail"]


async def test_one_key_does_not_see_anothers_sandboxes(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, api_keys="first-key-of-this-server,second-key-of-this-server")
    if state := await _probe(settings):
        pytest.skip(state)
    async with live(settings) as server:
        mine = {"Authorization": "Bearer first-key-of-this-server"}
        theirs = {"Authorization": "Bearer second-key-of-this-server"}
        made = await server.client.post("/api/sandboxes", json={}, headers=mine, timeout=60)
        one = made.json()["id"]
        assert (await server.client.get("/api/sandboxes", headers=theirs)).json() == {"sandboxes": []}
        for method, path in (
            ("GET", ""),
            ("POST", "/exec"),
            ("DELETE", ""),
            ("GET", "/ports/80/"),
            ("POST", "/fork"),
        ):
            body = {"command": "true"} if path == "/exec" else None
            answer = await server.client.request(method, f"/api/sandboxes/{one}{path}", json=body, headers=theirs)
            assert answer.status_code == 404, (method, path)
        secret = base64.urlsafe_b64encode(b"first-key-of-this-server").decode().rstrip("=")
        url = server.url.replace("http", "ws") + f"/api/sandboxes/{one}/terminal"
        async with websockets.connect(url, subprotocols=["orchestrion", f"bearer.{secret}"]) as terminal:
            assert terminal.subprotocol == "orchestrion"
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(url, subprotocols=["orchestrion"])
    await _end_all(settings)
