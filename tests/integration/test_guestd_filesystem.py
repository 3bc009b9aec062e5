"""The service that lists, moves, removes and watches."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from guest_files_support import Guest, config, guest, open_files, until

from orchestrion.sandbox.guest.guestd import watching

__all__ = ["config", "guest"]


# The service.


async def test_an_entry_says_all(guest: Guest) -> None:
    await guest.write("file", b"four")
    entry = (await guest.call("Stat", path="file"))["entry"]
    modified = entry.pop("modifiedTime")
    assert modified[:4] == time.strftime("%Y", time.gmtime())
    assert entry.pop("owner")
    assert entry.pop("group")
    assert entry == {
        "name": "file",
        "path": str(guest.home / "file"),
        "type": "FILE_TYPE_FILE",
        "size": "4",
        "mode": 0o644,
        "permissions": "-rw-r--r--",
    }


async def test_a_link_is_described_with_its_target(guest: Guest) -> None:
    await guest.write("dir/file", b"four")
    (guest.home / "link").symlink_to("dir")
    entry = (await guest.call("Stat", path="link"))["entry"]
    assert (entry["type"], entry["symlinkTarget"]) == ("FILE_TYPE_DIRECTORY", str(guest.home / "dir"))
    assert entry["permissions"][0] == "L"
    listed = await guest.call("ListDir", path="link")
    assert [found["path"] for found in listed["entries"]] == [str(guest.home / "link/file")]


async def test_directories_are_made_once(guest: Guest) -> None:
    made = await guest.call("MakeDir", path="a/b/c")
    assert (made["entry"]["type"], made["entry"]["mode"]) == ("FILE_TYPE_DIRECTORY", 0o755)
    again = await guest.call("MakeDir", path="a/b/c")
    assert (again["status"], again["code"]) == (409, "already_exists")
    await guest.write("file", b"x")
    for path in ("file", "file/below"):
        assert (await guest.call("MakeDir", path=path))["code"] == "invalid_argument"


async def test_a_listing_goes_as_deep_as_asked(guest: Guest) -> None:
    for path in ("b/c/d", "a", "b/a"):
        await guest.call("MakeDir", path=path)
    await guest.write("a.txt", b"")

    async def names(depth: int) -> list[str]:
        answer = await guest.call("ListDir", path="~", depth=depth)
        return [entry["path"].removeprefix(f"{guest.home}/") for entry in answer["entries"]]

    assert await names(0) == await names(1) == ["a", "a.txt", "b"]
    assert await names(2) == ["a", "a.txt", "b", "b/a", "b/c"]
    assert await names(9) == ["a", "a.txt", "b", "b/a", "b/c", "b/c/d"]
    refused = await guest.call("ListDir", path="~", depth=-1)
    assert "depth should be at least 1" in refused["message"]
    assert (await guest.call("ListDir", path="nothing"))["code"] == "not_found"
    assert (await guest.call("ListDir", path="a.txt"))["code"] == "invalid_argument"
    top = await guest.call("ListDir", path="/")
    assert "/proc" in [entry["path"] for entry in top["entries"]]


async def test_names_that_are_no_text_are_listed(guest: Guest) -> None:
    Path(os.fsdecode(os.fsencode(guest.home) + b"/\xff")).write_bytes(b"")
    assert [entry["name"] for entry in (await guest.call("ListDir", path="~"))["entries"]] == ["\ufffd"]


async def test_moving_and_removing(guest: Guest) -> None:
    await guest.write("dir/file", b"x")
    (guest.home / "dir/out").symlink_to("/etc")
    moved = await guest.call("Move", source="dir", destination="new/place")
    assert moved["entry"]["path"] == str(guest.home / "new/place")
    assert (await guest.call("Move", source="dir", destination="x"))["code"] == "not_found"
    for _ in range(2):
        assert (await guest.call("Remove", path="new"))["status"] == 200
    assert not (guest.home / "new").exists()
    assert Path("/etc/passwd").exists()
    assert (await guest.call("Remove", path="/"))["code"] == "invalid_argument"


async def test_moving_to_another_file_system(guest: Guest) -> None:
    other = Path("/dev/shm")
    if other.stat().st_dev == guest.home.stat().st_dev:
        pytest.skip("there is no other file system here")
    place = other / f"guestd-{os.getpid()}"
    try:
        await guest.write("dir/sub/file", b"content")
        (guest.home / "dir/link").symlink_to("sub")
        assert (await guest.call("Move", source="dir", destination=str(place)))["status"] == 200
        assert (place / "link/file").read_bytes() == b"content"
        assert not (guest.home / "dir").exists()
        os.mkfifo(place / "fifo")
        refused = await guest.call("Move", source=str(place), destination="back")
        assert refused["status"] != 200
        assert (place / "sub/file").exists()
        assert list(guest.home.iterdir()) == []
    finally:
        await guest.call("Remove", path=str(place))


@pytest.mark.parametrize("message", [{"path": 7}, {"path": "a\0b"}, {"path": "~other/x"}, {"path": "x" * 5000}])
async def test_paths_that_are_none(guest: Guest, message: dict[str, Any]) -> None:
    for method in ("Stat", "MakeDir", "ListDir", "WatchDir"):
        if method != "WatchDir":
            assert (await guest.call(method, **message))["code"] == "invalid_argument"


# Watching.


async def test_writing_a_new_file_is_three_events(guest: Guest) -> None:
    await guest.call("MakeDir", path="dir")
    watcher = await guest.watch(guest.home / "dir")
    await guest.write("dir/file", b"content")
    assert await guest.changes(watcher) == [("CREATE", "file"), ("CHMOD", "file"), ("WRITE", "file")]
    assert await guest.changes(watcher) == []
    await guest.call("Move", source="dir/file", destination="dir/other")
    await guest.call("Remove", path="dir/other")
    assert await guest.changes(watcher) == [("RENAME", "file"), ("CREATE", "other"), ("REMOVE", "other")]
    assert (await guest.call("RemoveWatcher", watcherId=watcher))["status"] == 200
    assert (await guest.call("GetWatcherEvents", watcherId=watcher))["code"] == "not_found"


async def test_directories_that_come_later_are_watched(guest: Guest) -> None:
    await guest.call("MakeDir", path="dir/old")
    watcher = await guest.watch(guest.home / "dir", recursive=True)
    await guest.write("dir/old/file", b"x")
    assert await guest.changes(watcher) == [(kind, "old/file") for kind in ("CREATE", "CHMOD", "WRITE")]
    await guest.write("dir/new/deep/file", b"x")
    assert {name for kind, name in await guest.changes(watcher) if kind == "CREATE"} == {
        "new",
        "new/deep",
        "new/deep/file",
    }
    await guest.write("dir/new/deep/file", b"y")
    assert ("WRITE", "new/deep/file") in await guest.changes(watcher)
    os.rename(guest.home / "dir/new", guest.home / "dir/moved")
    await guest.changes(watcher)
    await guest.write("dir/moved/deep/file", b"z")
    assert ("WRITE", "moved/deep/file") in await guest.changes(watcher)
    os.rename(guest.home / "dir/moved", guest.home / "outside")
    await guest.changes(watcher)
    await guest.write("outside/deep/file", b"z")
    assert await guest.changes(watcher) == []


async def test_watching_what_can_not_be(guest: Guest) -> None:
    await guest.write("file", b"x")
    assert (await guest.call("CreateWatcher", path="file"))["code"] == "invalid_argument"
    assert (await guest.call("CreateWatcher", path="nothing"))["code"] == "not_found"


async def test_what_the_kernel_could_not_keep_is_said_to_be_lost(guest: Guest) -> None:
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if queue > 100_000:
        pytest.skip("the queue is too long to fill")
    (guest.home / "dir").mkdir()
    watcher = await guest.watch(guest.home / "dir")
    one, other = guest.home / "dir/a", guest.home / "dir/b"
    one.touch()
    for _ in range(queue // 4 + 2):
        os.rename(one, other)
        os.rename(other, one)
    assert len(await guest.changes(watcher)) > 1000
    lost = await guest.call("GetWatcherEvents", watcherId=watcher)
    assert (lost["code"], "lost" in lost["message"]) == ("data_loss", True)
    one.unlink()
    assert await guest.changes(watcher) == [("REMOVE", "a")]


async def test_a_tree_that_is_too_large_is_not_watched_in_part(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_MAX_DIRECTORIES", 5)
    for number in range(4):
        (guest.home / f"dir/{number}").mkdir(parents=True)
    watcher = await guest.watch(guest.home / "dir", recursive=True)
    (guest.home / "dir/more").mkdir()
    assert await guest.changes(watcher) == [("CREATE", "more")]
    assert (await guest.call("GetWatcherEvents", watcherId=watcher))["code"] == "data_loss"
    refused = await guest.call("CreateWatcher", path="dir", recursive=True)
    assert (refused["code"], "more directories" in refused["message"]) == ("resource_exhausted", True)


async def test_a_stream_of_changes(guest: Guest) -> None:
    (guest.home / "dir").mkdir()
    before = open_files().count("anon_inode:inotify")
    message = json.dumps({"path": "dir", "includeEntry": True}).encode()
    request = guest.client.stream(
        "POST",
        "/filesystem.Filesystem/WatchDir",
        content=struct.pack(">BI", 0, len(message)) + message,
        headers={"Content-Type": "application/connect+json", "Keepalive-Ping-Interval": "1"},
    )
    async with request as answer:
        frames = _frames(answer)
        assert await anext(frames) == {"start": {}}
        assert await anext(frames) == {"keepalive": {}}
        await guest.write("dir/file", b"content")
        events = [(await anext(frames))["filesystem"] for _ in range(3)]
        assert [event["type"] for event in events] == ["EVENT_TYPE_CREATE", "EVENT_TYPE_CHMOD", "EVENT_TYPE_WRITE"]
        assert events[2]["entry"]["path"] == str(guest.home / "dir/file")
    await until(lambda: open_files().count("anon_inode:inotify") == before)


async def _frames(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    buffer = b""
    async for piece in answer.aiter_raw():
        buffer += piece
        while len(buffer) >= 5 and len(buffer) >= 5 + (size := struct.unpack(">I", buffer[1:5])[0]):
            yield json.loads(buffer[5 : 5 + size])
            buffer = buffer[5 + size :]
