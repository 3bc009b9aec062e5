"""The server name in the bytes of real handshakes, whole, in pieces and broken."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.sandbox.gateway.client_hello import Incomplete, NotTls, server_name


def hello(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The first flight of OpenSSL's own client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake, cut into records of `size` bytes."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_of_a_real_handshake_is_read(version: ssl.TLSVersion) -> None:
    assert server_name(hello("Good.Example", version)) == "good.example"
    assert server_name(hello(None, version)) is None


@pytest.mark.parametrize("size", [1, 3, 64, 300])
def test_a_hello_in_many_records_is_put_together(size: int) -> None:
    assert server_name(in_records(hello("good.example"), size)) == "good.example"


def test_every_beginning_is_incomplete() -> None:
    data = hello("good.example")
    for end in range(len(data)):
        with pytest.raises(Incomplete):
            server_name(data[:end])


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\x16\x02", b"\x15\x03\x01", b"\x80\x2e\x01"]
)
def test_other_protocols_are_told_at_once(data: bytes) -> None:
    with pytest.raises(NotTls):
        server_name(data)


def test_a_hello_without_end_is_given_up() -> None:
    endless = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16380)
    with pytest.raises(NotTls):
        server_name(endless)
    with pytest.raises(NotTls):
        server_name(b"\x16\x03\x01\x00\x00" * 10)


def test_two_names_are_a_trick() -> None:
    data = bytearray(hello("good.example"))
    extension = b"\x00\x00\x00\x11\x00\x0f\x00\x00\x0cgood.example"
    at = data.index(extension)
    again = data[:at] + extension + data[at:]
    for where, size in ((3, 2), (6, 3)):
        again[where : where + size] = (int.from_bytes(again[where : where + size], "big") + len(extension)).to_bytes(
            size, "big"
        )
    lengths = at - 2
    while int.from_bytes(again[lengths : lengths + 2], "big") != len(data) - lengths - 2:
        lengths -= 1
    again[lengths : lengths + 2] = (len(data) - lengths - 2 + len(extension)).to_bytes(2, "big")
    with pytest.raises(NotTls):
        server_name(bytes(again))


@given(st.binary(max_size=300), st.integers(0, 200))
def test_broken_bytes_end_in_one_of_the_known_ways(noise: bytes, at: int) -> None:
    data = bytearray(_REAL)
    data[at : at + len(noise)] = noise
    for bytes_ in (noise, b"\x16\x03\x01" + noise, bytes(data)):
        with suppress(Incomplete, NotTls):
            server_name(bytes_)


_REAL = hello("good.example")
