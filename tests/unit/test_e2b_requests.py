"""What E2B's clients send: where it leads, what it asks for, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from starlette.datastructures import QueryParams
from starlette.responses import Response

from orchestrion.server.e2b import bodies
from orchestrion.server.e2b.answers import Refusal, answer
from orchestrion.server.e2b.idempotency import Once
from orchestrion.server.e2b.paging import NEXT, decode_metadata, page
from orchestrion.server.e2b.routing import Routes
from orchestrion.server.e2b.targets import Domain
from orchestrion.server.edge.way import Target

DOMAIN = Domain("sbx.localhost:8443")


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("49983-abc123.sbx.localhost:8443", Target("abc123", 49983)),
        ("8080-abc123-further-words.sbx.localhost", Target("abc123", 8080)),
        ("8080-ABC123.SBX.localhost", Target("abc123", 8080)),
        ("api.sbx.localhost:8443", None),
        ("sbx.localhost", None),
        ("8080-abc123.elsewhere.test", None),
        ("8080-abc123.deeper.sbx.localhost", None),
        ("abc-123.sbx.localhost", None),
    ],
)
def test_the_host_names_sandbox_and_port(host: str, target: Target | None) -> None:
    assert DOMAIN.target({"host": host}) == target


@pytest.mark.parametrize("host", ["localhost:8443", "127.0.0.1:8443", "[::1]:8443", "sandbox.sbx.localhost"])
def test_headers_name_them_under_shared_hosts(host: str) -> None:
    headers = {"host": host, "e2b-sandbox-id": "abc", "e2b-sandbox-port": "49999"}
    assert DOMAIN.target(headers) == Target("abc", 49999)


def test_headers_do_not_lead_another_hosts_traffic_astray() -> None:
    headers = {"e2b-sandbox-id": "other", "e2b-sandbox-port": "1"}
    assert DOMAIN.target({"host": "80-mine.sbx.localhost", **headers}) == Target("mine", 80)
    assert DOMAIN.target({"host": "elsewhere.test", **headers}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost", "e2b-sandbox-id": "abc"},
        {"host": "localhost", "e2b-sandbox-port": "80"},
        {"host": "localhost", "e2b-sandbox-id": "../x", "e2b-sandbox-port": "80"},
        {"host": "localhost", "e2b-sandbox-id": "abc", "e2b-sandbox-port": "0"},
        {"host": "localhost", "e2b-sandbox-id": "abc", "e2b-sandbox-port": "٣"},
        {"host": "65536-abc.sbx.localhost"},
    ],
)
def test_a_malformed_target_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refused:
        DOMAIN.target(headers)
    assert refused.value.status == 400


def test_metadata_is_decoded_three_times() -> None:
    sent = QueryParams("metadata=a%252520b%3Dc%252526d%26plain%3D").get("metadata", "")
    assert decode_metadata(sent) == {"a b": "c&d", "plain": ""}


@dataclass(frozen=True)
class Item:
    place: tuple[str, str]


def _walk(items: list[Item], *, ascending: bool, added: list[Item] | None = None) -> list[Item]:
    seen: list[Item] = []
    query = {"limit": "2"}
    while True:
        chosen, headers = page(items, query, ascending=ascending)
        seen += chosen
        if NEXT not in headers:
            return seen
        query["nextToken"] = headers[NEXT]
        items = items + (added or [])


@pytest.mark.parametrize("ascending", [True, False])
def test_pages_show_each_item_once(ascending: bool) -> None:
    items = [Item((f"2026-01-0{day}", name)) for day in (1, 2, 3) for name in ("a|b", "c")]
    assert _walk(items, ascending=ascending) == sorted(items, key=lambda item: item.place, reverse=not ascending)


def test_what_arrives_between_two_pages_shifts_nothing() -> None:
    items = [Item((f"2026-01-0{day}", "x")) for day in range(1, 6)]
    assert _walk(items, ascending=False, added=[Item(("2026-02-01", "y"))]) == items[::-1]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"nextToken": "\u00e9"}])
def test_a_malformed_page_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Refusal):
        page([Item(("1", "a"))], query)


def _new(**fields: object) -> bodies.NewSandbox:
    return bodies.parse(bodies.NewSandbox, orjson.dumps({"templateID": "base", **fields}))


def test_a_new_sandbox_has_e2bs_defaults() -> None:
    body = _new(metadata={}, envVars={}, mcp=None, iam={}, volumeMounts=[])
    assert (body.timeout, body.auto_pause, body.auto_pause_memory, body.auto_resume.enabled) == (
        300,
        False,
        True,
        False,
    )
    assert bodies.network(body).allow == ("*",)


@pytest.mark.parametrize(
    "fields",
    [
        {"volumeMounts": [{"name": "v", "path": "/v"}]},
        {"iam": {"tokens": {"x": {}}}},
        {"network": {"rules": {"x.test": []}}, "surprise": 1},
        {"network": {"rules": {"x.test": [{"transform": {}}]}}},
        {"network": {"dnsServers": ["1.1.1.1"]}},
        {"network": {"egressProxy": {"address": "x:1"}}},
        {"network": {"maskRequestHost": "a\r\nX: y"}},
        {"network": {"httpsPorts": [0]}},
        {"timeout": -1},
        {"timeout": "soon"},
        {"metadata": {"a": 1}},
        {"metadata": []} | {"envVars": "A=1"},
    ],
)
def test_what_is_not_offered_is_refused_with_a_sentence(fields: dict[str, object]) -> None:
    with pytest.raises(Refusal) as refused:
        _new(**fields)
    assert refused.value.status == 400
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize(
    ("fields", "allow", "deny"),
    [
        ({"allow_internet_access": False}, (), ()),
        ({"allow_internet_access": True}, ("*",), ()),
        ({"network": {"denyOut": ["8.8.8.8"]}}, ("*",), ("8.8.8.8",)),
        ({"network": {"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]}}, ("1.1.1.1",), ()),
        ({"network": {"allowOut": ["1.1.1.1"]}}, ("*", "1.1.1.1"), ()),
    ],
)
def test_egress_is_open_until_it_is_shut(
    fields: dict[str, object], allow: tuple[str, ...], deny: tuple[str, ...]
) -> None:
    network = bodies.network(_new(**fields))
    assert (network.allow, network.deny) == (allow, deny)


@pytest.mark.parametrize("raw", [b"[]", b"{", b'"x"', b"{}"])
def test_a_body_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal):
        bodies.parse(bodies.NewSandbox, raw)


async def _nowhere(_: object) -> Response:
    return answer({})


def test_a_path_is_decoded_after_it_is_matched() -> None:
    routes = Routes()
    routes.add("DELETE", "/templates/{id}", _nowhere)
    assert routes.find("DELETE", "/templates/team%2Fname%3Atag")[1] == {"id": "team/name:tag"}
    for method, path, status in (("DELETE", "/templates/a/b", 404), ("GET", "/templates/a", 405)):
        with pytest.raises(Refusal) as refused:
            routes.find(method, path)
        assert refused.value.status == status


async def test_a_repeated_request_is_carried_out_once() -> None:
    calls = []

    async def work() -> Response:
        calls.append(1)
        return answer({"n": len(calls)})

    once = Once()
    first = await once.run("me", "key-1", b"{}", work)
    assert (await once.run("me", "key-1", b"{}", work)).body == first.body
    assert (await once.run("other", "key-1", b"{}", work)).body != first.body
    with pytest.raises(Refusal) as refused:
        await once.run("me", "key-1", b'{"a":1}', work)
    assert refused.value.error_code == "idempotency_request_mismatch"
    with pytest.raises(Refusal):
        await once.run("me", "Bad Key", b"{}", work)


async def test_a_request_that_failed_may_be_repeated() -> None:
    async def fail() -> Response:
        raise Refusal(429, "Too many.")

    once = Once()
    with pytest.raises(Refusal):
        await once.run("me", "key", b"{}", fail)
    assert (await once.run("me", "key", b"{}", lambda: _nowhere(None))).status_code == 200


def test_a_client_is_told_not_to_repeat_by_itself() -> None:
    assert Refusal(503, "Busy.").response().headers["should-retry"] == "false"
    assert "should-retry" not in Refusal(404, "None.").response().headers
