"""The endpoint's keys and certificates, and how answers from inside are read."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509

from orchestrion.server.e2b.certificates import own_certificate
from orchestrion.server.e2b.keys import Keys
from orchestrion.server.e2b.upgrade import parse_head
from orchestrion.server.edge.answer import Answer, BrokenAnswer, forwarded
from orchestrion.server.edge.connections import Connection

NAMES = ["sbx.localhost", "*.sbx.localhost", "127.0.0.1"]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "e2b", ["configured"])
    again = Keys(tmp_path / "e2b", [])
    assert keys.own == again.own
    assert len(keys.own) == 44
    assert keys.own.startswith("e2b_")
    assert _mode(tmp_path / "e2b" / "key") == 0o600
    assert keys.owner(keys.own) not in {None, keys.owner("configured")}
    assert keys.owner("configured") is not None
    assert again.owner("configured") is None
    assert keys.owner(None) is None
    assert keys.owner("") is None


def test_a_traffic_token_outlives_a_restart(tmp_path: Path) -> None:
    token = Keys(tmp_path, []).traffic_token("abc")
    assert Keys(tmp_path, []).traffic_token("abc") == token
    assert Keys(tmp_path, []).traffic_token("abd") != token


def test_a_certificate_is_kept_until_its_names_change(tmp_path: Path) -> None:
    made = own_certificate(tmp_path, NAMES)
    first = made.chain.read_bytes()
    assert own_certificate(tmp_path, NAMES).chain.read_bytes() == first
    assert own_certificate(tmp_path, [*NAMES, "::1"]).chain.read_bytes() != first
    assert _mode(made.key) == _mode(tmp_path / "ca.key") == 0o600


def test_a_certificate_is_signed_by_the_authority_that_clients_trust(tmp_path: Path) -> None:
    made = own_certificate(tmp_path, NAMES)
    assert made.authority
    assert made.bundle
    leaf = x509.load_pem_x509_certificate(made.chain.read_bytes())
    authority = x509.load_pem_x509_certificate(made.authority.read_bytes())
    leaf.verify_directly_issued_by(authority)
    assert (leaf.not_valid_after_utc - datetime.now(UTC)).days < 398
    assert made.authority.read_bytes().strip() in made.bundle.read_bytes()


def test_the_bundle_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = own_certificate(tmp_path, NAMES).bundle
    assert bundle
    size = bundle.stat().st_size
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    own_certificate(tmp_path, NAMES)
    assert bundle.stat().st_size == size


def _answer(*pieces: bytes, method: str = "GET") -> Answer:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return Answer(Connection(reader, cast(Any, None)), method)


async def _read(answer: Answer) -> bytes:
    await answer.head()
    return b"".join([piece async for piece in answer.body()])


async def test_a_chunked_answer_is_read() -> None:
    answer = _answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n")
    assert await _read(answer) == b"abc"
    assert answer.reusable


async def test_a_preliminary_answer_is_passed_over() -> None:
    answer = _answer(b"HTTP/1.1 100 Continue\r\nx: 1\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
    assert await _read(answer) == b"ok"
    assert (answer.status, answer.headers) == (201, [(b"content-length", b"2")])


async def test_an_answer_to_head_has_no_body() -> None:
    answer = _answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", method="HEAD")
    assert await _read(answer) == b""
    assert not answer.reusable


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    answer = _answer(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert await _read(answer) == b"all of it"
    assert not answer.reusable


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-len",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_a_broken_answer_is_told_from_a_short_one(raw: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        await _read(_answer(raw))


def test_headers_of_one_connection_go_no_further() -> None:
    raw = [(b"connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"te", b"trailers"), (b"accept", b"*/*")]
    assert forwarded(raw) == [(b"accept", b"*/*")]
    assert forwarded(raw, frozenset((b"accept",))) == []
    length = [(b"connection", b"content-length, Host"), (b"content-length", b"5"), (b"host", b"a")]
    assert forwarded(length) == length[1:], "else a body would be taken for the next request"


def test_a_head_is_taken_apart() -> None:
    assert parse_head(b"GET / HTTP/1.1\r\nHost: a:1\r\nX:y\r\n\r\n") == (
        b"GET / HTTP/1.1",
        [(b"host", b"a:1"), (b"x", b"y")],
    )
