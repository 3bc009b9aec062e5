"""Processes inside that outlive their caller."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal

from orchestrion.core.errors import InvalidInput, NotFound, SandboxError
from orchestrion.sandbox.client.endings import end_of
from orchestrion.sandbox.client.guest import Guest, Messages, unknown
from orchestrion.sandbox.client.wire import Message, bytes_of, checked, text_of, whole_of
from orchestrion.sandbox.protocols import Process, ProcessEnd, ProcessInfo, ProcessOutput

SERVICE = "process.Process"
_START_SECONDS = 30
_STREAMS: tuple[Literal["stdout", "stderr", "pty"], ...] = ("stdout", "stderr", "pty")


class GuestProcesses:
    """Implements `Processes`.

    Args:
        guest: The daemon.
        cwd: Where processes start by default.
    """

    def __init__(self, guest: Guest, cwd: str) -> None:
        self._guest = guest
        self._cwd = cwd

    async def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: bool = False,
        terminal: tuple[int, int] | None = None,
        tag: str | None = None,
    ) -> Process:
        """Start one and watch it; see `Processes.start`."""
        if not argv:
            raise InvalidInput("A process needs a program.", "Name it first in `argv`.")
        message = start_message(argv, cwd or self._cwd, env, stdin=stdin)
        if terminal is not None:
            message["pty"] = {"size": {"cols": terminal[0], "rows": terminal[1]}}
        if tag is not None:
            message["tag"] = tag
        return await self._watch("Start", message, user, pty=terminal is not None)

    async def connect(self, pid: int) -> Process:
        """Watch one that runs; raises `NotFound`."""
        return await self._watch("Connect", {"process": {"pid": pid}}, None, pty=None)

    async def list(self) -> list[ProcessInfo]:
        """Return those that run."""
        reply = await self._guest.call(f"{SERVICE}/List", {})
        found = reply.get("processes", [])
        if not isinstance(found, list):
            raise unknown("a list of processes that is none")
        return [_info(checked(one)) for one in found]

    async def _watch(self, method: str, message: Message, user: str | None, *, pty: bool | None) -> GuestProcess:
        messages = await self._guest.open(f"{SERVICE}/{method}", message, user=user)
        try:
            pid = pid_of(await messages.next(_START_SECONDS))
        except BaseException:
            await messages.aclose()
            raise
        return GuestProcess(self._guest, messages, pid, pty=pty)


class GuestProcess:
    """Implements `Process`.

    Args:
        guest: The daemon.
        messages: Its events, after the first.
        pid: Its pid inside.
        pty: Whether it runs in a terminal; None if that shows only by its output.
    """

    def __init__(self, guest: Guest, messages: Messages, pid: int, *, pty: bool | None) -> None:
        self._guest = guest
        self._messages = messages
        self._pid = pid
        self._pty = pty

    @property
    def pid(self) -> int:
        """Its pid inside."""
        return self._pid

    async def events(self) -> AsyncIterator[ProcessOutput | ProcessEnd]:
        """Yield its output as it comes and, last, its end."""
        while (message := await self._messages.next()) is not None:
            event = event_of(message)
            if "end" in event:
                yield end_of(checked(event["end"]))
                return
            for output in outputs_of(event):
                yield output
        raise SandboxError("The sandbox stopped telling of a process before that ended.")

    async def send(self, data: bytes) -> None:
        """Write to its standard input, or its terminal."""
        text = base64.b64encode(data).decode()
        if self._pty is None:
            self._pty = await self._has_terminal(text)
            return
        await self._input("pty" if self._pty else "stdin", text)

    async def close_stdin(self) -> None:
        """End its standard input."""
        await self._ask("CloseStdin", {})

    async def resize(self, columns: int, rows: int) -> None:
        """Change its terminal's size."""
        await self._ask("Update", {"pty": {"size": {"cols": columns, "rows": rows}}})

    async def kill(self, signal: Literal["SIGKILL", "SIGTERM"] = "SIGKILL") -> bool:
        """Send a signal; False if it has ended already."""
        try:
            await self._ask("SendSignal", {"signal": f"SIGNAL_{signal}"})
        except NotFound:
            return False
        return True

    async def close(self) -> None:
        """Stop watching."""
        await self._messages.aclose()

    async def _has_terminal(self, text: str) -> bool:
        """Write to a process that we did not start; the daemon refuses the wrong kind of input."""
        with contextlib.suppress(InvalidInput, SandboxError):
            await self._input("pty", text)
            return True
        await self._input("stdin", text)
        return False

    async def _input(self, kind: str, text: str) -> None:
        await self._ask("SendInput", {"input": {kind: text}})

    async def _ask(self, method: str, message: Message) -> None:
        await self._guest.call(f"{SERVICE}/{method}", {"process": {"pid": self._pid}, **message})


def start_message(
    argv: Sequence[str], cwd: str, env: Mapping[str, str] | None = None, *, stdin: bool = False
) -> Message:
    """Return the request that starts a process."""
    process = {"cmd": argv[0], "args": list(argv[1:]), "envs": dict(env or {}), "cwd": cwd}
    return {"process": process, "stdin": stdin}


def event_of(message: Message) -> Message:
    """Return the event that a message carries."""
    return checked(message.get("event"))


def pid_of(message: Message | None) -> int:
    """Read the first message of a process, which gives its pid.

    Raises:
        SandboxError: It does not.
    """
    event = event_of(message or {})
    if "start" not in event:
        raise unknown("no word of the start of a process")
    pid = whole_of(checked(event["start"]), "pid")
    if pid <= 0:
        raise unknown("a process without a pid")
    return pid


def outputs_of(event: Message) -> list[ProcessOutput]:
    """Return the output that an event carries; keepalives carry none.

    Raises:
        SandboxError: It is of an unknown kind.
    """
    if "keepalive" in event:
        return []
    data = checked(event.get("data"))
    found = [ProcessOutput(stream, bytes_of(data, stream)) for stream in _STREAMS if stream in data]
    if not found:
        raise unknown("output of an unknown stream")
    return found


def _info(process: Message) -> ProcessInfo:
    config = checked(process.get("config"))
    args = config.get("args", [])
    if not isinstance(args, list):
        raise unknown("a process whose arguments are no list")
    return ProcessInfo(
        pid=whole_of(process, "pid"),
        command=text_of(config, "cmd"),
        args=tuple(text_of({"args": arg}, "args") for arg in args),
        cwd=text_of(config, "cwd", "") or None,
        tag=text_of(process, "tag", "") or None,
    )
