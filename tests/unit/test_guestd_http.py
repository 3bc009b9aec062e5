"""The daemon's HTTP: where requests end, what is refused, who may use which route."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrion.sandbox.guest.guestd.app import App
from orchestrion.sandbox.guest.guestd.config import Config
from orchestrion.sandbox.guest.guestd.connect import (
    MAX_MESSAGE,
    RpcError,
    frame,
    frames,
    ping_seconds,
    routes,
    timeout_seconds,
)
from orchestrion.sandbox.guest.guestd.connection import _asked_port
from orchestrion.sandbox.guest.guestd.framing import ChunkedBody, SizedBody, parse_head
from orchestrion.sandbox.guest.guestd.http import BadRequest, Disconnected, Request, Response, json_response


class Pieces:
    """Bytes as a peer sends them: given pieces, then the end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.buffer = b""
        self.asked_to_proceed = False

    def _more(self) -> None:
        if not self.pieces:
            raise Disconnected
        self.buffer += self.pieces.pop(0)

    async def take(self, most: int) -> bytes:
        while not self.buffer:
            self._more()
        taken, self.buffer = self.buffer[:most], self.buffer[most:]
        return taken

    async def line(self, most: int) -> bytes:
        while b"\r\n" not in self.buffer:
            if len(self.buffer) >= most:
                raise BadRequest("too long")
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def proceed(self) -> None:
        self.asked_to_proceed = True


