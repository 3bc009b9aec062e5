"""The code interpreter's requests, checked before any interpreter runs, and the way of lines to their reader."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrion.sandbox.guest.guestd.config import Config
from orchestrion.sandbox.guest.guestd.contexts import Contexts
from orchestrion.sandbox.guest.guestd.execute import CodeService, Outbox
from orchestrion.sandbox.guest.guestd.http import BadRequest, Request, Response
from orchestrion.sandbox.guest.guestd.languages import LANGUAGES, Cell, Order, language_of


class Sent:
    """A request's body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._pieces = [body] if body else []

    async def read(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""


async def ask(method: str, path: str, body: Any = None, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = Sent(b"" if body is None else json.dumps(body).encode())
    service = CodeService(Contexts(Config(workdir="/work")))
    found = service.routes()
    handler = found.get((method, path)) or found[method, "/contexts/"]
    return await handler(Request(method, path, {}, named, 49999, True, sent))


async def test_the_defaults_are_listed_before_they_run() -> None:
    answer = await ask("GET", "/contexts")
    assert isinstance(answer.body, bytes)
    listed = json.loads(answer.body)
    assert [(context["language"], context["cwd"]) for context in listed] == [
        ("python", "/work"),
        ("javascript", "/work"),
    ]


async def test_a_context_and_a_language_together_are_refused() -> None:
    answer = await ask("POST", "/execute", {"code": "", "context_id": "a", "language": "python"})
    assert (answer.status, answer.body) == (400, b"Only one of context_id or language can be provided")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/execute", {"code": "", "context_id": "nope"}),
        ("POST", "/contexts/nope/restart", None),
        ("DELETE", "/contexts/nope", None),
    ],
)
async def test_an_unknown_context_is_not_found(method: str, path: str, body: Any) -> None:
    answer = await ask(method, path, body)
    assert (answer.status, answer.body) == (404, b"Context nope not found")


async def test_an_unknown_language_names_those_there_are() -> None:
    answer = await ask("POST", "/execute", {"code": "", "language": "r"})
    assert answer.status == 500
    assert b"python, javascript, typescript, bash" in bytes(answer.body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"code": 5},
        {},
        {"code": "", "language": 5},
        {"code": "", "env_vars": {"A": 1}},
        {"code": "", "env_vars": [1]},
    ],
)
async def test_a_malformed_request_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest):
        await ask("POST", "/execute", body)


@pytest.mark.parametrize("text", ["soon", "-1", "1.5", "9" * 20])
async def test_a_time_limit_is_a_number_of_milliseconds(text: str) -> None:
    with pytest.raises(BadRequest):
        await ask("POST", "/execute", {"code": ""}, orchestrion_timeout_ms=text)


def test_languages_have_the_names_that_clients_use() -> None:
    names = [language_of(name).name for name in (None, "", "JS", " ts ", "Python", "bash")]
    assert names == ["python", "python", "javascript", "typescript", "python", "bash"]
    with pytest.raises(ValueError, match="no interpreter for 'java'"):
        language_of("java")


def test_bash_is_told_in_texts_that_end_in_zero() -> None:
    order = Order(Cell("echo\0 $A", {"A": "it's"}), {"B": "b"}, "/a dir")
    before, cell, rest = LANGUAGES["bash"].encode(order).split(b"\0")
    assert before.decode().splitlines()[:2] == ["export B=b", "cd '/a dir'"]
    assert before.decode().splitlines()[-1] == """export A='it'"'"'s'"""
    assert (cell, rest) == (b"echo $A", b"")


async def test_a_full_outbox_waits_for_its_reader() -> None:
    outbox = Outbox()
    big = {"text": "x" * 600_000}
    writing = asyncio.create_task(outbox.put(big, {"n": 1}))
    await asyncio.sleep(0)
    assert not writing.done()
    assert len((await outbox.take(1)).splitlines()) == 2
    await writing


async def test_a_cancelled_write_loses_no_line() -> None:
    outbox = Outbox()
    writing = asyncio.create_task(outbox.put({"text": "x" * 600_000}, {"n": 1}))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    assert (await outbox.take(1)).endswith(b'{"n":1}\n')


async def test_an_empty_outbox_gives_nothing() -> None:
    assert await Outbox().take(0) == b""
