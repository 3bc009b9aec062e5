"""What holds for every unit test."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever listens or connects is tried among the integration tests. Pairs within a process are no network."""

    def refuse(_socket: socket.socket, *_args: object) -> None:
        pytest.fail("A unit test opens no sockets.")

    for name in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
