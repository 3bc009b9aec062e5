"""What happens in a new process before it becomes the program it was made for, and in its supervisor beside it.

Imports little: it also runs in the nursery, which has to stay small to be forked quickly.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import termios
from collections.abc import Iterator
from typing import Any

from .limits import OFFERING, GuestLimits, apply_limits, apply_user_limits
from .privileges import become
from .seccomp import set_dumpable

MOST_FDS = 8
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_RESET = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_MANY = 65536
_CHANNEL = 3


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


def fork_supervisor(*, readable: bool = False) -> tuple[int, socket.socket]:
    """Make a supervisor that waits to be told what to start.

    Args:
        readable: Programs inside may read its memory, which is a copy of ours: the daemon's holds the access token.

    Returns:
        Its pid, and the channel: the launch goes in, lines about the program come out.

    Raises:
        OSError: No process could be made.
    """
    ours, theirs = socket.socketpair()
    try:
        with OFFERING.to_children():
            pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            _supervise(theirs.fileno(), readable)
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def _supervise(channel: int, readable: bool) -> None:
    """In the supervisor: start the program, report its end, stay while anything that it left still lives."""
    become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    _arrange(dict(enumerate((null, null, null, channel))))
    os.set_inheritable(_CHANNEL, False)
    # Nothing of the daemon's is open any more; the memory watch should be able to look in here.
    set_dumpable(readable)
    child = 0
    try:
        # Only where the program is to become another user, a process of its own has to prepare that.
        child = _fork(None) if os.geteuid() == 0 else _begin(*_receive())
        _report(f"pid {child}\n")
    except EOFError:
        return
    except OSError:
        _report("nofork\n")
        return
    except _NotBegun as error:
        _report("failed {}\n".format(str(error).replace("\n", " ")))
    _outlive(child)


def _outlive(child: int) -> None:
    """Report the program's end and, at last, that nothing of what it started is left."""
    news = ""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if not pid:
                _report(news)
                news = ""
                pid, code = os.wait()
            if pid == child:
                news = f"exit {code}\n"
    # Who looks for something need not look elsewhere.
    _report(f"{news}done\n")


def _report(text: str) -> None:
    if text:
        with contextlib.suppress(OSError):
            os.write(_CHANNEL, text.encode(errors="replace"))


class _NotBegun(Exception):
    """The program could not be started; the message says why."""


@contextlib.contextmanager
def _explained(launch: dict[str, Any]) -> Iterator[None]:
    """Say of an error which program it hindered."""
    try:
        yield
    except BlockingIOError:
        raise
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _NotBegun(f"cannot start {launch['argv'][0]}: {text}") from None


def _receive() -> tuple[dict[str, Any], list[int]]:
    """Return the launch and the program's descriptors. Raises `EOFError` if none comes any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(_CHANNEL)) as channel:
        data, fds, _, _ = socket.recv_fds(channel, 65536, MOST_FDS)
        while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
            more = channel.recv(65536)
            if not more:
                raise EOFError
            data += more
    return json.loads(data[4:]), fds


def _begin(launch: dict[str, Any], fds: list[int]) -> int:
    """Start the program and return its pid.

    Raises:
        _NotBegun: It can't be.
        BlockingIOError: No process could be made.
    """
    if launch["terminal"]:
        return _fork((launch, fds))
    with _explained(launch):
        # Neither page tables nor anything else of this process is copied for the program.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 2 * MOST_FDS) for fd in fds]
        os.closerange(_CHANNEL + 1, 2 * MOST_FDS)
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(moved)]
        _restrict(launch)
        _enter(launch["cwd"])
        child = _spawn(launch, actions)
    os.closerange(_CHANNEL + 1, _MANY)
    os.chdir("/")
    return child


def _spawn(launch: dict[str, Any], actions: list[tuple[int, int, int]]) -> int:
    """Look for the program as execvp(3) does."""
    argv, env = launch["argv"], launch["env"]
    places = [""] if "/" in argv[0] else os.get_exec_path(env)
    problem: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in places:
        path = os.path.join(place, argv[0])
        try:
            return os.posix_spawn(path, argv, env, file_actions=actions, setsid=True, setsigdef=_RESET)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except BlockingIOError:
            raise
        except OSError as error:
            problem = error
    raise problem


def _fork(given: tuple[dict[str, Any], list[int]] | None) -> int:
    """Make a process that becomes the program, and return its pid once it has; see `_begin`.

    Args:
        given: The launch and the descriptors; None to let that process wait for them.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _become_program(given, tell)
    os.close(tell)
    if given is not None:
        os.closerange(told + 1, _MANY)
        for fd in given[1]:
            with contextlib.suppress(OSError):
                os.close(fd)
    message = os.read(told, 4096).decode(errors="replace")
    os.close(told)
    if message:
        raise _NotBegun(message)
    return child


def _become_program(given: tuple[dict[str, Any], list[int]] | None, tell: int) -> None:
    """In the child: become the program, or say what hinders that."""
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    try:
        launch, fds = given or _receive()
        os.setsid()
        _arrange(dict(enumerate((*fds, tell))))
        # Closed when the program begins: that is how the supervisor learns of it.
        tell = len(fds)
        os.set_inheritable(tell, False)
        with _explained(launch):
            if launch["terminal"]:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            _restrict(launch)
            _enter(launch["cwd"])
            os.execvpe(launch["argv"][0], launch["argv"], launch["env"])  # noqa: S606 - that is what we are asked for
    except EOFError:
        pass
    except (_NotBegun, OSError, ValueError) as error:
        os.write(tell, str(error).encode(errors="replace"))
    finally:
        os._exit(127)


def _restrict(launch: dict[str, Any]) -> None:
    """Set the limits, and become the user."""
    limits = GuestLimits(**launch["limits"])
    apply_user_limits(limits)
    apply_limits(limits)
    if launch["user"] is not None:
        uid, gid, groups = launch["user"]
        become(uid, gid, tuple(groups), allow_root=launch["allow_root"])


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise ValueError(f"{directory}: {error.strerror}") from None
