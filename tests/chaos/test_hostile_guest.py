"""A daemon that lies: whatever it sends, the host gets one sentence, in time, and keeps its memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from orchestrion.core.errors import InvalidInput, NotFound, SandboxError, SandboxGone
from orchestrion.sandbox.client import GuestSandbox, UnixTransport, code, commands, files, guest

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nOrchestrion-Guest: 1\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Liar:
    """A server on a unix socket that answers /health well and everything else by its script."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script: Script = silence
        self.healthy = True
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /health " in head.split(b"\r\n")[0] and self.healthy:
                    writer.write(b"HTTP/1.1 204 No Content\r\nOrchestrion-Guest: 1\r\n\r\n")
                    continue
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                await reader.readexactly(length)
                await self.script(writer)
        writer.close()


async def silence(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


@pytest.fixture
async def liar(tmp_path: Path) -> AsyncIterator[Liar]:
    found = Liar(tmp_path / "guest.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(found.path))
    server = await asyncio.start_unix_server(found.serve, sock=listener)
    yield found
    server.close()
    for task in found.tasks:
        task.cancel()
    await asyncio.gather(*found.tasks, return_exceptions=True)


class Closed:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
async def sandbox(liar: Liar, closed: Closed, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GuestSandbox]:
    for module in (guest, files):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 1)
    for module in (commands, code):
        monkeypatch.setattr(module, "GRACE", 1)
    transport = UnixTransport(liar.path)
    yield GuestSandbox("a" * 20, "test", transport, access_token="", default_cwd="/", on_close=closed)
    await transport.aclose()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def frame(message: object, flags: int = 0) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", flags, len(body)) + body


START = frame({"event": {"start": {"pid": 7}}})
END = frame({"event": {"end": {"exited": True, "status": "exit status 0"}}})
LAST = frame({}, 2)


def says(*pieces: bytes, then: str = "end") -> Script:
    """Answer with a chunked body of these pieces, then end it, hang up, or stay silent."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for piece in pieces:
            writer.write(chunk(piece))
        if then == "end":
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if then == "hang up":
            writer.close()
        if then == "silence":
            await silence(writer)

    return script


def data(**fields: object) -> bytes:
    return frame({"event": {"data": fields}})


LIES = {
    "no start": says(END, LAST),
    "no pid": says(frame({"event": {"start": {}}}), END, LAST),
    "a nonsensical pid": says(frame({"event": {"start": {"pid": -4}}}), END, LAST),
    "no end": says(START, LAST),
    "no end of the stream": says(START, END),
    "nothing at all": says(),
    "an end twice": says(START, END, END, LAST),
    "no exit code": says(START, frame({"event": {"end": {}}}), LAST),
    "a huge exit code": says(START, frame({"event": {"end": {"exited": True, "exitCode": 10**30}}}), LAST),
    "an exit code in words": says(START, frame({"event": {"end": {"exited": True, "exitCode": "many"}}}), LAST),
    "no base64": says(START, data(stdout="!"), END, LAST),
    "output that is a list": says(START, data(stdout=[1]), END, LAST),
    "an unknown stream": says(START, data(sideband="aGk="), END, LAST),
    "a terminal": says(START, data(pty="aGk="), END, LAST),
    "no JSON": says(frame(b"{"), LAST),
    "a deep message": says(frame(b"[" * 200_000), LAST),
    "a message that is a list": says(frame([]), LAST),
    "an event that is a text": says(frame({"event": "start"}), LAST),
    "an oversized frame": says(struct.pack(">BI", 0, 2**32 - 1), then="silence"),
    "half a frame": says(START, b"\x00\x00", then="hang up"),
    "an error that is a text": says(START, frame({"error": "x"}, 2)),
    "an error of a strange kind": says(START, frame({"error": {"code": 7, "message": []}}, 2)),
    "silence after the start": says(START, then="silence"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_command_that_is_lied_about(lie: str, liar: Liar, sandbox: GuestSandbox) -> None:
    liar.script = LIES[lie]
    with pytest.raises(SandboxError) as caught:
        async with asyncio.timeout(20):
            await sandbox.run_command("true", timeout=1)
    assert caught.value.detail.endswith(".")
    assert "\n" not in caught.value.detail


def raw(answer: bytes, *, stay: bool = False) -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if stay:
            await silence(writer)
        writer.close()

    return script


RAW = {
    "no HTTP": raw(b"220 mail.example.com ready\r\n\r\n"),
    "an endless head": raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 2_000_000, stay=True),
    "a status of letters": raw(b"HTTP/1.1 OK\r\n\r\n"),
    "two lengths": raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "a negative length": raw(OK + b"Content-Length: -5\r\n\r\n"),
    "a body that is too short": raw(OK + b"Content-Length: 500\r\n\r\nabc"),
    "a bad chunk": raw(CHUNKED + b"zz\r\nabc\r\n"),
    "an endless chunk size": raw(CHUNKED + b"1" * 1_000_000, stay=True),
    "hanging up": raw(b""),
    "an upgrade": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", stay=True),
    "informational answers": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, stay=True),
}


@pytest.mark.parametrize("lie", RAW)
async def test_answers_that_are_none(lie: str, liar: Liar, sandbox: GuestSandbox) -> None:
    liar.script = RAW[lie]
    for call in (
        lambda: sandbox.files.stat("/x"),
        lambda: sandbox.files.read_bytes("/x"),
        sandbox.processes.list,
        sandbox.metrics,
        lambda: sandbox.run_code("1", timeout=1),
        lambda: sandbox.run_command("true", timeout=1),
    ):
        with pytest.raises(SandboxError):
            async with asyncio.timeout(20):
                await call()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"entry": 5}',
        b'{"entry": {}}',
        b'{"entry": {"name": "x", "path": "/x", "size": "many", "modifiedTime": "2026-01-01T00:00:00Z"}}',
        b'{"entry": {"name": "x", "path": "/x", "modifiedTime": "soon"}}',
        b'{"entry": {"name": "x", "path": "/x", "modifiedTime": "2026-01-01T00:00:00Z", "metadata": {"a": 1}}}',
    ],
)
async def test_entries_that_are_none(body: bytes, liar: Liar, sandbox: GuestSandbox) -> None:
    liar.script = says(body) if body else says()
    with pytest.raises(SandboxError):
        await sandbox.files.stat("/x")


@pytest.mark.parametrize(
    "lines",
    [
        [b"nonsense"],
        [b'{"type": "stdout"}'],
        [b'{"type": "result", "png": "no base64!"}'],
        [b'{"type": "stdout", "text": "no end"}'],
        [b"[]"],
        [b'{"type": "error", "name": 5}'],
        [b'{"type": "result", "text": "x"}'] * 201,
    ],
)
async def test_cells_that_are_lied_about(lines: list[bytes], liar: Liar, sandbox: GuestSandbox) -> None:
    liar.script = says(*(line + b"\n" for line in lines))
    with pytest.raises(SandboxError):
        await sandbox.run_code("1", timeout=1)


async def test_results_have_a_bound(liar: Liar, sandbox: GuestSandbox) -> None:
    line = json.dumps({"type": "result", "text": "x" * (30 * 2**20)}).encode() + b"\n"
    liar.script = says(line, line, line)
    with pytest.raises(SandboxError, match="too many or too large"):
        await sandbox.run_code("1", timeout=20)


async def test_an_endless_line_has_a_bound(liar: Liar, sandbox: GuestSandbox) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while True:
            writer.write(chunk(b"x" * 2**20))
            await writer.drain()

    liar.script = endless
    with pytest.raises(SandboxError, match="more in one piece"):
        await sandbox.run_code("1", timeout=30)
    with pytest.raises(SandboxError):
        await sandbox.files.stat("/x")


async def test_endless_keepalives_end_with_the_calls_time(liar: Liar, sandbox: GuestSandbox, closed: Closed) -> None:
    async def alive(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(START))
        while True:
            writer.write(chunk(frame({"event": {"keepalive": {}}}) * 100))
            await writer.drain()
            await asyncio.sleep(0.01)

    liar.script = alive
    with pytest.raises(SandboxGone, match="past its time"):
        async with asyncio.timeout(20):
            await sandbox.run_command("true", timeout=0.5)
    assert closed.count == 1


async def test_a_trickle_ends_with_the_calls_time(liar: Liar, sandbox: GuestSandbox) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        for byte in OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    liar.script = drip
    for call in (lambda: sandbox.files.stat("/x"), lambda: sandbox.files.read_bytes("/x")):
        with pytest.raises(SandboxGone):
            async with asyncio.timeout(20):
                await call()


async def test_endless_output_is_not_kept(liar: Liar, sandbox: GuestSandbox) -> None:
    piece = data(stdout=base64.b64encode(b"y" * 2**20).decode())

    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(START))
        for _ in range(300):
            writer.write(chunk(piece))
            await writer.drain()
        writer.write(chunk(END + LAST) + b"0\r\n\r\n")

    liar.script = flood
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await sandbox.run_command("yes", timeout=60)
    assert len(result.stdout) < 2 * 2**20
    assert "characters left out" in result.stdout
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


async def test_a_reader_that_takes_its_time_is_not_the_commands_time(liar: Liar, sandbox: GuestSandbox) -> None:
    liar.script = says(START, data(stdout="aGk="), END, LAST)

    async def slow(_output: object) -> None:
        await asyncio.sleep(3)

    result = await sandbox.run_command("true", timeout=0.5, on_output=slow)
    assert (result.stdout, result.exit_code, result.timed_out) == ("hi", 0, False)


async def test_a_readers_own_error_is_the_callers(liar: Liar, sandbox: GuestSandbox, closed: Closed) -> None:
    liar.script = says(START, data(stdout="aGk="), then="silence")

    async def broken(_output: object) -> None:
        raise TimeoutError("the reader's own")

    with pytest.raises(TimeoutError, match="the reader's own"):
        await sandbox.run_command("true", timeout=5, on_output=broken)
    assert closed.count == 0


async def test_a_cancelled_call_hangs_up(liar: Liar, sandbox: GuestSandbox, closed: Closed) -> None:
    gone, begun = asyncio.Event(), asyncio.Event()

    async def watch(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(START))
        begun.set()
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                await asyncio.sleep(0.01)
                writer.write(b"1")  # only a write meets with the end
        gone.set()

    liar.script = watch
    task = asyncio.create_task(sandbox.run_command("sleep 60"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await gone.wait()
    assert closed.count == 0


async def test_a_guest_that_does_not_answer_after_a_cancel_is_ended(
    liar: Liar, sandbox: GuestSandbox, closed: Closed
) -> None:
    liar.script = says(START, then="silence")
    task = asyncio.create_task(sandbox.run_command("sleep 60"))
    await asyncio.sleep(0.3)
    liar.healthy, liar.script = False, silence
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.count == 1
    with pytest.raises(SandboxGone):
        await sandbox.run_command("true")


async def test_a_guest_that_hangs_up_has_died(liar: Liar, sandbox: GuestSandbox, closed: Closed) -> None:
    liar.script = says(START, then="hang up")
    with pytest.raises(SandboxGone):
        await sandbox.run_command("true")
    assert closed.count == 1


async def test_hostile_words_stay_in_one_sentence(liar: Liar, sandbox: GuestSandbox) -> None:
    body = json.dumps({"code": "not_found", "message": "\x1b[31m no\nsuch\rfile " * 1000}).encode()
    liar.script = raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(NotFound) as caught:
        await sandbox.files.stat("/x")
    assert len(caught.value.detail) < 600
    assert "\n" not in caught.value.detail
    assert "\x1b" not in caught.value.detail


async def test_a_large_refusal_has_a_bound(liar: Liar, sandbox: GuestSandbox) -> None:
    liar.script = raw(b"HTTP/1.1 500 No\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1_000_000, stay=True)
    with pytest.raises(SandboxError):
        await sandbox.files.stat("/x")


async def test_a_connection_that_the_guest_has_closed_is_not_used_again(liar: Liar, sandbox: GuestSandbox) -> None:
    async def once(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 16\r\n\r\n" + b'{"processes":[]}')
        await writer.drain()
        writer.close()

    liar.script = once
    for _ in range(5):
        assert await sandbox.processes.list() == []
        await asyncio.sleep(0.02)


async def test_nobody_there(tmp_path: Path, closed: Closed) -> None:
    for path in (tmp_path / "none.sock", tmp_path / "no" / "directory.sock"):
        sandbox = GuestSandbox(
            "a" * 20, "test", UnixTransport(path), access_token="", default_cwd="/", on_close=closed
        )
        assert not await sandbox.ping()
        with pytest.raises(SandboxGone):
            await sandbox.run_command("true")
        with pytest.raises(SandboxGone):
            await sandbox.port(80).dial()


async def test_what_is_asked_is_checked_first(sandbox: GuestSandbox) -> None:
    for timeout in (0, -1, float("nan")):
        with pytest.raises(InvalidInput):
            await sandbox.run_command("true", timeout=timeout)
    for port in (0, 65536, -1):
        with pytest.raises(InvalidInput):
            sandbox.port(port)


async def test_a_tunnel_that_never_opens(liar: Liar, sandbox: GuestSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrion.sandbox.client import transport

    monkeypatch.setattr(transport, "CONNECT_SECONDS", 1)
    for script in (silence, raw(b"x" * 1_000_000, stay=True), raw(b"")):
        liar.script = script
        with pytest.raises(SandboxError):
            async with asyncio.timeout(20):
                await sandbox.port(8080).dial()
