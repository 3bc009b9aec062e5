"""The guest daemon's files over its own HTTP server, on a unix socket as the host reaches it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrion.sandbox.guest import guestd
from orchestrion.sandbox.guest.guestd import files_http, filesystem, metrics, watching
from orchestrion.sandbox.guest.guestd.app import App
from orchestrion.sandbox.guest.guestd.config import Config
from orchestrion.sandbox.guest.guestd.limits import GuestLimits
from orchestrion.sandbox.guest.guestd.server import Server
from orchestrion.sandbox.guest.guestd.signatures import sign

TOKEN = "a token"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")


def guest_config(token: str | None = None) -> Config:
    """As root without an account `user`, that is who the daemon itself is."""
    limits = GuestLimits(memory_mb=512, disk_mb=100)
    return Config(token=token, limits=limits, allow_root=os.geteuid() == 0)


class Guest:
    """The daemon's file side and a client of it."""

    def __init__(self, config: Config, client: httpx.AsyncClient, home: Path) -> None:
        self.config, self.client, self.home = config, client, home

    async def call(self, method: str, user: str | None = None, **message: Any) -> dict[str, Any]:
        headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()} if user else {}
        answer = await self.client.post(f"/filesystem.Filesystem/{method}", json=message, headers=headers)
        return {"status": answer.status_code, **answer.json()}

    async def write(self, path: Path | str, data: bytes, **more: Any) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream", **more.pop("headers", {})}
        params = {"path": str(path), **more}
        return await self.client.post("/files", params=params, content=data, headers=headers)

    async def read(self, path: Path | str, **headers: str) -> httpx.Response:
        return await self.client.get("/files", params={"path": str(path)}, headers=headers)

    async def watch(self, path: Path, **options: bool) -> str:
        return str((await self.call("CreateWatcher", path=str(path), **options))["watcherId"])

    async def changes(self, watcher: str) -> list[tuple[str, str]]:
        answer = await self.call("GetWatcherEvents", watcherId=watcher)
        return [(event["type"].removeprefix("EVENT_TYPE_"), event["name"]) for event in answer["events"]]


@pytest.fixture
def config() -> Config:
    return guest_config()


@pytest.fixture
async def guest(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guest]:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    routes = {**files_http.routes(config), **filesystem.routes(config), **metrics.routes(config)}
    server = Server(App(config, routes, lambda _config: None), {})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "guest.sock"))
    listener.listen()
    await server.listen_unix(listener)
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "guest.sock"))
    headers = {"X-Access-Token": config.token} if config.token else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://guest", headers=headers, timeout=30) as client:
        yield Guest(config, client, home)
    server.close()


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    lines = b""
    for name, file_name, data in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name is not None else "")
        lines += f"--edge\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"
    return lines + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def user_can_enter(*places: Path) -> None:
    for place in places:
        place.chmod(0o755)
        for above in place.parents:
            if above.stat().st_mode & 0o005 != 0o005:
                above.chmod(above.stat().st_mode | 0o055)


# Raw uploads and downloads.


async def test_what_is_written_is_read(guest: Guest) -> None:
    data = os.urandom(3_000_000)
    answer = await guest.write("deep/er/file.bin", data)
    path = guest.home / "deep/er/file.bin"
    assert answer.json() == [{"path": str(path), "name": "file.bin", "type": "file"}]
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    read = await guest.read("~/deep/er/file.bin")
    assert read.content == data
    assert read.headers["content-length"] == str(len(data))
    assert read.headers["content-disposition"] == 'inline; filename="file.bin"'
    os.utime(path, (784111777, 784111777))
    assert (await guest.read(path)).headers["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_head_tells_the_length_and_no_more(guest: Guest, size: int) -> None:
    (guest.home / "file").write_bytes(bytes(size))
    for _ in range(2):
        answer = await guest.client.head("/files", params={"path": "file"})
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(size), b"")
    assert len((await guest.read("file")).content) == size


async def test_an_empty_file_is_written_and_read(guest: Guest) -> None:
    assert (await guest.write("empty", b"")).status_code == 200
    assert (await guest.read("empty")).content == b""


async def test_a_shorter_text_replaces_a_longer_one(guest: Guest) -> None:
    await guest.write("file", b"long text")
    await guest.write("file", b"new")
    assert (guest.home / "file").read_bytes() == b"new"


