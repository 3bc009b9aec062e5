"""What the process service is made of: orders, ends, output on its way, users."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrion.sandbox.guest.guestd.config import Config
from orchestrion.sandbox.guest.guestd.connect import RpcError
from orchestrion.sandbox.guest.guestd.disk import measure
from orchestrion.sandbox.guest.guestd.limits import GuestLimits
from orchestrion.sandbox.guest.guestd.orders import Order
from orchestrion.sandbox.guest.guestd.outlets import Listener, encode
from orchestrion.sandbox.guest.guestd.running import end_event
from orchestrion.sandbox.guest.guestd.users import User, find_user, lookup, resolve

USER = User("user", 1000, 1000, "/home/user", (1000,))


def test_an_order_is_read() -> None:
    order = Order.read({"process": {"cmd": "ls", "args": ["-l"], "envs": {"A": "1"}}, "tag": "t", "stdin": False})
    assert (order.cmd, order.args, order.envs, order.tag) == ("ls", ("-l",), {"A": "1"}, "t")
    assert not order.stdin
    assert Order.read({"process": {"cmd": "ls"}}).stdin
    assert order.to_json() == {"cmd": "ls", "args": ["-l"], "envs": {"A": "1"}}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"process": "ls"},
        {"process": {"cmd": ""}},
        {"process": {"cmd": "a\0b"}},
        {"process": {"cmd": "ls", "args": "x"}},
        {"process": {"cmd": "ls", "args": [1]}},
        {"process": {"cmd": "ls", "envs": {"A": 1}}},
        {"process": {"cmd": "ls", "envs": {"": "1"}}},
        {"process": {"cmd": "ls", "cwd": 7}},
        {"process": {"cmd": "ls"}, "pty": 3},
    ],
)
def test_a_wrong_order_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(RpcError) as caught:
        Order.read(message)
    assert caught.value.code == "invalid_argument"


def test_ends_in_the_words_of_envd() -> None:
    def end(status: int) -> Any:
        return end_event(status)["event"]["end"]

    assert end(0) == {"exited": True, "status": "exit status 0"}
    assert end(3 << 8) == {"exited": True, "status": "exit status 3", "exitCode": 3, "error": "exit status 3"}
    assert end(signal.SIGKILL) == {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}
    assert end(signal.SIGTERM)["status"] == "signal: terminated"


async def test_output_is_joined_and_bounded() -> None:
    drained = []
    listener = Listener(lambda: drained.append(True))
    listener.tell(("stdout", b"a"))
    listener.tell(("stdout", b"b"))
    listener.tell(("stderr", b"c"))
    listener.tell({"end": 1})
    told = [await listener.next(1) for _ in range(3)]
    assert told == [("stdout", b"ab"), ("stderr", b"c"), {"end": 1}]
    assert await listener.next(0.01) is None
    assert not listener.full
    while not listener.full:
        listener.tell(("stdout", b"x" * 100_000))
    while listener.full:
        assert drained == []
        await listener.next(1)
    assert drained == [True]


async def test_a_waiting_listener_is_woken() -> None:
    listener = Listener(lambda: None)
    waiting = asyncio.create_task(listener.next(60))
    await asyncio.sleep(0)
    listener.tell(("pty", b"x"))
    assert await waiting == ("pty", b"x")


def test_output_on_the_wire() -> None:
    data = bytes(range(256))
    assert encode(("stdout", data)) == b'{"event":{"data":{"stdout":"' + base64.b64encode(data) + b'"}}}'


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", "/home/user"),
        ("~", "/home/user"),
        ("~/a", "/home/user/a"),
        ("a/../b", "/home/user/b"),
        ("/etc/./x", "/etc/x"),
    ],
)
def test_paths_start_at_home(path: str, found: str) -> None:
    assert resolve(path, USER) == found


@pytest.mark.parametrize("path", ["~root/x", "a\0b"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(RpcError):
        resolve(path, USER)


def test_root_is_for_those_who_may() -> None:
    with pytest.raises(RpcError) as caught:
        find_user("root", Config())
    assert caught.value.code == "permission_denied"
    with pytest.raises(RpcError) as caught:
        find_user("nobody-of-that-name", Config())
    assert caught.value.code == "unauthenticated"
    if os.geteuid() == 0:
        assert find_user("root", Config(allow_root=True)).uid == 0
    assert lookup("nobody-of-that-name") is None


def test_limits_are_checked() -> None:
    assert GuestLimits.from_config({"memory_mb": 64}).memory_mb == 64
    for wrong in (0, -1, "64", True, 1.5):
        with pytest.raises(ValueError, match="memory_mb"):
            GuestLimits.from_config({"memory_mb": wrong})


def test_the_disk_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "big").write_bytes(b"x" * 3 * 1024 * 1024)
    os.link(tmp_path / "a" / "big", tmp_path / "twin")
    (tmp_path / "loop").symlink_to(tmp_path)
    places = [str(tmp_path), str(tmp_path / "missing")]
    assert measure(places, GuestLimits(disk_mb=4)) == ""
    assert "2 MiB" in measure(places, GuestLimits(disk_mb=2))
    assert "3 files" in measure(places, GuestLimits(files=3))
