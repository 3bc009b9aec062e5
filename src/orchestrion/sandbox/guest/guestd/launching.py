"""What happens in a new process before it becomes the program it was made for, and in its supervisor beside it.

Imports little: it also runs in the nursery, which has to stay small to be forked quickly.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import termios
from typing import Any

from .limits import GuestLimits, apply_limits, apply_user_limits
from .privileges import become
from .seccomp import set_dumpable

MOST_FDS = 8
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_RESET = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_MANY = 65536
_CHANNEL, _TROUBLE, _TELL = 3, 4, 5


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


def fork_supervisor() -> tuple[int, socket.socket]:
    """Make a supervisor with a child that waits to be told what to become.

    Returns:
        Its pid, and the channel: the launch goes in, lines about the program come out.

    Raises:
        OSError: No process could be made.
    """
    ours, theirs = socket.socketpair()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            _supervise(theirs.fileno())
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def _supervise(channel: int) -> None:
    """In the supervisor: report the program's end, stay while anything that it left still lives."""
    become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    _arrange(dict(enumerate((null, null, null, channel, *os.pipe()))))
    # Nothing of the daemon's is open any more; the memory watch must be able to look in here.
    set_dumpable(True)
    try:
        child = os.fork()
    except OSError:
        _report("nofork\n")
        return
    if child == 0:
        _await_launch()
    os.close(_TELL)
    message = os.read(_TROUBLE, 4096).decode(errors="replace").replace("\n", " ")
    os.close(_TROUBLE)
    _report(f"failed {message}\n" if message else f"pid {child}\n")
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
    # Nothing that the program started is left: who looks for it need not look elsewhere.
    _report(f"{news}done\n")


def _report(text: str) -> None:
    if text:
        with contextlib.suppress(OSError):
            os.write(_CHANNEL, text.encode(errors="replace"))


def _await_launch() -> None:
    """In the child: take the order, and become the program or say what hinders that."""
    trouble = _Trouble()
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    try:
        launch, fds = _receive()
        _execute(launch, fds, trouble)
    except EOFError:
        pass
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(trouble.fd, f"{trouble.what}: {text}".encode(errors="replace"))
    finally:
        os._exit(127)


class _Trouble:
    """Where to tell what hinders the program, and what is being tried."""

    fd, what = _TELL, "cannot start"


def _receive() -> tuple[dict[str, Any], list[int]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(_CHANNEL)) as channel:
        data, fds, _, _ = socket.recv_fds(channel, 65536, MOST_FDS)
        while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
            more = channel.recv(65536)
            if not more:
                raise EOFError
            data += more
    return json.loads(data[4:]), fds


def _execute(launch: dict[str, Any], fds: list[int], trouble: _Trouble) -> None:
    os.setsid()
    _arrange(dict(enumerate((*fds, _TELL))))
    # Closed when the program begins: that is how the supervisor learns of it.
    os.set_inheritable(len(fds), False)
    trouble.fd, trouble.what = len(fds), f"cannot start {launch['argv'][0]}"
    if launch["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    limits = GuestLimits(**launch["limits"])
    apply_user_limits(limits)
    apply_limits(limits)
    if launch["user"] is not None:
        uid, gid, groups = launch["user"]
        become(uid, gid, tuple(groups), allow_root=launch["allow_root"])
    _enter(launch["cwd"])
    os.execvpe(launch["argv"][0], launch["argv"], launch["env"])  # noqa: S606 - the program is what we are asked to run


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise ValueError(f"{directory}: {error.strerror}") from None