async def test_gzip_is_taken_and_given_when_asked_for_alone(guest: Guest) -> None:
    data = b"many words " * 400_000
    answer = await guest.write("file", gzip.compress(data), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 200
    assert (guest.home / "file").read_bytes() == data
    packed = await guest.read("file", **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == data
    plain = await guest.read("file", **{"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in plain.headers
    assert plain.content == data


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(b"cut off" * 1000)[:-20]])
async def test_a_broken_gzip_body_is_refused_and_leaves_nothing(guest: Guest, body: bytes) -> None:
    answer = await guest.write("file", body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert "gzip" in answer.json()["message"] or "breaks off" in answer.json()["message"]
    await _until(lambda: not (guest.home / "file").exists())


async def test_neither_plain_nor_gzip_is_not_acceptable(guest: Guest) -> None:
    await guest.write("file", b"x")
    assert (await guest.read("file", **{"Accept-Encoding": "br, identity;q=0"})).status_code == 406


@pytest.mark.parametrize(
    ("wanted", "status", "expected"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=0-100", 206, b"0123456789"),
        ("bytes=4-2", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
    ],
)
async def test_a_part_of_a_file(guest: Guest, wanted: str, status: int, expected: bytes) -> None:
    await guest.write("file", b"0123456789")
    answer = await guest.read("file", Range=wanted)
    if expected == b"0123456789":
        assert answer.content == expected
    else:
        assert (answer.status_code, answer.content) == (status, expected)
        start = 10 - 3 if wanted == "bytes=-3" else int(wanted[6])
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/10"


async def test_a_part_behind_the_end_is_refused(guest: Guest) -> None:
    await guest.write("file", b"0123456789")
    answer = await guest.read("file", Range="bytes=10-")
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")


async def test_a_part_of_a_file_that_changed_is_the_whole(guest: Guest) -> None:
    await guest.write("file", b"0123456789")
    tag = (await guest.read("file")).headers["etag"]
    assert (await guest.read("file", Range="bytes=1-1", **{"If-Range": tag})).content == b"1"
    await guest.write("file", b"other text")
    assert (await guest.read("file", Range="bytes=1-1", **{"If-Range": tag})).content == b"other text"


async def test_a_file_of_proc_is_read_to_its_end(guest: Guest) -> None:
    answer = await guest.read("/proc/sys/kernel/random/boot_id")
    assert answer.text == Path("/proc/sys/kernel/random/boot_id").read_text()


async def test_names_that_headers_can_not_hold(guest: Guest) -> None:
    name = 'zwei\r\nX-Evil: "ü"'
    (guest.home / name).write_bytes(b"x")
    answer = await guest.read(name)
    assert answer.content == b"x"
    assert "x-evil" not in answer.headers
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''zwei%0D%0AX-Evil%3A%20%22%C3%BC%22"


async def test_a_file_that_shrinks_is_not_passed_off_as_whole(guest: Guest) -> None:
    path = guest.home / "file"
    path.write_bytes(bytes(64_000_000))
    async with guest.client.stream("GET", "/files", params={"path": str(path)}) as answer:
        assert answer.headers["content-length"] == "64000000"
        os.truncate(path, 100)
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()


async def test_a_file_that_grows_is_read_as_long_as_it_was(guest: Guest) -> None:
    path = guest.home / "file"
    path.write_bytes(bytes(8_000_000))
    async with guest.client.stream("GET", "/files", params={"path": str(path)}) as answer:
        with path.open("ab") as file:
            file.write(b"more")
        assert sum([len(piece) async for piece in answer.aiter_raw()]) == 8_000_000


async def test_a_reader_who_leaves_leaves_no_file_open(guest: Guest) -> None:
    path = guest.home / "file"
    path.write_bytes(bytes(64_000_000))
    async with guest.client.stream("GET", "/files", params={"path": str(path)}) as answer:
        await anext(answer.aiter_raw())
    await _until(lambda: str(path) not in _open_files())


async def test_a_writer_who_leaves_leaves_no_half_file(guest: Guest) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(1 << 20)
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        await guest.write("file", body())  # type: ignore[arg-type]
    path = guest.home / "file"
    await _until(lambda: not path.exists() and str(path) not in _open_files())


# What is no file.


async def test_what_is_missing_or_a_directory_is_said_so(guest: Guest) -> None:
    missing = await guest.read("nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, 404)
    assert (await guest.read("~")).status_code == 400
    assert (await guest.write("~", b"x")).status_code == 400
    await guest.write("file", b"x")
    assert (await guest.write("file/below", b"x")).status_code == 400


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "dangling link"])
async def test_special_files_hang_nobody(guest: Guest, kind: str) -> None:
    path = guest.home / "special"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.close()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "/nowhere/at/all")
    read = await guest.read(path)
    written = await guest.write(path, b"x")
    assert (read.status_code, written.status_code) == ((404, 404) if kind == "dangling link" else (400, 400))
    assert (await guest.call("Stat", path=str(path)))["status"] == 200
    assert (await guest.call("Remove", path=str(path)))["status"] == 200
    assert not path.is_symlink()


async def test_the_daemons_own_descriptors_are_out_of_reach(guest: Guest) -> None:
    secret = guest.home / "secret"
    secret.write_bytes(b"the daemon's")
    with secret.open("rb") as file:
        assert (await guest.read(f"/proc/self/fd/{file.fileno()}")).status_code == 400
        assert (await guest.write(f"/proc/self/fd/{file.fileno()}", b"x")).status_code == 400
    assert (await guest.read("/proc/self/cwd/pyproject.toml")).status_code == 400
    assert secret.read_bytes() == b"the daemon's"


async def test_a_large_upload_that_is_refused_is_told_why(guest: Guest) -> None:
    (guest.home / "dir").mkdir()
    answer = await guest.write("dir", bytes(6 << 20))
    assert (answer.status_code, "not a regular file" in answer.text or "directory" in answer.text) == (400, True)


# Forms.


async def test_a_form_writes_each_file(guest: Guest) -> None:
    big = os.urandom(2_500_000)
    body, headers = form(("file", "one.txt", b"1"), ("note", None, b"passed over"), ("file", "sub/zwei ü.bin", big))
    answer = await guest.client.post("/files", content=body, headers=headers)
    assert [entry["name"] for entry in answer.json()] == ["one.txt", "zwei ü.bin"]
    assert (guest.home / "one.txt").read_bytes() == b"1"
    assert (guest.home / "sub/zwei ü.bin").read_bytes() == big


async def test_a_part_without_file_name_goes_to_the_path(guest: Guest) -> None:
    body, headers = form(("file", None, b"content"))
    answer = await guest.client.post("/files", params={"path": "to.txt"}, content=body, headers=headers)
    assert answer.json() == [{"path": str(guest.home / "to.txt"), "name": "to.txt", "type": "file"}]
    assert (await guest.client.post("/files", content=body, headers=headers)).status_code == 400


async def test_the_same_path_twice_is_refused(guest: Guest) -> None:
    body, headers = form(("file", "a", b"first"), ("file", "./a", b"second"))
    answer = await guest.client.post("/files", content=body, headers=headers)
    assert (answer.status_code, "twice" in answer.json()["message"]) == (400, True)
    assert (guest.home / "a").read_bytes() == b"first"


async def test_a_form_that_breaks_off_is_refused(guest: Guest) -> None:
    body, headers = form(("file", "whole", b"1"), ("file", "half", b"2" * 100))
    answer = await guest.client.post("/files", content=body[:-30], headers=headers)
    assert answer.status_code == 400
    await _until(lambda: not (guest.home / "half").exists())


async def test_other_bodies_are_refused(guest: Guest) -> None:
    answer = await guest.client.post("/files", params={"path": "x"}, json={})
    assert (answer.status_code, "multipart/form-data" in answer.json()["message"]) == (400, True)
    answer = await guest.client.post("/files", content=b"x", headers={"Content-Type": "application/octet-stream"})
    assert (answer.status_code, "path" in answer.json()["message"]) == (400, True)


# Metadata.


async def test_metadata_is_kept_shown_and_replaced(guest: Guest) -> None:
    answer = await guest.write("file", b"x", headers={"X-Metadata-Author": "mish", "X-Metadata-Use": "test"})
    if answer.status_code != 200:
        pytest.skip("this file system keeps no extended attributes")
    noted = {"author": "mish", "use": "test"}
    assert answer.json()[0]["metadata"] == noted
    assert (await guest.call("Stat", path="file"))["entry"]["metadata"] == noted
    moved = await guest.call("Move", source="file", destination="elsewhere/file")
    assert moved["entry"]["metadata"] == noted
    listed = await guest.call("ListDir", path="elsewhere")
    assert listed["entries"][0]["metadata"] == noted
    await guest.write("elsewhere/file", b"y", headers={"X-Metadata-Only": "this"})
    assert (await guest.call("Stat", path="elsewhere/file"))["entry"]["metadata"] == {"only": "this"}
    await guest.write("elsewhere/file", b"z")
    assert "metadata" not in (await guest.call("Stat", path="elsewhere/file"))["entry"]


@pytest.mark.parametrize("headers", [{"X-Metadata-K": "v" * 4100}, {"X-Metadata-" + "k" * 247: "v"}])
async def test_metadata_that_can_not_be_kept_is_refused(guest: Guest, headers: dict[str, str]) -> None:
    assert (await guest.write("file", b"x", headers=headers)).status_code == 400
    assert not (guest.home / "file").exists()


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
    before = _open_files().count("anon_inode:inotify")
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
    await _until(lambda: _open_files().count("anon_inode:inotify") == before)


# Who may.


@pytest.mark.parametrize("config", [guest_config(TOKEN)])
async def test_signed_links(guest: Guest) -> None:
    await guest.write("file", b"content")
    bare = httpx.AsyncClient(transport=guest.client._transport, base_url="http://guest")

    async def get(**query: str) -> tuple[int, str]:
        answer = await bare.get("/files", params={"path": "file", **query})
        return answer.status_code, answer.text

    assert (await get())[0] == 401
    assert await get(signature=sign("file", "read", "", TOKEN)) == (200, "content")
    assert (await get(signature=sign("file", "write", "", TOKEN)))[0] == 401
    assert (await get(signature=sign("other", "read", "", TOKEN)))[0] == 401
    later, past = str(int(time.time()) + 100), str(int(time.time()) - 100)
    for moment, expected in ((later, (200, "content")), (past, None)):
        found = await get(signature=sign("file", "read", "", TOKEN, moment), signature_expiration=moment)
        if expected is None:
            assert found[0] == 401
            assert json.loads(found[1]) == {"code": 401, "message": "signature is already expired"}
        else:
            assert found == expected
    assert (await bare.get("/files", params={"path": "file"}, headers={"X-Access-Token": "no"})).status_code == 401
    assert (await bare.get("/metrics")).status_code == 401


@needs_root
async def test_a_user_has_no_more_rights_than_its_own(guest: Guest) -> None:
    guest.config.allow_root = False
    user_can_enter(guest.home)
    secret, own = guest.home / "secret", guest.home / "own"
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    own.mkdir()
    os.chown(own, 65534, 65534)
    (own / "link").symlink_to(secret)
    for path in (secret, own / "link"):
        read = await guest.client.get("/files", params={"path": str(path), "username": "nobody"})
        assert (read.status_code, b"root's" in read.content) == (403, False)
        assert (await guest.write(path, b"x", username="nobody")).status_code == 403
    assert (await guest.write(guest.home / "new", b"x", username="nobody")).status_code == 403
    for method in ("Remove", "MakeDir"):
        path = str(secret if method == "Remove" else guest.home / "dir")
        assert (await guest.call(method, user="nobody", path=path))["code"] == "permission_denied"
    moved = await guest.call("Move", user="nobody", source=str(secret), destination=str(own / "mine"))
    assert moved["code"] == "permission_denied"
    assert secret.read_bytes() == b"root's"
    assert (await guest.write(own / "sub/file", b"x", username="nobody")).status_code == 200
    assert {(own / name).stat().st_uid for name in ("sub", "sub/file")} == {65534}


@needs_root
async def test_root_is_refused_unless_allowed(guest: Guest) -> None:
    guest.config.allow_root = False
    answer = await guest.client.get("/files", params={"path": "/etc/shadow", "username": "root"})
    assert answer.status_code == 403
    guest.config.allow_root = True
    user_can_enter(guest.home)
    # Where the user may become root anyway, it may also write where only root may, and owns what it makes.
    assert (await guest.write(guest.home / "sub/new", b"x", username="nobody")).status_code == 200
    assert {(guest.home / name).stat().st_uid for name in ("sub", "sub/new")} == {65534}


@needs_root
async def test_links_swapped_during_a_call_lead_nowhere(guest: Guest) -> None:
    guest.config.allow_root = False
    user_can_enter(guest.home)
    secret, own = guest.home / "secret", guest.home / "own"
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    own.mkdir()
    os.chown(own, 65534, 65534)
    harmless = own / "harmless"
    harmless.write_bytes(b"harmless")
    os.chown(harmless, 65534, 65534)
    links = [own / "one", own / "two"]
    links[0].symlink_to(secret)
    links[1].symlink_to(harmless)
    swapping = True

    def swap() -> None:
        while swapping:
            os.rename(links[0], own / "t")
            os.rename(links[1], links[0])
            os.rename(own / "t", links[1])

    swapper = asyncio.create_task(asyncio.to_thread(swap))
    try:
        for _ in range(150):
            path = str(links[0])
            read = await guest.client.get("/files", params={"path": path, "username": "nobody"})
            assert b"root's" not in read.content
            await guest.write(path, b"harmless", username="nobody")
    finally:
        swapping = False
        await swapper
    assert secret.read_bytes() == b"root's"


# What is used.


async def test_metrics_are_the_sandboxes(guest: Guest) -> None:
    found = (await guest.client.get("/metrics")).json()
    assert found["mem_total"] <= 512 << 20 or Path("/sys/fs/cgroup/memory.max").exists()
    assert 0 < found["mem_used"] <= found["mem_total"]
    assert found["mem_total_mib"] == found["mem_total"] >> 20
    assert 0 <= found["cpu_used_pct"] <= 100
    assert found["cpu_count"] >= 1
    assert 0 < found["disk_used"] <= found["disk_total"]
    assert abs(found["ts"] - time.time()) < 100


async def test_the_disk_counts_what_is_writable(guest: Guest) -> None:
    guest.config.writable = (str(guest.home),)
    await guest.write("file", os.urandom(3 << 20))
    os.link(guest.home / "file", guest.home / "same")
    os.sync()
    found = (await guest.client.get("/metrics")).json()
    assert 3 << 20 <= found["disk_used"] < 5 << 20
    assert found["disk_total"] <= 100 << 20


async def test_a_file_may_not_outgrow_its_limit(guest: Guest) -> None:
    import resource

    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, kept[1]))
    try:
        answer = await guest.write("file", bytes(3 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert (answer.status_code, "larger" in answer.json()["message"]) == (413, True)
    await _until(lambda: not (guest.home / "file").exists())


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def _open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return found


async def _frames(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    buffer = b""
    async for piece in answer.aiter_raw():
        buffer += piece
        while len(buffer) >= 5 and len(buffer) >= 5 + (size := struct.unpack(">I", buffer[1:5])[0]):
            yield json.loads(buffer[5 : 5 + size])
            buffer = buffer[5 + size :]


# The daemon as a program.


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A daemon of its own whose user's home has room for 2 MiB."""
    home = tmp_path / "small"
    home.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "own.sock"))
    listener.listen()
    mounted = 'mount -t tmpfs -o size=2m tmpfs "$HOME" && exec "$0" -m guestd --listener "$1"'
    process = await asyncio.create_subprocess_exec(
        "unshare",
        *(["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]),
        *("sh", "-c", mounted, sys.executable, str(listener.fileno())),
        pass_fds=[listener.fileno()],
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(guestd.__file__).parent.parent)},
        stderr=asyncio.subprocess.PIPE,
    )
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "own.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://guest", timeout=30) as client:
        try:
            if not await _answers(client, process):
                pytest.skip("no file system can be mounted here")
            yield client
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()
            listener.close()


async def _answers(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> bool:
    asked = asyncio.create_task(client.get("/health"))
    ended = asyncio.create_task(process.wait())
    await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not asked.done():
        asked.cancel()
        return False
    return (await asked).status_code == 204


async def test_a_full_disk_is_said_so_and_has_room_again(small_disk: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/octet-stream"}

    async def write(name: str, size: int) -> httpx.Response:
        return await small_disk.post("/files", params={"path": name}, content=bytes(size), headers=headers)

    assert (await write("fits", 1 << 20)).status_code == 200
    full = await write("too-much", 4 << 20)
    assert (full.status_code, full.json()["code"]) == (507, 507)
    assert "not enough disk space" in full.json()["message"]
    body, form_headers = form(("file", "also-too-much", bytes(4 << 20)))
    assert (await small_disk.post("/files", content=body, headers=form_headers)).status_code == 507
    # What half an upload took is given back, a moment later.
    async with asyncio.timeout(20):
        while (await write("fits-too", 512 << 10)).status_code != 200:
            await asyncio.sleep(0.05)
    listed = await small_disk.post("/filesystem.Filesystem/ListDir", json={"path": "~"})
    assert [entry["name"] for entry in listed.json()["entries"]] == ["fits", "fits-too"]
