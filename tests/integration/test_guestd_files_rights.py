"""Who may do what with files, and how much."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from guest_files_support import Guest, config, form, guest, guest_config, until

from orchestrion.sandbox.guest import guestd
from orchestrion.sandbox.guest.guestd.signatures import sign

__all__ = ["config", "guest"]

TOKEN = "a token"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")


def user_can_enter(*places: Path) -> None:
    for place in places:
        place.chmod(0o755)
        for above in place.parents:
            if above.stat().st_mode & 0o005 != 0o005:
                above.chmod(above.stat().st_mode | 0o055)


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
    await until(lambda: not (guest.home / "file").exists())


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