class Given:
    """A body that is there already."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def request(
    method: str, path: str, *pieces: bytes, trusted: bool = False, port: int = 49983, **headers: str
) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, path, {}, named, port, trusted, Given(*pieces))


async def whole(body: SizedBody | ChunkedBody) -> bytes:
    found = b""
    while piece := await body.read():
        found += piece
    return found


def test_a_head_is_read() -> None:
    head = parse_head(b"POST /a%20b?x=1&y=&x=2 HTTP/1.1\r\nHost: h\r\nX-Y: 1\r\nx-y: 2\r\nContent-Length: 5\r\n\r\n")
    assert (head.method, head.path, head.query, head.length) == ("POST", "/a b", {"x": "2", "y": ""}, 5)
    assert head.headers["x-y"] == "1, 2"
    assert head.keep_alive


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n X: folded\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_an_ambiguous_head_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_head(data)


async def test_a_body_ends_where_it_says() -> None:
    source = Pieces(b"hel", b"lo GET /")
    assert await whole(SizedBody(source, 5)) == b"hello"
    assert source.buffer == b" GET /"
    assert source.asked_to_proceed
    with pytest.raises(Disconnected):
        await whole(SizedBody(Pieces(b"hel"), 5))


async def test_chunks_are_joined() -> None:
    source = Pieces(b"3;x=y\r\nab", b"c\r\nA", b"\r\n0123456789\r\n0\r\nTrailer: 1\r\n", b"\r\nnext")
    body = ChunkedBody(source)
    assert await whole(body) == b"abc0123456789"
    assert not body.left
    assert source.buffer == b"next"


@pytest.mark.parametrize(
    "data", [b"x\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b"3\r\nabcd\r\n", b"\r\n", b"f" * 13 + b"\r\n", b" 3\r\nabc\r\n"]
)
async def test_a_broken_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        await whole(ChunkedBody(Pieces(data, b"0\r\n\r\n")))


async def test_trailers_have_an_end() -> None:
    with pytest.raises(BadRequest):
        await whole(ChunkedBody(Pieces(b"0\r\n" + b"a: b\r\n" * 100)))


async def test_a_body_is_bounded() -> None:
    with pytest.raises(BadRequest) as caught:
        await request("POST", "/", b"12345", b"6").body(limit=5)
    assert caught.value.status == 413


def test_the_port_comes_from_the_host_or_a_header() -> None:
    assert _asked_port({"host": "49999-abc.example.com"}) == 49999
    assert _asked_port({"host": "localhost:49999"}) == 49999
    assert _asked_port({"host": "49999-abc.example.com", "e2b-sandbox-port": "49983"}) == 49983
    assert _asked_port({}) == 49983


async def test_messages_are_framed() -> None:
    data = frame({"a": 1}) + frame(b'{"b":2}')
    pieces = [data[start : start + 3] for start in range(0, len(data), 3)]
    assert [message async for message in frames(request("POST", "/", *pieces))] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack(">BI", 1, 2) + b"{}", "unimplemented"),
        (struct.pack(">BI", 0, MAX_MESSAGE + 1), "resource_exhausted"),
        (struct.pack(">BI", 0, 5) + b"{}", "invalid_argument"),
        (struct.pack(">BI", 0, 2) + b"[]", "invalid_argument"),
        (struct.pack(">BI", 0, 3) + b"{]}", "invalid_argument"),
        (struct.pack(">BI", 0, 200000) + b"[" * 200000, "invalid_argument"),
    ],
)
async def test_a_broken_message_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(RpcError) as caught:
        [message async for message in frames(request("POST", "/", data))]
    assert caught.value.code == code


def test_times_in_headers() -> None:
    assert timeout_seconds(request("POST", "/", connect_timeout_ms="1500")) == 1.5
    assert timeout_seconds(request("POST", "/")) is None
    with pytest.raises(RpcError):
        timeout_seconds(request("POST", "/", connect_timeout_ms="soon"))
    assert ping_seconds(request("POST", "/", keepalive_ping_interval="50")) == 50
    assert ping_seconds(request("POST", "/", keepalive_ping_interval="-1")) == 90


async def _echo(message: dict[str, Any], _request: Request) -> dict[str, Any]:
    if "fail" in message:
        raise RpcError("not_found", "nothing there")
    if "crash" in message:
        raise RuntimeError("broken")
    return message


closed: list[int] = []


async def _count(message: dict[str, Any], _request: Request) -> AsyncIterator[dict[str, Any]]:
    try:
        for number in range(message["to"]):
            yield {"n": number}
        if message.get("stay"):
            await asyncio.sleep(60)
        if message.get("fail"):
            raise RpcError("aborted", "enough")
    finally:
        closed.append(message["to"])


ROUTES = routes("t.Test", unary={"Echo": _echo}, server={"Count": _count})  # type: ignore[dict-item]


async def _below(asked: Request) -> Response:
    return json_response(asked.path)


def app(**values: Any) -> App:
    config = Config()
    config.update(values)
    return App(config, {**ROUTES, ("GET", "/below/"): _below, ("GET", "/files"): _below}, values.update)


async def answered(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([piece async for piece in response.body])


async def test_unary_calls() -> None:
    serve = app()

    async def call(data: bytes, content_type: str = "application/json; charset=utf-8") -> tuple[int, Any]:
        response = await serve(request("POST", "/t.Test/Echo", data, content_type=content_type))
        return response.status, json.loads(await answered(response))

    assert await call(b'{"a":1}') == (200, {"a": 1})
    assert await call(b"") == (200, {})
    assert await call(b'{"fail":1}') == (404, {"code": "not_found", "message": "nothing there"})
    assert (await call(b"{"))[0] == 400
    assert (await call(b"{}", "application/proto"))[0] == 415
    assert await call(b'{"crash":1}') == (500, {"code": "internal", "message": "RuntimeError: broken"})


async def test_streams_always_end_with_a_verdict() -> None:
    serve = app()

    async def call(message: dict[str, Any], **headers: Any) -> list[dict[str, Any]]:
        asked = request("POST", "/t.Test/Count", frame(message), content_type="application/connect+json", **headers)
        data = await answered(await serve(asked))
        found = []
        while data:
            length = struct.unpack(">I", data[1:5])[0]
            found.append(json.loads(data[5 : 5 + length]) | {"flags": data[0]})
            data = data[5 + length :]
        return found

    assert await call({"to": 2}) == [{"n": 0, "flags": 0}, {"n": 1, "flags": 0}, {"flags": 2}]
    failed = await call({"to": 1, "fail": True})
    assert failed[-1]["error"] == {"code": "aborted", "message": "enough"}
    late = await call({"to": 7, "stay": True}, connect_timeout_ms="30")
    assert late[-1]["error"]["code"] == "deadline_exceeded"
    assert closed[-1] == 7


async def test_routes_and_their_errors() -> None:
    serve = app()
    assert (await serve(request("GET", "/below/x/y"))).body == b'"/below/x/y"'
    assert (await serve(request("HEAD", "/below/x"))).status == 200
    assert (await serve(request("GET", "/nothing"))).status == 404
    assert (await serve(request("DELETE", "/t.Test/Echo"))).status == 405


async def test_health_differs_by_port() -> None:
    assert (await app()(request("GET", "/health"))).status == 204
    assert (await app()(request("GET", "/health", port=49999))).status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/t.Test/Echo", {}, 401),
        ("POST", "/t.Test/Echo", {"x_access_token": "wrong"}, 401),
        ("POST", "/t.Test/Echo", {"x_access_token": "sécret"}, 401),
        ("GET", "/envs", {}, 401),
        ("GET", "/nothing", {}, 401),
        ("GET", "/health", {}, 204),
        ("GET", "/files", {}, 200),
        ("GET", "/contexts", {}, 404),
        ("GET", "/contextsnot", {}, 401),
        ("GET", "/envs", {"x_access_token": "secret"}, 200),
    ],
)
async def test_the_token_is_asked_for(method: str, path: str, headers: dict[str, Any], status: int) -> None:
    asked = request(method, path, content_type="application/json", **headers)
    assert (await app(token="secret")(asked)).status == status


async def test_only_the_host_initialises() -> None:
    config = Config(token="old")
    heard: list[dict[str, Any]] = []
    serve = App(config, {}, heard.append)
    body = json.dumps(
        {"token": "new", "envs": {"A": "1"}, "limits": {"memory_mb": 64}, "default_user": "root"}
    ).encode()
    assert (await serve(request("POST", "/init", body))).status == 401
    assert (await serve(request("POST", "/init", body, x_access_token="old"))).status == 404
    assert (await serve(request("POST", "/init", body, trusted=True))).status == 401
    assert (config.token, heard) == ("old", [])
    assert (await serve(request("POST", "/init", body, trusted=True, x_access_token="old"))).status == 204
    assert (config.token, config.envs, config.limits.memory_mb, config.default_user) == (
        "new",
        {"A": "1"},
        64,
        "root",
    )
    assert len(heard) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"envs":{"A=B":"1"}}',
        b'{"envs":{"A":1}}',
        b'{"limits":{"processes":0}}',
        b'{"allow_root":"yes"}',
    ],
)
async def test_a_wrong_configuration_changes_nothing(body: bytes) -> None:
    config = Config(token="old")
    asked = request("POST", "/init", body, trusted=True, x_access_token="old")
    assert (await App(config, {}, lambda _: None)(asked)).status == 400
    assert config == Config(token="old")
