"""The client of E2B's control plane, against servers that answer in every way."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from orchestrion.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    SandboxError,
    SandboxUnavailable,
    Unsupported,
)
from orchestrion.sandbox.e2b import E2BProvider
from orchestrion.sandbox.e2b.rest import Rest
from orchestrion.sandbox.protocols import SandboxSpec


@dataclass
class Answer:
    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    break_off: bool = False


class Plane:
    """A control plane that gives the answers it was told, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [Answer(200, [])]
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in rest)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append((line.removesuffix(" HTTP/1.1"), headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer.break_off:
            data = b"" if answer.body is None else json.dumps(answer.body).encode()
            told = {**answer.headers, "Content-Length": str(len(data)), "Connection": "close"}
            lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in told.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            await writer.drain()
        writer.close()


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    made = Plane()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://localhost:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


@pytest.fixture
async def rest(plane: Plane) -> AsyncIterator[Rest]:
    made = Rest(plane.url, "e2b_key", ssl.create_default_context())
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInput),
        (401, SandboxUnavailable),
        (404, NotFound),
        (405, Unsupported),
        (409, Conflict),
        (500, SandboxError),
        (501, Unsupported),
    ],
)
async def test_refusals_have_their_kinds(plane: Plane, rest: Rest, status: int, kind: type[Exception]) -> None:
    plane.answers = [Answer(status, {"code": status, "message": "no\nsuch thing."})]
    with pytest.raises(kind, match=r"E2B's API refused: no such thing\.") as caught:
        await rest.ask("GET", "/x")
    assert type(caught.value) is kind
    assert len(plane.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_who_is_told_to_wait_tries_again(plane: Plane, rest: Rest, status: int) -> None:
    plane.answers = [Answer(status, {}, {"Retry-After": "0"}), Answer(200, {"done": 1})]
    assert await rest.ask("POST", "/x", {}) == {"done": 1}
    assert len(plane.asked) == 2


async def test_what_may_have_been_done_is_not_done_twice(plane: Plane, rest: Rest) -> None:
    plane.answers = [Answer(502, {}, {"Retry-After": "0"}), Answer(200, {})]
    with pytest.raises(SandboxUnavailable):
        await rest.ask("POST", "/x", {})
    assert len(plane.asked) == 1


async def test_a_named_request_is_sent_again_under_its_name(plane: Plane, rest: Rest) -> None:
    plane.answers = [Answer(502, {}, {"Retry-After": "0"}), Answer(200, break_off=True), Answer(201, {"id": 1})]
    assert await rest.ask("POST", "/x", {}, once=True) == {"id": 1}
    assert len({headers["idempotency-key"] for _, headers, _ in plane.asked}) == 1
    assert len(plane.asked) == 3


async def test_should_retry_decides(plane: Plane, rest: Rest) -> None:
    plane.answers = [Answer(503, {}, {"Should-Retry": "false"}), Answer(200, {})]
    with pytest.raises(SandboxUnavailable):
        await rest.ask("GET", "/x")
    assert len(plane.asked) == 1
    plane.answers = [Answer(500, {}, {"Should-Retry": "true", "Retry-After": "0"}), Answer(200, {"done": 1})]
    assert await rest.ask("POST", "/x", {}) == {"done": 1}


async def test_it_gives_up_in_the_end(plane: Plane, rest: Rest) -> None:
    plane.answers = [Answer(503, {}, {"Retry-After": "0"})]
    with pytest.raises(SandboxUnavailable):
        await rest.ask("GET", "/x")
    assert len(plane.asked) == 4


async def test_nobody_there() -> None:
    rest = Rest("http://localhost:9", "e2b_key", ssl.create_default_context())
    with pytest.raises(SandboxUnavailable, match="does not answer"):
        await rest.ask("GET", "/x")
    await rest.aclose()


async def test_lists_come_in_pages(plane: Plane, rest: Rest) -> None:
    plane.answers = [Answer(200, [{"n": 1}, "junk"], {"X-Next-Token": "t&2"}), Answer(200, [{"n": 2}])]
    assert [item["n"] async for item in rest.pages("/things")] == [1, 2]
    assert "nextToken=t%262" in plane.asked[1][0]


async def test_the_key_is_sent(plane: Plane, rest: Rest) -> None:
    await rest.ask("GET", "/x")
    assert plane.asked[0][1]["x-api-key"] == "e2b_key"


async def test_the_first_version_is_used_where_there_is_no_second(plane: Plane) -> None:
    made = {"sandboxID": "abc", "templateID": "base", "clientID": "c", "envdVersion": "0.6.7"}
    plane.answers = [Answer(405, {"message": "no"}), Answer(201, made), Answer(201, made)]
    provider = E2BProvider("e2b_key", "sbx.localhost:9", api_url=plane.url)
    from orchestrion.sandbox import SandboxSpec

    await provider.create(SandboxSpec())
    await provider.create(SandboxSpec())
    assert [line for line, _, _ in plane.asked] == ["POST /v2/sandboxes", "POST /sandboxes", "POST /sandboxes"]
    assert json.loads(plane.asked[1][2])["secure"] is True
    await provider.aclose()


@pytest.mark.parametrize("given", ["a.evil.example", "a/b", "", 5, None])
async def test_ids_must_fit_a_host_name(plane: Plane, given: object) -> None:
    plane.answers = [Answer(201, {"sandboxID": given})]
    provider = E2BProvider("e2b_key", "sbx.localhost:9", api_url=plane.url)
    from orchestrion.sandbox import SandboxSpec

    with pytest.raises(SandboxError):
        await provider.create(SandboxSpec())
    await provider.aclose()


@pytest.mark.parametrize("name", ["../x", "a b", "ä", ""])
async def test_ids_that_can_be_none_are_not_asked_for(plane: Plane, name: str) -> None:
    provider = E2BProvider("e2b_key", "sbx.localhost:9", api_url=plane.url)
    with pytest.raises(NotFound):
        await provider.info(name)
    assert [line for line, *_ in plane.asked if not line.endswith("/orchestrion/capabilities")] == []
    await provider.aclose()


@pytest.mark.parametrize("status", [404, 405])
async def test_an_endpoint_that_is_not_ours_offers_what_e2b_does(plane: Plane, status: int) -> None:
    provider = E2BProvider("e2b_key", "elsewhere.test", api_url=plane.url)
    plane.answers = [Answer(503, {}, {"Should-Retry": "false"}), Answer(status, {"message": "no such thing"})]
    for _ in range(3):
        can = await provider.capabilities()
        assert can.fork_processes
        assert "root" in can.caveats
    assert [target for target, *_ in plane.asked] == ["GET /orchestrion/capabilities"] * 2, "and is asked no more"
    await provider.aclose()


async def test_a_user_or_directory_of_ones_own_is_refused(plane: Plane) -> None:
    provider = E2BProvider("e2b_key", "elsewhere.test", api_url=plane.url)
    for spec in (SandboxSpec(user="cook"), SandboxSpec(workdir="/srv")):
        with pytest.raises(Unsupported, match="template"):
            await provider.create(spec)
    assert not plane.asked
    await provider.aclose()
