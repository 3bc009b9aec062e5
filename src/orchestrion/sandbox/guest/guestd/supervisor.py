"""A supervisor: the parent that nothing started under it can escape.

Every command, and every kernel, runs under a small process that is a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER): whatever double-forks or calls setsid still descends from it, and can be found and killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .limits import GuestLimits
from .nursery import NURSERY
from .proctree import Identity, Process, descendants, kill_family, orphans, process_table

if TYPE_CHECKING:
    from .users import User

_TRIES, _PAUSE = 8, 0.1
_NO_PROCESS = "the sandbox's limit of processes is used up"
_SUPERVISORS: set[int] = set()
RUNNING: set[Supervised] = set()
"""Every program whose first process lives; the memory and disk watches look here for whom they hit."""


class NotStarted(OSError):
    """The program could not be executed; the message says why."""


@dataclass(frozen=True)
class Launch:
    """What to start.

    Attributes:
        argv: The program and its arguments.
        cwd: Its directory.
        fds: Which of our descriptors it finds at which number, from 0 on without a gap.
        limits: What each of its processes may use.
        env: Its variables; None for the daemon's own.
        user: Whom to become first; None to stay who the daemon is.
        allow_root: It may raise its privileges.
        terminal: Its descriptor 0 is a terminal, which is to control it.
    """

    argv: Sequence[str]
    cwd: str
    fds: dict[int, int]
    limits: GuestLimits
    env: Mapping[str, str] | None = None
    user: User | None = None
    allow_root: bool = False
    terminal: bool = False

    def encode(self) -> bytes:
        """Return it as it goes to the process that is to become the program."""
        user = None if self.user is None else (self.user.uid, self.user.gid, self.user.groups)
        order = {
            "argv": list(self.argv),
            "cwd": self.cwd,
            "env": dict(os.environ if self.env is None else self.env),
            "limits": vars(self.limits),
            "user": user,
            "allow_root": self.allow_root,
            "terminal": self.terminal,
        }
        data = json.dumps(order).encode()
        return struct.pack(">I", len(data)) + data


def reap() -> None:
    """Collect ended processes; orphans of the whole sandbox end up with process 1, the daemon."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def rouse(table: dict[int, Process]) -> None:
    """Let our own processes go on that code inside has stopped: supervisors, which tell of ends, and interpreters.

    Args:
        table: The process table.
    """
    own = {program.pid for program in RUNNING if program.own}
    for process in descendants(os.getpid(), table):
        if process.state == "T" and (process.pid in own or process.session in NURSERY.sessions):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGCONT)


