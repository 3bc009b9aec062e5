"""Starting a sandbox's processes, detached from ours."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrion.core.errors import SandboxError

SOCKET = "guest.sock"
_START = 10
_BACKLOG = 64


@contextlib.contextmanager
def socket_path(run: Path) -> Iterator[str]:
    """Give a short path to the socket in `run`: a unix socket's path may have only 107 bytes."""
    fd = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


def listen(run: Path) -> socket.socket:
    """Return a listening socket in `run`. The guest inherits it; its path stays outside of the sandbox."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket_path(run) as path:
        listener.bind(path)
    listener.listen(_BACKLOG)
    return listener


def spawn(argv: Sequence[str], info: tuple[int, int], pass_fds: Sequence[int], log: Path) -> int:
    """Start bwrap detached; return the pid of the sandbox's process 1 as we see it.

    `setsid --fork` makes it a child of init, so that it outlives us and leaves no zombie to us.

    Args:
        argv: bwrap's command line, which reports to `info[1]`.
        info: A pipe's two ends; closed here.
        pass_fds: Descriptors that the sandbox inherits.
        log: Takes what bwrap and the guest have to say if they fail.

    Raises:
        SandboxError: It did not start; `log` says why.
    """
    read, write = info
    try:
        with open(log, "wb") as output:
            command = ["setsid", "--fork", *argv]
            subprocess.run(  # noqa: S603 - our own argv, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(write, *pass_fds),
                check=True,
            )
        os.close(write)
        write = -1
        return _child_pid(read)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise SandboxError(f"bubblewrap did not start: {_last_line(log) or error}.") from None
    finally:
        for fd in (read, write):
            if fd >= 0:
                os.close(fd)


def _child_pid(read: int) -> int:
    """Read bwrap's report, a JSON object, up to the end of the pipe."""
    text = b""
    while select.select([read], [], [], _START)[0]:
        part = os.read(read, 4096)
        text += part
        if not part or text.rstrip().endswith(b"}"):
            return int(json.loads(text)["child-pid"])
    raise ValueError("no answer")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:500].rstrip(".") if lines else ""


def reason(log: Path) -> str:
    """Return why a sandbox ended at its start, in its own words."""
    try:
        return _last_line(log)
    except OSError:
        return ""
