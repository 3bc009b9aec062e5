"""The real guest daemon as a process of its own, and a client that speaks its protocol by hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h11
import httpx
import python_multipart

from endpoint_support import free_port

GUEST = Path(__file__).parents[2] / "src" / "orchestrion" / "sandbox" / "guest"
STREAM = {"Content-Type": "application/connect+json"}


def framed(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(data)) + data


class Failed(Exception):
    """A call that ended with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code = error["code"]


class Followed:
    """A stream of events, and what it has brought so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.output: dict[str, bytes] = {"stdout": b"", "stderr": b"", "pty": b""}
        self.pid = 0
        self.end: dict[str, Any] | None = None
        self.keepalives = 0
        self._pieces = response.aiter_raw()
        self._buffer = b""

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += await anext(self._pieces)
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    async def next(self) -> bool:
        """Take one event; False after the last. Raises `Failed`."""
        flags, length = struct.unpack(">BI", await self._take(5))
        message = json.loads(await self._take(length))
        if flags & 2:
            if "error" in message:
                raise Failed(message["error"])
            return False
        event = message["event"]
        if "start" in event:
            self.pid = event["start"]["pid"]
        elif "data" in event:
            for kind, data in event["data"].items():
                self.output[kind] += base64.b64decode(data)
        elif "end" in event:
            self.end = event["end"]
        else:
            self.keepalives += 1
        return True

    async def all(self) -> Followed:
        """Follow it to its end."""
        while await self.next():
            pass
        return self

    async def until(self, kind: str, text: bytes) -> None:
        """Follow it until that has been written."""
        while text not in self.output[kind]:
            assert await self.next(), f"ended without {text!r}: {self.output}"


class Guest:
    """The daemon, its socket and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, path: str, port: int, home: Path) -> None:
        self.process, self.path, self.port, self.home = process, path, port, home
        self.http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://guest:49983", timeout=30
        )

    @contextlib.asynccontextmanager
    async def started(
        self, cmd: str, *args: str, headers: dict[str, str] | None = None, user: str = "", **fields: Any
    ) -> AsyncIterator[Followed]:
        """Start a program and follow it from its first event on; leaving ends the call."""
        process = {"cmd": cmd, "args": list(args), **fields.pop("process", {})}
        message = {"process": process, **fields}
        who = {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()} if user else {}
        async with self.stream("Start", message, {**who, **(headers or {})}) as followed:
            await followed.next()
            yield followed

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, message: dict[str, Any], headers: dict[str, str] | None = None
    ) -> AsyncIterator[Followed]:
        async with self.http.stream(
            "POST", f"/process.Process/{method}", content=framed(message), headers={**STREAM, **(headers or {})}
        ) as response:
            assert response.status_code == 200
            yield Followed(response)

    async def run(self, script: str, **fields: Any) -> Followed:
        """Run a shell script to its end."""
        async with self.started("/bin/sh", "-c", script, **fields) as followed:
            return await followed.all()

    async def call(self, method: str, **message: Any) -> dict[str, Any]:
        response = await self.http.post(f"/process.Process/{method}", json=message)
        answer: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise Failed(answer)
        return answer

    async def feed(self, pid: int, data: bytes, kind: str = "stdin") -> None:
        await self.call("SendInput", process={"pid": pid}, input={kind: base64.b64encode(data).decode()})

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection as a stranger does."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@contextlib.asynccontextmanager
async def guest(tmp_path: Path, **config: Any) -> AsyncIterator[Guest]:
    """Run the daemon in a home of its own, with a trusted socket and a TCP port."""
    home, libraries = tmp_path / "home", tmp_path / "libraries"
    home.mkdir(exist_ok=True)
    libraries.mkdir(exist_ok=True)
    for package in (h11, python_multipart):
        (libraries / package.__name__).symlink_to(Path(package.__path__[0]))
    path, port = str(tmp_path / "s"), free_port()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps({"allow_root": os.geteuid() == 0, **config}))
    config_fd = os.open(config_file, os.O_RDONLY)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": f"{GUEST}:{libraries}"}
    argv = [sys.executable, "-m", "guestd", "--listener", str(listener.fileno()), "--port", str(port)]
    argv += ["--config-fd", str(config_fd)]
    process = await asyncio.create_subprocess_exec(*argv, env=env, pass_fds=(listener.fileno(), config_fd))
    listener.close()
    os.close(config_fd)
    running = Guest(process, path, port, home)
    try:
        assert (await running.http.get("/health")).status_code == 204
        yield running
    finally:
        await running.http.aclose()
        if process.returncode is None:
            process.kill()
        await process.wait()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def gone(*pids: int, seconds: float = 10) -> bool:
    """Wait until none of them lives."""
    for _ in range(int(seconds / 0.02)):
        if not any(alive(pid) for pid in pids):
            return True
        await asyncio.sleep(0.02)
    return False


async def written(path: Path, seconds: float = 10) -> str:
    """Wait until a file has a whole line, and return it."""
    for _ in range(int(seconds / 0.02)):
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} was never written")