class Supervised:
    """A program running under a supervisor of its own.

    Attributes:
        supervisor: The supervisor's pid.
        pid: The program's; the supervisor's, if that was killed before it told which the program's is.
        out_of_memory: The memory watch killed one of its processes.
        own: It is part of the daemon's service, and not to stand still whatever code inside does.
        verdict: Why a watch killed it, in words for its user; empty if none did.
        ended: Its wait status, once its first process has ended.
    """

    def __init__(self, supervisor: int, channel: socket.socket) -> None:
        self.supervisor = supervisor
        self.pid = 0
        self.out_of_memory = False
        self.own = False
        self.verdict = ""
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._begun: asyncio.Future[str] = loop.create_future()
        self._killing: asyncio.Future[bool] | None = None
        self._abandoning: asyncio.Future[Any] | None = None
        self._deserted = False
        self._channel, self._text = channel, b""
        channel.setblocking(False)
        loop.add_reader(channel.fileno(), self._news)
        _SUPERVISORS.add(supervisor)

    @classmethod
    async def start(cls, launch: Launch) -> Supervised:
        """Start it.

        Raises:
            NotStarted: It could not be executed.
            OSError: No process could be made, also not after the ended ones were collected.
        """
        for _ in range(_TRIES - 1):
            reap()
            try:
                return await cls._start(launch)
            except BlockingIOError:
                await asyncio.sleep(_PAUSE)
            except ConnectionError:
                continue
        return await cls._start(launch)

    @classmethod
    async def _start(cls, launch: Launch) -> Supervised:
        try:
            program = cls(*await NURSERY.take())
        except BlockingIOError:
            raise BlockingIOError(_NO_PROCESS) from None
        try:
            await program._tell(launch)
            word, _, rest = (await asyncio.shield(program._begun)).partition(" ")
        except asyncio.CancelledError:
            program._abandoning = asyncio.ensure_future(program._abandon())
            raise
        if word == "nofork":
            raise BlockingIOError(_NO_PROCESS)
        if word == "failed":
            raise NotStarted(rest)
        # User code may kill its supervisor before that has told us anything; then the program counts as killed.
        program.pid = int(rest) if rest else program.supervisor
        if not program.ended.done():
            RUNNING.add(program)
        return program

    async def _abandon(self) -> None:
        """End what nobody waits for any more."""
        await self._begun
        await self.kill()

    async def _tell(self, launch: Launch) -> None:
        """Send the launch.

        Raises:
            ConnectionError: The supervisor was killed before; nothing has begun.
        """
        data = launch.encode()
        fds = [launch.fds[target] for target in range(len(launch.fds))]
        sent = socket.send_fds(self._channel, [data[:65536]], fds)
        if sent < len(data):
            await asyncio.get_running_loop().sock_sendall(self._channel, data[sent:])

    def _news(self) -> None:
        """Take what the supervisor reports."""
        try:
            data = self._channel.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._heard(line.decode())
        if not data or self._deserted:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
            _SUPERVISORS.discard(self.supervisor)
            self._heard("gone")
            if not self._deserted:
                # Whoever kills a supervisor doesn't free its family.
                self._abandoning = asyncio.ensure_future(self.kill())

    def _heard(self, line: str) -> None:
        word, _, number = line.partition(" ")
        if not self._begun.done():
            self._begun.set_result(line)
        if word == "done":
            self._deserted = True
        if word in ("exit", "gone") and not self.ended.done():
            RUNNING.discard(self)
            self.ended.set_result(int(number) if word == "exit" else signal.SIGKILL)

    async def wait(self) -> int:
        """Return its wait status (as of waitpid); if its supervisor was killed, that of a SIGKILL."""
        return await asyncio.shield(self.ended)

    def family(self) -> set[Identity]:
        """Return everything that the program started, itself included."""
        return {process.identity for process in self.members(process_table())}

    def members(self, table: dict[int, Process]) -> list[Process]:
        """Pick the program and all that it started from the process table.

        User code may have killed the supervisor: then they are among the orphans.
        """
        reap()
        supervisor = table.get(self.supervisor)
        if supervisor is not None and supervisor.state not in "ZX" and self.supervisor in _SUPERVISORS:
            return descendants(self.supervisor, table)
        if self._deserted:
            return []
        roots = orphans(table, NURSERY.sessions)
        return [table[root] for root in roots] + [below for root in roots for below in descendants(root, table)]

    async def kill(self, spare: set[Identity] | None = None) -> bool:
        """Kill all of it but `spare`; say whether nothing is left. Once begun, it is done, whoever waits for it."""
        self._killing = asyncio.ensure_future(kill_family(self.members, spare or set()))
        return await asyncio.shield(self._killing)

    def signal(self, number: int) -> None:
        """Send a signal to the program itself, if it still runs."""
        if self.ended.done():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def interrupt(self) -> None:
        """Send SIGINT to the program itself."""
        self.signal(signal.SIGINT)


async def end_or_die(program: Supervised) -> None:
    """Kill a program with its family. What can't be killed in time takes the sandbox with it, rather than live on."""
    if not await program.kill():
        sys.stderr.write("guestd: a process could not be killed; the sandbox ends\n")
        os._exit(1)


def describe_status(status: int) -> tuple[int, str]:
    """Return a wait status as the shell's exit code and in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, f"was killed by signal {number} ({signal.strsignal(number) or 'unknown'})"
    return os.WEXITSTATUS(status), f"ended with exit status {os.WEXITSTATUS(status)}"
