"""What every sandbox must do, however it was made. Used through `sandbox_conformance`; see there."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrion.core.errors import InvalidInput, NotFound, OrchestrionError, PortClosed, TooLarge
from orchestrion.sandbox.protocols import Output, PortAddress, Process, ProcessEnd, ProcessOutput, Sandbox

_SERVER = """
import base64, hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.wfile.write(self.rfile.read(7)[::-1])
            self.close_connection = True
            return
        body = b"hello from " + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
"""
_ODD_NAMES = [
    "with space",
    "ünïcödé 漢字 😀",
    "quote'\"`$(x)",
    "semi;colon&amp?a=b#c%20",
    "-dash",
    "*star",
    "new\nline",
]
_LARGE = 48 * 2**20
_TMP = "/tmp"  # noqa: S108 - the sandbox's own


class SandboxContract:
    """The tests of a sandbox; a subclass gives it by the fixture `sandbox`."""

    @pytest.fixture
    async def sandbox(self) -> Sandbox:
        """Give the sandbox under test; to be overridden."""
        raise NotImplementedError("Give your test class a fixture `sandbox`.")

    # Commands.

    async def test_a_commands_output_and_exit_code(self, sandbox: Sandbox) -> None:
        """Both streams and the code; its failure is no exception."""
        result = await sandbox.run_command("echo out é😀; echo err >&2; exit 3")
        assert (result.stdout, result.stderr, result.exit_code) == ("out é😀\n", "err\n", 3)
        assert not result.timed_out
        assert result.seconds > 0

    async def test_a_command_that_is_not_there(self, sandbox: Sandbox) -> None:
        """As the shell says."""
        result = await sandbox.run_command("no-such-command-anywhere")
        assert result.exit_code == 127
        assert "no-such-command-anywhere" in result.stderr

    async def test_a_signals_exit_code(self, sandbox: Sandbox) -> None:
        """128 and its number."""
        assert (await sandbox.run_command("kill -9 $$")).exit_code == 137

    async def test_a_commands_directory_and_variables(self, sandbox: Sandbox) -> None:
        """They are its own alone."""
        result = await sandbox.run_command('pwd; printf %s "$ONE"', cwd=_TMP, env={"ONE": "a 'b' $c"})
        assert result.stdout.splitlines() == [_TMP, "a 'b' $c"]
        assert (await sandbox.run_command('printf %s "$ONE"')).stdout == ""
        with pytest.raises(InvalidInput):
            await sandbox.run_command("true", cwd="/no/such/directory")

    async def test_a_command_has_no_input(self, sandbox: Sandbox) -> None:
        """Who reads it gets its end at once."""
        assert (await sandbox.run_command("cat; echo done", timeout=10)).stdout == "done\n"

    async def test_output_comes_while_a_command_runs(self, sandbox: Sandbox) -> None:
        """In order, and before the end."""
        seen: list[Output] = []
        go_on = asyncio.Event()

        async def take(output: Output) -> None:
            seen.append(output)
            go_on.set()

        task = asyncio.create_task(
            sandbox.run_command("echo one; while [ ! -e ~/go ]; do sleep 0.05; done; echo two", on_output=take)
        )
        async with asyncio.timeout(20):
            await go_on.wait()
        assert not task.done()
        await sandbox.files.write("go", b"")
        result = await task
        assert "".join(output.text for output in seen) == result.stdout == "one\ntwo\n"

    async def test_much_output_is_bounded_in_the_result(self, sandbox: Sandbox) -> None:
        """Its beginning and its end are kept; the reader sees all of it."""
        size = 0

        async def count(output: Output) -> None:
            nonlocal size
            size += len(output.text)

        result = await sandbox.run_command(
            "echo first; head -c 20000000 /dev/zero | tr '\\0' x; echo last", on_output=count
        )
        assert size == 20_000_011
        assert result.stdout.startswith("first\n")
        assert result.stdout.endswith("last\n")
        assert len(result.stdout) < 3 * 2**20

    async def test_output_that_is_no_text(self, sandbox: Sandbox) -> None:
        """It becomes �, and characters that come in two pieces are whole."""
        assert (await sandbox.run_command("printf 'a\\377b'")).stdout == "a\ufffdb"
        assert (await sandbox.run_command("printf '\\303'; sleep 0.2; printf '\\251'")).stdout == "é"

    async def test_a_timeout_ends_all_that_a_command_started(self, sandbox: Sandbox) -> None:
        """Also what has put itself into a session of its own."""
        mark = _mark()
        result = await sandbox.run_command(f"echo begun; {_family(mark)} wait", timeout=1.5)
        assert (result.timed_out, result.exit_code, result.stdout) == (True, 124, "begun\n")
        assert await _left(sandbox, mark) == ""
        assert (await sandbox.run_command("echo alive")).stdout == "alive\n"

    async def test_a_cancel_ends_all_that_a_command_started(self, sandbox: Sandbox) -> None:
        """Within two seconds; the sandbox lives on."""
        mark, begun = _mark(), asyncio.Event()

        async def take(_output: Output) -> None:
            begun.set()

        task = asyncio.create_task(sandbox.run_command(f"{_family(mark)} echo begun; wait", on_output=take))
        async with asyncio.timeout(20):
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(2)
        assert await _left(sandbox, mark) == ""

    async def test_commands_run_side_by_side(self, sandbox: Sandbox) -> None:
        """One waits for the other's file."""
        first, second = await asyncio.gather(
            sandbox.run_command("while [ ! -e ~/there ]; do sleep 0.05; done; echo seen", timeout=20),
            sandbox.run_command("touch ~/there; echo made"),
        )
        assert (first.stdout, second.stdout) == ("seen\n", "made\n")

    # Processes.

    async def test_a_process_outlives_its_watcher(self, sandbox: Sandbox) -> None:
        """It is listed, can be watched again, and killed."""
        process = await sandbox.processes.start(["/bin/sh", "-c", "sleep 300; echo no"], tag="keeper")
        await process.close()
        listed = {info.pid: info for info in await sandbox.processes.list()}
        assert listed[process.pid].command == "/bin/sh"
        assert listed[process.pid].tag == "keeper"
        again = await sandbox.processes.connect(process.pid)
        assert await again.kill()
        assert (await _end(again)).exit_code == 137
        assert not await again.kill()
        assert process.pid not in [info.pid for info in await sandbox.processes.list()]

    async def test_a_process_is_fed(self, sandbox: Sandbox) -> None:
        """Line by line, to the end of its input."""
        process = await sandbox.processes.start(["/bin/sh", "-c", "cat; exit 5"], stdin=True)
        await process.send(b"one\n")
        await process.send("zwö\n".encode())
        await process.close_stdin()
        text, end = await _all(process)
        assert text == {"stdout": "one\nzwö\n".encode()}
        assert end.exit_code == 5

    async def test_a_terminal(self, sandbox: Sandbox) -> None:
        """It has a size, which changes, and echoes."""
        small = await sandbox.processes.start(["/bin/sh", "-c", "stty size"], terminal=(100, 40))
        assert (await _all(small))[0]["pty"].split() == [b"40", b"100"]
        process = await sandbox.processes.start(
            ["/bin/sh", "-c", "read x; stty size; echo got $x"], terminal=(100, 40)
        )
        await process.resize(120, 50)
        await process.send("wörd\n".encode())
        text, end = await _all(process)
        assert end.exit_code == 0
        assert text["pty"].decode().split() == ["wörd", "50", "120", "got", "wörd"]

    async def test_a_polite_signal(self, sandbox: Sandbox) -> None:
        """A process may heed SIGTERM in its own way."""
        process = await sandbox.processes.start(
            ["/bin/sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"]
        )
        events = process.events()
        async with asyncio.timeout(20):
            assert isinstance(await anext(events), ProcessOutput)
            assert await process.kill("SIGTERM")
            async for event in events:
                if isinstance(event, ProcessEnd):
                    assert event.exit_code == 7
        await process.close()

    async def test_processes_that_are_not_there(self, sandbox: Sandbox) -> None:
        """Neither to watch nor to start."""
        with pytest.raises(NotFound):
            await sandbox.processes.connect(999_999)
        with pytest.raises(OrchestrionError):
            await sandbox.processes.start(["/no/such/program"])
        with pytest.raises(InvalidInput):
            await sandbox.processes.start([])

    # Files.

    async def test_files_go_round(self, sandbox: Sandbox) -> None:
        """What is written is read; directories above are made; what was there is replaced."""
        files = sandbox.files
        for data in (b"", b"\0\xff\r\n", b"short"):
            await files.write("deep/er/file.bin", data)
            assert await files.read_bytes("deep/er/file.bin") == data
        entry = await files.stat("deep/er/file.bin")
        assert (entry.name, entry.type, entry.size) == ("file.bin", "file", 5)
        assert entry.path.endswith("/deep/er/file.bin")
        assert entry.modified_at.tzinfo is not None
        assert (await sandbox.run_command("cat ~/deep/er/file.bin")).stdout == "short"

    async def test_large_files_stream(self, sandbox: Sandbox) -> None:
        """Both ways, in pieces."""
        piece = secrets.token_bytes(2**20)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(_LARGE // len(piece)):
                yield piece

        await sandbox.files.write("large.bin", pieces())
        assert (await sandbox.files.stat("large.bin")).size == _LARGE
        size, parts = 0, 0
        async for part in sandbox.files.read("large.bin"):
            size, parts = size + len(part), parts + 1
        assert size == _LARGE
        assert parts > 1
        with pytest.raises(TooLarge):
            await sandbox.files.read_bytes("large.bin", limit=1000)
        whole = piece * 8
        await sandbox.files.write("whole.bin", whole)
        assert await sandbox.files.read_bytes("whole.bin") == whole

    @pytest.mark.parametrize("name", _ODD_NAMES)
    async def test_odd_names(self, sandbox: Sandbox, name: str) -> None:
        """Every name that a file can have works."""
        await sandbox.files.write(f"odd/{name}", name.encode())
        assert await sandbox.files.read_bytes(f"odd/{name}") == name.encode()
        assert [entry.name for entry in await sandbox.files.list("odd")] == [name]
        await sandbox.files.remove(f"odd/{name}")
        assert await sandbox.files.list("odd") == []

    async def test_directories(self, sandbox: Sandbox) -> None:
        """They are made once, listed to a depth, moved and removed with all that is in them."""
        files = sandbox.files
        assert await files.make_dir("tree/a/b")
        assert not await files.make_dir("tree/a/b")
        await files.write("tree/a/b/c.txt", b"c")
        await files.write("tree/top.txt", b"top")
        assert sorted(entry.name for entry in await files.list("tree")) == ["a", "top.txt"]
        deep = {entry.name: entry.type for entry in await files.list("tree", depth=3)}
        assert deep == {"a": "directory", "b": "directory", "c.txt": "file", "top.txt": "file"}
        moved = await files.move("tree/a", "elsewhere/z")
        assert moved.path.endswith("/elsewhere/z")
        assert await files.read_bytes("elsewhere/z/b/c.txt") == b"c"
        await files.remove("elsewhere")
        with pytest.raises(NotFound):
            await files.stat("elsewhere")

    async def test_links_are_told(self, sandbox: Sandbox) -> None:
        """A link has its target's type, and says where it leads."""
        await sandbox.run_command("cd; echo x > real.txt; ln -s real.txt link.txt")
        entry = await sandbox.files.stat("link.txt")
        assert entry.type == "file"
        assert entry.symlink_target is not None
        assert entry.symlink_target.endswith("/real.txt")

    async def test_files_that_are_not_as_wanted(self, sandbox: Sandbox) -> None:
        """Missing, or of the other kind."""
        files = sandbox.files
        await files.write("file.txt", b"x")
        for call in (lambda: files.stat("none"), lambda: files.read_bytes("none"), lambda: files.list("none")):
            with pytest.raises(NotFound):
                await call()
        for call in (lambda: files.read_bytes(_TMP), lambda: files.list("file.txt")):
            with pytest.raises(InvalidInput):
                await call()
        with pytest.raises(OrchestrionError):
            await files.write("file.txt/below", b"x")

    async def test_a_directory_is_watched(self, sandbox: Sandbox) -> None:
        """What is made, written and removed in it is told, also deep down."""
        await sandbox.files.make_dir("watched/sub")
        changes = sandbox.files.watch("watched", recursive=True)
        seen: set[tuple[str, str]] = set()
        wanted = {("one.txt", "create"), ("sub/two.txt", "create"), ("one.txt", "remove")}

        async def look() -> None:
            async for change in changes:
                seen.add((change.name, change.kind))
                if wanted <= seen:
                    return

        task = asyncio.create_task(look())
        async with asyncio.timeout(30):
            while not seen:  # until the watch is known to be in place
                await sandbox.run_command("cd ~/watched; touch probe; rm probe")
                await asyncio.sleep(0.05)
            await sandbox.run_command("cd ~/watched; echo 1 > one.txt; echo 2 > sub/two.txt; rm one.txt")
            await task
        await changes.aclose()  # type: ignore[attr-defined]

    # Cells.

    async def test_a_cells_results(self, sandbox: Sandbox) -> None:
        """Output, the last value, and what it leaves for the next one."""
        first = await sandbox.run_code("import sys\nx = 40\nprint('out')\nprint('err', file=sys.stderr)\nx + 2")
        assert (first.stdout, first.stderr, first.error) == ("out\n", "err\n", None)
        assert [(rich.kind, rich.data) for rich in first.results if rich.kind == "text"] == [("text", "42")]
        assert (await sandbox.run_code("print(x)")).stdout == "40\n"

    async def test_a_cells_error(self, sandbox: Sandbox) -> None:
        """Its name, its words and where."""
        result = await sandbox.run_code("print('before')\n1 / 0")
        assert result.stdout == "before\n"
        assert result.error is not None
        assert (result.error.name, result.error.message) == ("ZeroDivisionError", "division by zero")
        assert "1 / 0" in result.error.traceback

    async def test_a_cells_variables(self, sandbox: Sandbox) -> None:
        """They hold for the cell alone."""
        code = "import os; print(os.environ.get('CELL'))"
        assert (await sandbox.run_code(code, env={"CELL": "é"})).stdout == "é\n"
        assert (await sandbox.run_code(code)).stdout == "None\n"

    async def test_a_cell_that_takes_too_long(self, sandbox: Sandbox) -> None:
        """It is interrupted, and its variables are still there."""
        result = await sandbox.run_code("kept = 1\nprint('begun', flush=True)\nwhile True: pass", timeout=1.5)
        assert result.timed_out
        assert result.stdout == "begun\n"
        assert (await sandbox.run_code("print(kept)", timeout=20)).stdout == "1\n"

    async def test_a_cancelled_cell(self, sandbox: Sandbox) -> None:
        """It ends, and the next one runs."""
        begun = asyncio.Event()

        async def take(_output: Output) -> None:
            begun.set()

        task = asyncio.create_task(
            sandbox.run_code("print('begun', flush=True)\nimport time\ntime.sleep(300)", on_output=take)
        )
        async with asyncio.timeout(20):
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await sandbox.run_code("print('next')", timeout=20)).stdout == "next\n"

    async def test_a_cell_that_ends_its_interpreter(self, sandbox: Sandbox) -> None:
        """It is replaced, and the next cell runs in the new one."""
        with contextlib.suppress(OrchestrionError):
            await sandbox.run_code("import os; os._exit(1)", timeout=20)
        assert (await sandbox.run_code("print('new')", timeout=30)).stdout == "new\n"

    @pytest.mark.parametrize(
        ("language", "first", "second", "shown"),
        [
            ("python", "a = 1", "print(a + 1)", "2\n"),
            ("javascript", "globalThis.a = 1", "console.log(a + 1)", "2\n"),
            ("bash", "a=1", "echo $((a + 1))", "2\n"),
        ],
    )
    async def test_each_language_keeps_its_variables(
        self, sandbox: Sandbox, language: Any, first: str, second: str, shown: str
    ) -> None:
        """From one cell to the next."""
        if language == "javascript" and (await sandbox.run_command("command -v node")).exit_code:
            pytest.skip("there is no node in the sandbox")
        assert (await sandbox.run_code(first, language=language)).error is None
        assert (await sandbox.run_code(second, language=language)).stdout == shown

    async def test_contexts_are_apart(self, sandbox: Sandbox) -> None:
        """Each has its directory and variables; restarted it has none; removed it is gone."""
        context = await sandbox.make_context("python", _TMP)
        assert context.id in [found.id for found in await sandbox.contexts()]
        run = sandbox.run_code
        assert (await run("import os; y = 1; print(os.getcwd())", context=context.id)).stdout == f"{_TMP}\n"
        other = await run("y")
        assert other.error is not None
        await sandbox.restart_context(context.id)
        again = await run("y", context=context.id)
        assert again.error is not None
        await sandbox.remove_context(context.id)
        assert context.id not in [found.id for found in await sandbox.contexts()]
        with pytest.raises(NotFound):
            await run("1", context=context.id)

    # Ports, and the rest.

    async def test_ports_by_http_and_by_upgrade(self, sandbox: Sandbox) -> None:
        """A server inside is reached, also by one that goes on to speak WebSocket."""
        address = sandbox.port(8099)
        await self._is_closed(address)
        await sandbox.files.write("server.py", _SERVER.encode())
        home = (await sandbox.run_command("cd; pwd")).stdout.strip()
        process = await sandbox.processes.start(["python3", f"{home}/server.py"])
        async with asyncio.timeout(30):
            while not await _listens(address):  # noqa: ASYNC110 - nothing tells when it does
                await asyncio.sleep(0.1)
            assert b"hello from /path" in await _request(address, "/path")
            upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            answer = await _request(address, "/", upgrade + key, after=b"\x01abcde\x02")
        assert b" 101 " in answer.split(b"\r\n")[0]
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
        assert answer.endswith(b"\x02edcba\x01")
        await process.kill()
        await process.close()

    async def _is_closed(self, address: PortAddress) -> None:
        """A port where nobody listens is told when it is dialled, or by an edge's own answer."""
        try:
            answer = await _request(address, "/")
        except PortClosed:
            return
        assert b" 502 " in answer.split(b"\r\n")[0]
        assert b"port is not open" in answer

    async def test_it_says_what_it_uses(self, sandbox: Sandbox) -> None:
        """With figures that can be."""
        metrics = await sandbox.metrics()
        assert metrics.cpu_count >= 1
        assert metrics.cpu_percent >= 0
        assert 0 < metrics.memory_used <= metrics.memory_total
        assert 0 <= metrics.disk_used <= metrics.disk_total

    async def test_it_is_alive(self, sandbox: Sandbox) -> None:
        """And says so."""
        assert await sandbox.ping(within=5)


