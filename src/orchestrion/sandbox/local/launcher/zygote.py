"""The zygote: a warm Python with the guest daemon loaded, which forks sandboxes on demand.

It holds nothing that a sandbox mustn't see: a clean environment, no secrets, no threads. It ends with the host
process that started it; sandboxes live on, as children of init.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket

from . import birth

_REQUEST = 64


def main(control: int, modules: list[str]) -> None:
    """Serve the host process until it closes the socket `control`.

    Each request is a mode, `root` or `user`. The answer is a descriptor: the channel to a half-born sandbox, on which
    its pid or its failure comes first.

    Args:
        control: The descriptor of a sequenced-packet socket.
        modules: What to load ahead.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # the script came over standard input
    os.close(null)
    for name in modules:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.socket(fileno=control)
    gc.collect()
    gc.freeze()
    host.send(b"ready")
    while request := host.recv(_REQUEST):
        _fork_one(host, request.decode())


def _fork_one(host: socket.socket, mode: str) -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ours:
        for end in (theirs, ours):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * birth.MESSAGE)
        if os.fork() == 0:
            host.close()
            theirs.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            birth.fork_sandbox(ours, mode)
        socket.send_fds(host, [b"child"], [theirs.fileno()])
