"""Files go up and come down."""

from __future__ import annotations

import gzip
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from guest_files_support import Guest, config, form, guest, open_files, until

__all__ = ["config", "guest"]


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


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(b"cut off" * 1000)[:-20]], ids=["none", "cut off"])
async def test_a_broken_gzip_body_is_refused_and_leaves_nothing(guest: Guest, body: bytes) -> None:
    answer = await guest.write("file", body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert "gzip" in answer.json()["message"] or "breaks off" in answer.json()["message"]
    await until(lambda: not (guest.home / "file").exists())


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
    await until(lambda: str(path) not in open_files())


async def test_a_writer_who_leaves_leaves_no_half_file(guest: Guest) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(1 << 20)
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        await guest.write("file", body())  # type: ignore[arg-type]
    path = guest.home / "file"
    await until(lambda: not path.exists() and str(path) not in open_files())


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
    await until(lambda: not (guest.home / "half").exists())


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