def _mark() -> str:
    return f"mark{secrets.token_hex(6)}"


def _family(mark: str) -> str:
    """Return shell code that starts processes near and far, all with a mark on their command line."""
    lasting = f"sh -c 'sleep 300; : {mark}'"
    return f"{lasting} & (setsid {lasting} &) ; nohup {lasting} >/dev/null 2>&1 & "


async def _left(sandbox: Sandbox, mark: str) -> str:
    """Return the command lines on which the mark still stands; our own has it otherwise."""
    found = await sandbox.run_command(
        f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -ao '[m]{mark[1:]}'"
    )
    return found.stdout


async def _all(process: Process) -> tuple[dict[str, bytes], ProcessEnd]:
    text: dict[str, bytes] = {}
    async with asyncio.timeout(30):
        async for event in process.events():
            if isinstance(event, ProcessEnd):
                await process.close()
                return text, event
            text[event.stream] = text.get(event.stream, b"") + event.data
    raise AssertionError("the process's end was not told")


async def _end(process: Process) -> ProcessEnd:
    return (await _all(process))[1]


async def _listens(address: PortAddress) -> bool:
    try:
        return b" 200 " in (await _request(address, "/")).split(b"\r\n")[0]
    except (PortClosed, EOFError):
        return False


async def _request(address: PortAddress, path: str, headers: str = "", after: bytes = b"") -> bytes:
    """Send a request by hand, then `after` once it is answered, and return all that comes."""
    reader, writer = await address.dial()
    try:
        extra = "".join(f"{name}: {value}\r\n" for name, value in address.headers.items() if name.lower() != "host")
        close = "" if headers else "Connection: close\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\n{extra}{headers}{close}\r\n".encode())
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(after)
            return head + await reader.read(-1)
    finally:
        writer.close()
