"""A supervisor: the parent that nothing started under it can escape.

Every command, and every kernel, runs under a small process that is a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER): whatever double-forks or calls setsid still descends from it, and can be found and killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .limits import GuestLimits, apply_limits, apply_user_limits
from .privileges import become
from .proctree import Identity, Process, descendants, kill_family, orphans, process_table
from .seccomp import set_dumpable

if TYPE_CHECKING:
    from .users import User

_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_RESET = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_MANY = 65536
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


def become_subreaper() -> None:
    """Adopt whatever loses its parent below this process."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _arrange(fds: dict[int, int]) -> None:
    """Put each descriptor where it's wanted and close all others."""
    # Above all targets, and at numbers that are free: a fixed number may be a descriptor that is still to be moved.
    safe = {target: fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, max(fds) + 1) for target, ours in fds.items()}
    for target, ours in safe.items():
        os.dup2(ours, target, inheritable=True)
    os.closerange(max(fds) + 1, _MANY)


def _execute(launch: Launch, trouble: int) -> None:
    """In the child: become the program, or say into `trouble` what hinders that."""
    last = max(launch.fds) + 1
    try:
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _arrange({**launch.fds, last: trouble})
        os.set_inheritable(last, False)
        if launch.terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _become(launch)
        os.chdir(launch.cwd)
        env = dict(os.environ if launch.env is None else launch.env)
        os.execvpe(launch.argv[0], list(launch.argv), env)  # noqa: S606 - the program is what we are asked to run
    except (OSError, ValueError) as error:
        os.write(last, _reason(launch, error).encode(errors="replace"))
    finally:
        os._exit(127)


def _become(launch: Launch) -> None:
    # The daemon's protection goes only now that nothing of the daemon's is open; /proc/self was closed to us with it.
    set_dumpable(True)
    apply_user_limits(launch.limits)
    apply_limits(launch.limits)
    os.umask(0o022)
    if launch.user is not None:
        become(launch.user.uid, launch.user.gid, launch.user.groups, allow_root=launch.allow_root)


def _reason(launch: Launch, error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    with contextlib.suppress(OSError):
        if os.getcwd() != os.path.realpath(launch.cwd):
            return f"cannot enter {launch.cwd}: {text}"
    return f"cannot start {launch.argv[0]}: {text}"


def _report(line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(3, line.encode(errors="replace"))


def _supervise(launch: Launch, status: int) -> None:
    """In the supervisor: start the program, report its end, stay while anything that it left still lives."""
    become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trouble, theirs = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.write(status, b"nofork 0\n")
        return
    if child == 0:
        _execute(launch, theirs)
    null = os.open(os.devnull, os.O_RDWR)
    _arrange({0: null, 1: null, 2: null, 3: status, 4: trouble})
    set_dumpable(True)
    message = os.read(4, 4096).decode(errors="replace").replace("\n", " ")
    os.close(4)
    _report(f"failed {message}\n" if message else f"pid {child}\n")
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.wait()
            if pid == child:
                _report(f"exit {code}\n")


def _fork_supervisor(launch: Launch) -> tuple[int, int]:
    read, write = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        raise
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            _supervise(launch, write)
        finally:
            os._exit(0)
    os.close(write)
    os.set_blocking(read, False)
    _SUPERVISORS.add(pid)
    return pid, read


def reap() -> None:
    """Collect ended processes; orphans of the whole sandbox end up with process 1, the daemon."""
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            _SUPERVISORS.discard(pid)


def supervisors() -> frozenset[int]:
    """Return the supervisors' pids, which no watch may kill."""
    return frozenset(_SUPERVISORS)


class Supervised:
    """A program running under a supervisor of its own.

    Attributes:
        supervisor: The supervisor's pid.
        pid: The program's.
        out_of_memory: The memory watch killed one of its processes.
        verdict: Why a watch killed it, in words for its user; empty if none did.
        ended: Its wait status, once its first process has ended.
    """

    def __init__(self, supervisor: int, status: int) -> None:
        self.supervisor = supervisor
        self.pid = 0
        self.out_of_memory = False
        self.verdict = ""
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._begun: asyncio.Future[str] = loop.create_future()
        self._status, self._text = status, b""
        loop.add_reader(status, self._news)

    @classmethod
    async def start(cls, launch: Launch) -> Supervised:
        """Start it.

        Raises:
            NotStarted: It could not be executed.
            OSError: No process could be made, also not after the ended ones were collected.
        """
        for _ in range(_TRIES - 1):
            reap()
            with contextlib.suppress(BlockingIOError):
                return await cls._start(launch)
            await asyncio.sleep(_PAUSE)
        return await cls._start(launch)

    @classmethod
    async def _start(cls, launch: Launch) -> Supervised:
        try:
            program = cls(*_fork_supervisor(launch))
        except BlockingIOError:
            raise BlockingIOError(_NO_PROCESS) from None
        # Even if nobody waits for it any more, what was started must be known.
        word, _, rest = (await asyncio.shield(program._begun)).partition(" ")
        if word == "nofork":
            raise BlockingIOError(_NO_PROCESS)
        if word == "failed":
            raise NotStarted(rest)
        # User code may kill its supervisor before that has told us anything; then the program counts as killed.
        program.pid = int(rest or 0)
        if not program.ended.done():
            RUNNING.add(program)
        return program

    def _news(self) -> None:
        """Take what the supervisor reports."""
        try:
            data = os.read(self._status, 4096)
        except BlockingIOError:
            return
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._heard(line.decode())
        if not data:
            asyncio.get_running_loop().remove_reader(self._status)
            os.close(self._status)
            self._heard("gone")

    def _heard(self, line: str) -> None:
        word, _, number = line.partition(" ")
        if not self._begun.done():
            self._begun.set_result(line)
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
        if self.supervisor in _SUPERVISORS:
            return descendants(self.supervisor, table)
        roots = orphans(table, _SUPERVISORS)
        return [table[root] for root in roots] + [below for root in roots for below in descendants(root, table)]

    async def kill(self, spare: set[Identity] | None = None) -> bool:
        """Kill all of it but `spare`; say whether nothing is left."""
        return await kill_family(self.members, spare or set())

    def signal(self, number: int) -> None:
        """Send a signal to the program itself, if it still runs."""
        if not self.pid or self.ended.done():
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
