"""A supervisor: the parent that nothing started under it can escape.

Every command, and the kernel, runs under a small process that is a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER): whatever double-forks or calls setsid still descends from it, and can be found and killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from .limits import GuestLimits, apply_user_limits
from .proctree import Identity, Process, descendants, kill_family, orphans, process_table
from .seccomp import set_dumpable

_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_RESET = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


_TRIES, _PAUSE = 8, 0.1
_NO_PROCESS = "the sandbox's limit of processes is used up"
_SUPERVISORS: set[int] = set()


@dataclass(frozen=True)
class Launch:
    """What to start: `fds` maps descriptors of the new process to ours."""

    argv: Sequence[str]
    cwd: str
    fds: dict[int, int]
    limits: GuestLimits


def _fail(message: str, status: int) -> None:
    os.write(2, f"{message}\n".encode(errors="replace"))
    os._exit(status)


def _arrange(fds: dict[int, int]) -> None:
    """Put each descriptor where it's wanted; all others are closed by exec."""
    # Above all targets, and at numbers that are free: a fixed number may be a descriptor that is still to be moved.
    safe = {target: fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, max(fds) + 1) for target, ours in fds.items()}
    for target, ours in safe.items():
        os.dup2(ours, target, inheritable=True)


def _lay_bare(limits: GuestLimits) -> None:
    """Let go of what the daemon had open, then of its protection: /proc/self is closed to us with it."""
    os.closerange(4, limits.open_files)
    set_dumpable(True)


def _execute(launch: Launch) -> None:
    """In the child: become the program."""
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    _arrange(launch.fds)
    _lay_bare(launch.limits)
    apply_user_limits(launch.limits)
    try:
        os.chdir(launch.cwd)
    except OSError as error:
        _fail(f"cannot enter {launch.cwd}: {error.strerror}", 126)
    try:
        os.execvp(launch.argv[0], list(launch.argv))  # noqa: S606 - the command is what we are asked to run
    except OSError as error:
        _fail(f"cannot start {launch.argv[0]}: {error.strerror}", 127)


def _report(status: int, line: str) -> None:
    with contextlib.suppress(OSError):
        os.write(status, line.encode())


def _supervise(launch: Launch, status: int) -> None:
    """In the supervisor: start the program, report its end, stay while anything that it left still lives."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = os.fork()
    except OSError:
        _report(status, "nofork 0\n")
        return
    if child == 0:
        _execute(launch)
    os.dup2(status, 3)
    _lay_bare(launch.limits)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    _report(3, f"pid {child}\n")
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.wait()
            if pid == child:
                _report(3, f"exit {code}\n")


def _fork_supervisor(launch: Launch) -> tuple[int, int]:
    read, write = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        raise
    if pid == 0:
        signal.set_wakeup_fd(-1)
        try:
            _supervise(launch, write)
        finally:
            os._exit(0)
    os.close(write)
    _SUPERVISORS.add(pid)
    return pid, read


def reap() -> None:
    """Collect ended processes; orphans of the whole sandbox end up with process 1, the daemon."""
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            _SUPERVISORS.discard(pid)


class Supervised:
    """A program running under a supervisor of its own."""

    def __init__(self, supervisor: int, pid: int, status: asyncio.StreamReader) -> None:
        self.supervisor = supervisor
        self.pid = pid
        self.out_of_memory = False
        self._status = status

    @classmethod
    async def start(cls, launch: Launch) -> Supervised:
        """Start it.

        Raises:
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
            supervisor, fd = _fork_supervisor(launch)
        except BlockingIOError:
            raise BlockingIOError(_NO_PROCESS) from None
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
        )
        word, _, number = (await reader.readline()).decode().partition(" ")
        if word == "nofork":
            raise BlockingIOError(_NO_PROCESS)
        # User code may kill its supervisor before that has told us anything; then the program counts as killed.
        return cls(supervisor, int(number or 0), reader)

    async def wait(self) -> int:
        """Return its wait status (as of waitpid); if its supervisor was killed, that of a SIGKILL."""
        word, _, number = (await self._status.readline()).decode().partition(" ")
        return int(number) if word == "exit" else signal.SIGKILL

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

    def interrupt(self) -> None:
        """Send SIGINT to the program itself."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)


def describe_status(status: int) -> tuple[int, str]:
    """Return a wait status as the shell's exit code and in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, f"was killed by signal {number} ({signal.strsignal(number) or 'unknown'})"
    return os.WEXITSTATUS(status), f"ended with exit status {os.WEXITSTATUS(status)}"
