"""Processes through the real daemon: what E2B's clients see, and what ours may ask for besides."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from guestd_support import Failed, Guest, alive, framed, gone, guest, written

BOUND = {"Orchestrion-Bind": "call"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Guest]:
    async with guest(tmp_path) as running:
        yield running


async def test_output_and_exit_codes(daemon: Guest) -> None:
    done = await daemon.run("echo out; echo err >&2; exit 3")
    assert (done.output["stdout"], done.output["stderr"]) == (b"out\n", b"err\n")
    assert done.end == {"exited": True, "status": "exit status 3", "exitCode": 3, "error": "exit status 3"}
    assert (await daemon.run("true")).end == {"exited": True, "status": "exit status 0"}
    killed = await daemon.run("kill -9 $$")
    assert killed.end == {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}


async def test_variables_directory_and_session(daemon: Guest) -> None:
    process = {"envs": {"A": "1 2", "HOME": "/elsewhere"}, "cwd": "/usr"}
    done = await daemon.run("echo $A $HOME $USER; pwd; umask; cut -d' ' -f6 /proc/$$/stat; echo $$", process=process)
    lines = done.output["stdout"].decode().split("\n")
    assert lines[:3] == ["1 2 /elsewhere user", "/usr", "0022"]
    assert lines[3].strip() == lines[4].strip()
    assert (await daemon.run("pwd")).output["stdout"].decode().strip() == str(daemon.home)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"cmd": "no-such-program"}, "no-such-program"),
        ({"cmd": "/etc/passwd"}, "Permission denied"),
        ({"cmd": "true", "cwd": "/missing"}, "cwd '/missing' does not exist"),
        ({"cmd": ""}, "command"),
    ],
)
async def test_what_cannot_be_started(daemon: Guest, process: dict[str, str], words: str) -> None:
    with pytest.raises(Failed, match=words) as caught:
        async with daemon.started("", process=process):
            pass
    assert caught.value.code == "invalid_argument"
    assert (await daemon.call("List")) == {"processes": []}


@needs_root
async def test_another_user_cannot_reach_the_daemon(daemon: Guest) -> None:
    pid = daemon.process.pid
    script = f"id -u; id -G; cat /proc/{pid}/environ; ls /proc/{pid}/fd; kill -9 {pid}; grep CapEff /proc/self/status"
    done = await daemon.run(script, user="nobody", process={"cwd": "/"})
    assert done.output["stdout"].split(b"\n")[0] == str(os.stat("/dev/null").st_uid or 65534).encode()
    assert b"CapEff:\t0000000000000000" in done.output["stdout"]
    assert done.output["stderr"].count(b"ermi") == 3
    with pytest.raises(Failed) as caught:
        await daemon.run("true", user="no-such-user")
    assert caught.value.code == "unauthenticated"


@needs_root
async def test_root_only_where_it_is_allowed(tmp_path: Path) -> None:
    async with guest(tmp_path, allow_root=False, default_user="nobody") as strict:
        with pytest.raises(Failed) as caught:
            await strict.run("true", user="root")
        assert caught.value.code == "permission_denied"
        done = await strict.run("grep -E 'NoNewPrivs|CapBnd' /proc/self/status", process={"cwd": "/"})
        assert done.output["stdout"] == b"CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n"


async def test_a_client_that_leaves_kills_nothing(daemon: Guest) -> None:
    async with daemon.started("/bin/sh", "-c", "sleep 0.3; echo later > $HOME/mark; sleep 60") as followed:
        pid = followed.pid
    assert await written(daemon.home / "mark") == "later\n"
    assert alive(pid)
    async with daemon.stream("Connect", {"process": {"pid": pid}}) as again:
        await again.next()
        assert again.pid == pid
        await daemon.call("SendSignal", process={"pid": pid}, signal="SIGNAL_SIGKILL")
        assert not alive(pid)
        assert (await again.all()).end == {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}


ESCAPE = (
    "(setsid sh -c 'echo $$ > $HOME/one; sleep 60' &) ;"
    "python3 -c 'import os,time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n"
    '  open(os.environ["HOME"] + "/two", "w").write(f"{os.getpid()}\\n"); time.sleep(60)\n os._exit(0)\'; sleep 60'
)


async def _escaped(daemon: Guest) -> list[int]:
    return [int(await written(daemon.home / name)) for name in ("one", "two")]


async def test_a_bound_call_takes_the_family_with_it(daemon: Guest) -> None:
    async with daemon.started("/bin/sh", "-c", ESCAPE, headers=BOUND) as followed:
        pids = [followed.pid, *await _escaped(daemon)]
        assert all(alive(pid) for pid in pids)
    assert await gone(*pids)
    assert (await daemon.call("List")) == {"processes": []}


async def test_a_deadline_takes_the_family_with_it(daemon: Guest) -> None:
    with pytest.raises(Failed) as caught:
        await daemon.run(ESCAPE, headers={"Connect-Timeout-Ms": "2000"})
    assert caught.value.code == "deadline_exceeded"
    assert not any(alive(pid) for pid in await _escaped(daemon))


async def test_a_deadline_counts_after_the_client_has_left(daemon: Guest) -> None:
    async with daemon.started("sleep", "60", headers={"Connect-Timeout-Ms": "500"}) as followed:
        pid = followed.pid
    assert await gone(pid)


async def test_what_a_process_leaves_behind_delays_nothing(daemon: Guest) -> None:
    done = await daemon.run("(sleep 60; echo late) & echo $!")
    assert alive(int(done.output["stdout"]))
    assert done.end == {"exited": True, "status": "exit status 0"}


async def test_an_end_is_told_to_who_comes_late(daemon: Guest) -> None:
    pid = (await daemon.run("echo x; exit 4")).pid
    async with daemon.stream("Connect", {"process": {"pid": pid}}) as late:
        end = (await late.all()).end
    assert end is not None
    assert (late.pid, end["exitCode"], late.output["stdout"]) == (pid, 4, b"")


async def test_unknown_processes(daemon: Guest) -> None:
    calls: dict[str, dict[str, Any]] = {
        "SendSignal": {"signal": 9},
        "SendInput": {"input": {"stdin": ""}},
        "CloseStdin": {},
        "Update": {},
    }
    for method, more in calls.items():
        with pytest.raises(Failed) as caught:
            await daemon.call(method, process={"pid": 999_999}, **more)
        assert caught.value.code == "not_found"
    with pytest.raises(Failed) as caught:
        async with daemon.stream("Connect", {"process": {"tag": "none"}}) as stream:
            await stream.next()
    assert caught.value.code == "not_found"


async def test_input_ends_when_it_is_closed(daemon: Guest) -> None:
    async with daemon.started("cat", stdin=True) as followed:
        await daemon.feed(followed.pid, b"one ")
        await followed.until("stdout", b"one ")
        big = os.urandom(3_000_000)
        feeding = asyncio.create_task(daemon.feed(followed.pid, big))
        while len(followed.output["stdout"]) < 4 + len(big):
            await followed.next()
        await feeding
        await daemon.call("CloseStdin", process={"pid": followed.pid})
        await followed.all()
        assert followed.output["stdout"] == b"one " + big


async def test_input_where_there_is_none(daemon: Guest) -> None:
    assert (await daemon.run("cat; echo end", stdin=False)).output["stdout"] == b"end\n"
    async with daemon.started("sleep", "60", stdin=False, headers=BOUND) as followed:
        for kind in ("stdin", "pty"):
            with pytest.raises(Failed) as caught:
                await daemon.feed(followed.pid, b"x", kind)
            assert caught.value.code == "internal"


async def test_a_stream_of_input(daemon: Guest) -> None:
    async with daemon.started("cat", stdin=True, tag="fed") as followed:

        async def messages() -> AsyncIterator[bytes]:
            yield framed({"start": {"process": {"tag": "fed"}}})
            for number in range(50):
                data = base64.b64encode(b"%d\n" % number).decode()
                yield framed({"data": {"input": {"stdin": data}}}) + framed({"keepalive": {}})

        headers = {"Content-Type": "application/connect+json"}
        answer = await daemon.http.post("/process.Process/StreamInput", content=messages(), headers=headers)
        assert answer.content.endswith(b"\x02\x00\x00\x00\x02{}")
        await daemon.call("CloseStdin", process={"pid": followed.pid})
        await followed.all()
    assert followed.output["stdout"] == b"".join(b"%d\n" % number for number in range(50))


async def test_the_list_and_tags(daemon: Guest) -> None:
    async with daemon.started("sleep", "60", tag="mine", headers=BOUND) as followed:
        listed = (await daemon.call("List"))["processes"]
        assert listed == [
            {"config": {"cmd": "sleep", "args": ["60"], "envs": {}}, "pid": followed.pid, "tag": "mine"}
        ]
        await daemon.call("SendSignal", process={"tag": "mine"}, signal="SIGNAL_SIGTERM")
        end = (await followed.all()).end
        assert end is not None
        assert end["status"] == "signal: terminated"


async def test_a_signal_reaches_the_process_itself(daemon: Guest) -> None:
    async with daemon.started("/bin/sh", "-c", "sleep 60 & echo $!; wait") as followed:
        await followed.until("stdout", b"\n")
        child = int(followed.output["stdout"])
        await daemon.call("SendSignal", process={"pid": followed.pid}, signal="SIGNAL_SIGKILL")
        await followed.all()
        assert alive(child)
        with pytest.raises(Failed):
            await daemon.call("SendSignal", process={"pid": followed.pid}, signal="SIGNAL_SIGKILL")
        with pytest.raises(Failed) as caught:
            await daemon.call("SendSignal", process={"pid": followed.pid}, signal="SIGNAL_SIGSTOP")
        assert caught.value.code == "not_found"
    os.kill(child, signal.SIGKILL)


async def test_a_terminal(daemon: Guest) -> None:
    size = {"size": {"cols": 91, "rows": 17}}
    async with daemon.started("/bin/bash", "--norc", "-i", pty=size) as shell:
        await daemon.feed(shell.pid, b"stty size; tty\n", "pty")
        await shell.until("pty", b"17 91")
        await shell.until("pty", b"/dev/pts/")
        await daemon.call("Update", process={"pid": shell.pid}, pty={"size": {"cols": 120, "rows": 40}})
        await daemon.feed(shell.pid, b"stty size\n", "pty")
        await shell.until("pty", b"40 120")
        await daemon.feed(shell.pid, b"exit 7\n", "pty")
        end = (await shell.all()).end
        assert end is not None
        assert end["exitCode"] == 7
    script = "trap 'exit 9' INT; echo ready; while true; do sleep 0.1; done"
    async with daemon.started("/bin/sh", "-c", script, pty=size) as patient:
        await patient.until("pty", b"ready")
        await daemon.feed(patient.pid, b"\x03", "pty")
        end = (await patient.all()).end
        assert end is not None
        assert end["exitCode"] == 9
    for wrong in ({"cols": 0, "rows": 1}, {"cols": "x"}, {"cols": 70000}):
        with pytest.raises(Failed) as caught:
            async with daemon.started("true", pty={"size": wrong}):
                pass
        assert caught.value.code == "invalid_argument"


async def test_a_silent_process_shows_that_it_lives(daemon: Guest) -> None:
    headers = {"Keepalive-Ping-Interval": "1", **BOUND}
    async with daemon.started("sleep", "60", headers=headers) as followed:
        await followed.next()
        assert followed.keepalives == 1


async def test_two_followers_see_the_same(daemon: Guest) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(daemon.started("/bin/sh", "-c", "read x; seq 20000", stdin=True))
        other = await stack.enter_async_context(daemon.stream("Connect", {"process": {"pid": one.pid}}))
        await other.next()
        await daemon.feed(one.pid, b"\n")
        await asyncio.gather(one.all(), other.all())
    expected = b"".join(b"%d\n" % number for number in range(1, 20001))
    assert one.output["stdout"] == other.output["stdout"] == expected


async def test_a_slow_reader_slows_the_process_down(daemon: Guest) -> None:
    before = daemon.rss_kib()
    script = "i=0; while head -c 1M /dev/zero; do i=$((i+1)); echo $i > $HOME/count; done"
    async with daemon.started("/bin/sh", "-c", script, headers=BOUND) as followed:
        seen: list[str] = []
        while len(seen) < 3 or len(set(seen[-3:])) > 1:
            await asyncio.sleep(0.3)
            seen.append((daemon.home / "count").read_text() if (daemon.home / "count").exists() else "")
        stalled = int(seen[-1] or 0)
        assert stalled < 16
        assert daemon.rss_kib() - before < 32 * 1024
        while len(followed.output["stdout"]) < (stalled + 16) * 1024 * 1024:
            await followed.next()
    assert await gone(followed.pid)


async def test_the_time_a_reader_takes_does_not_count(daemon: Guest) -> None:
    script = "head -c 30M /dev/zero; echo; echo end"
    async with daemon.started("/bin/sh", "-c", script, headers={**BOUND, "Connect-Timeout-Ms": "1500"}) as followed:
        await asyncio.sleep(3)
        done = await followed.all()
    assert done.output["stdout"].endswith(b"end\n")


async def test_killing_one_family_leaves_the_spares(daemon: Guest) -> None:
    for _ in range(5):
        async with daemon.started("/bin/sh", "-c", "kill -9 $PPID; sleep 60", headers=BOUND) as followed:
            pid = followed.pid
            await asyncio.sleep(0.05)
        assert await gone(pid)
        for number in range(3):
            assert (await daemon.run(f"echo {number}")).output["stdout"] == b"%d\n" % number


async def test_many_at_once(daemon: Guest) -> None:
    done = await asyncio.gather(*(daemon.run(f"echo {number}") for number in range(40)))
    assert [int(one.output["stdout"]) for one in done] == list(range(40))


async def test_the_supervisors_maker_may_die(daemon: Guest) -> None:
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    makers: list[str] = []
    async with asyncio.timeout(20):
        while not makers:
            await asyncio.sleep(0.05)
            found = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.read_text().split()}
            makers = [pid for pid, line in found.items() if b"import serve" in line]
    for pid in makers:
        os.kill(int(pid), signal.SIGKILL)
    assert (await daemon.run("echo still")).output["stdout"] == b"still\n"


async def test_the_token_and_init(tmp_path: Path) -> None:
    async with guest(tmp_path, token="first") as locked:
        assert (await locked.http.post("/process.Process/List", json={})).status_code == 401
        new = {"token": "second", "envs": {"GREETING": "hi"}}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{locked.port}") as stranger:
            answer = await stranger.post("/init", json=new, headers={"X-Access-Token": "first"})
            assert answer.status_code == 404
        assert (await locked.http.post("/init", json=new)).status_code == 401
        locked.http.headers["X-Access-Token"] = "first"
        assert (await locked.http.post("/init", json=new)).status_code == 204
        locked.http.headers["X-Access-Token"] = "second"
        assert (await locked.run("echo $GREETING")).output["stdout"] == b"hi\n"


async def test_it_ends_when_idle(tmp_path: Path) -> None:
    async with guest(tmp_path, idle_seconds=1) as idle:
        async with idle.started("sleep", "2") as followed:
            await followed.all()
        assert await asyncio.wait_for(idle.process.wait(), 20) == 0


async def test_too_much_on_disk_ends_the_writer(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with guest(tmp_path, writable=[str(scratch)], limits={"disk_mb": 20}) as small:
        script = f"while true; do head -c 1M /dev/urandom >> {scratch}/big; sleep 0.01; done"
        done = await small.run(script)
        assert done.end is not None
        assert "disk limit of 20 MiB" in done.end["error"]
        assert b"disk limit" in done.output["stderr"]


async def test_too_much_memory_ends_the_holder(tmp_path: Path) -> None:
    # Held to the limit by the kernel, one process can't pass it; several together can.
    async with guest(tmp_path, limits={"memory_mb": 300}) as small:
        script = "for i in 1 2 3; do python3 -c 'x = bytearray(150 << 20); import time; time.sleep(60)' & done; wait"
        async with small.started("/bin/sh", "-c", script, headers=BOUND) as followed:
            async with asyncio.timeout(30):
                while len(await _children(followed.pid)) != 3:
                    await asyncio.sleep(0.05)
                while len(await _children(followed.pid)) == 3:
                    await asyncio.sleep(0.05)


async def _children(pid: int) -> list[str]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in found if alive(int(child))]


async def test_a_tunnel_leads_to_a_port_inside(daemon: Guest) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_unix_connection(daemon.path)
        writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nhello\n" % port)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readline() == b"HELLO\n"
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    reader, writer = await asyncio.open_unix_connection(daemon.path)
    writer.write(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"port is not open" in answer
    writer.close()
    reader, writer = await daemon.raw()
    writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % daemon.port)
    assert b" 403 " in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\xff\x16\x03 garbage\r\n\r\n", b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000, b" 431 "),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b" 501 "),
        (b"POST /process.Process/List HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{}", b""),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b" 204 "),
        (b"GET /health HTTP/1.0\r\n\r\n", b" 204 "),
    ],
)
async def test_strange_clients_are_answered_and_let_go(daemon: Guest, data: bytes, status: bytes) -> None:
    reader, writer = await daemon.raw()
    writer.write(data)
    if not status:
        writer.write_eof()
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert status in answer
    writer.close()
    assert (await daemon.run("echo fine")).output["stdout"] == b"fine\n"


async def test_a_client_may_be_slow_and_pipeline(daemon: Guest) -> None:
    reader, writer = await daemon.raw()
    asked = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    for byte in asked:
        writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    writer.write(asked * 3)
    for _ in range(4):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    writer.close()


async def test_a_refused_upload_is_told_why(daemon: Guest) -> None:
    body = b"x" * 20_000_000
    answer = await daemon.http.post("/process.Process/List", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    answer = await daemon.http.post(
        "/process.Process/List", content=body, headers={"Content-Type": "application/json"}
    )
    assert json.loads(answer.content)["code"] == "resource_exhausted"
