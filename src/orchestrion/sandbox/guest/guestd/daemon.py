"""The daemon: process 1 of the sandbox.

The host reaches it over a listening unix socket that it inherits, so nothing inside the sandbox can reach, replace or
remove that socket. As process 1 it can't be killed from inside, and when it ends the kernel ends every other process
with it. Nor can code inside reach into its memory or descriptors, though it may be the same user's.

By itself, `python -m guestd --port 49983`, it serves this machine as it is: for trying, and for tests.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import os
import random
import signal
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import VERSION, execute
from .app import App, collect_routes
from .config import Config
from .disk import DiskWatch
from .forwarder import forward
from .launching import become_subreaper
from .limits import OFFERING, apply_limits
from .memory import enforce_memory
from .nursery import NURSERY
from .privileges import CAP_SYS_ADMIN, drop_capability
from .proctree import process_table
from .rights import WORKERS
from .seccomp import apply_filter, build_filter, set_dumpable
from .server import Server
from .supervisor import reap, rouse
from .workers import Workers

if TYPE_CHECKING:
    import argparse

_TICK = 0.3
_THREADS = 4
_SETTLE_SECONDS, _SETTLE_ROUNDS = 0.05, 20
_WORKSPACE = "/workspace"
# Outside a sandbox the kernel counts every process that its user has on the machine: more than there can be.
_ANY_NUMBER = 1 << 22


class Daemon:
    """Serves the host until nobody has asked for anything for a while.

    Args:
        config: What it was told.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._server = Server(App(config, collect_routes(config), _initialised), {"Orchestrion-Guest": VERSION})
        self._disk = DiskWatch(config.writable)
        self._workers = Workers(_THREADS, thread_name_prefix="worker")
        self._has_workspace = config.isolated and os.path.isdir(_WORKSPACE)

    async def serve(self, listener: socket.socket | None, host: str, ports: Sequence[int]) -> None:
        """Accept connections until idle, or until the session is deleted.

        Args:
            listener: A listening unix socket whose peers are trusted.
            host: The address to serve TCP ports on.
            ports: Those ports.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, reap)
        loop.set_default_executor(self._workers)
        for workers in (WORKERS, self._workers):
            workers.begin()
        if listener is not None:
            await self._server.listen_unix(listener)
        for port in ports:
            await self._server.listen_tcp(host, port)
        gateway = await self._forward()
        preparing = asyncio.ensure_future(self._prepare())
        await self._watch()
        self._server.close()
        preparing.cancel()
        await execute.close()
        NURSERY.close(loop)
        if gateway is not None:
            gateway.close()

    async def _prepare(self) -> None:
        """Make ready what saves time later, but not while somebody waits for the first answers."""
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(_SETTLE_SECONDS)
            if not self._server.active and time.monotonic() - self._server.last >= _SETTLE_SECONDS:
                break
        NURSERY.open(asyncio.get_running_loop())
        await execute.prepare()

    async def _forward(self) -> asyncio.Server | None:
        try:
            return await forward()
        except OSError as error:
            sys.stderr.write(f"guestd: no way to the gateway: {error}\n")
            return None

    async def _watch(self) -> None:
        while not self._idle():
            await asyncio.sleep(_TICK)
            table = process_table()
            rouse(table)
            enforce_memory(self._config.limits.memory_mb * 1024, table)
            await self._disk.enforce(self._config.limits)
            reap()

    def _idle(self) -> bool:
        if self._has_workspace and not os.stat(_WORKSPACE).st_nlink:
            return True
        seconds = self._config.idle_seconds
        return bool(seconds) and not self._server.active and time.monotonic() - self._server.last >= seconds


def _initialised(values: dict[str, Any]) -> None:
    """Take fresh entropy: two machines started from one image must not draw the same random numbers."""
    with contextlib.suppress(OSError, ValueError, TypeError), open("/dev/urandom", "wb") as pool:
        pool.write(base64.b64decode(values.get("entropy", "")))
    random.seed()


async def rehearse() -> None:
    """Answer one request of our own, ahead: what the daemon does at its start is quicker the second time.

    The pages that it writes to are this process's own from then on, no longer shared with the one it was forked from.
    """
    build_filter(os.uname().machine)
    loop, daemon = asyncio.get_running_loop(), Daemon(Config())
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind("")  # some free name that is no file's
        listener.listen()
        loop.add_signal_handler(signal.SIGCHLD, reap)
        await daemon._server.listen_unix(listener)
        caller.connect(listener.getsockname())
        caller.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        caller.setblocking(False)
        while await loop.sock_recv(caller, 4096):
            pass
        daemon._server.close()


def run(config: Config, listener: socket.socket | None, host: str = "127.0.0.1", ports: Sequence[int] = ()) -> None:
    """Serve until idle. In a sandbox of its own the process first gives up what the daemon doesn't need.

    Args:
        config: What the provider says.
        listener: A listening unix socket whose peers are trusted.
        host: The address to serve TCP ports on.
        ports: Those ports.

    Raises:
        OSError: The kernel refused the filter of system calls, or a port is taken.
    """
    os.umask(0o022)
    if config.isolated:
        apply_limits(config.limits)
        apply_filter(no_new_privs=not config.allow_root)
        drop_capability(CAP_SYS_ADMIN)
    become_subreaper()
    # Nothing runs yet that could look.
    set_dumpable(True)
    OFFERING.prepare()
    set_dumpable(False)
    # Forked children write to none of the pages that hold what is there now.
    gc.freeze()
    asyncio.run(Daemon(config).serve(listener, host, ports))


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    # In a sandbox nobody gives any: the daemon is forked from a process that has imported this module already.
    import argparse

    parser = argparse.ArgumentParser("guestd", description="E2B's envd and code interpreter, for one sandbox.")
    parser.add_argument("--listener", type=int, help="a listening unix socket's descriptor; its peers are trusted")
    parser.add_argument("--config-fd", type=int, help="a descriptor to read the configuration from, JSON")
    parser.add_argument("--host", default="127.0.0.1", help="the address to serve on")
    parser.add_argument("--port", type=int, help="a TCP port to serve envd on (49983 is usual)")
    parser.add_argument("--code-port", type=int, help="a TCP port to serve the code interpreter on (49999 is usual)")
    parser.add_argument("--token", help="what X-Access-Token must be")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Run the daemon as the command line says."""
    arguments = _arguments(sys.argv[1:] if given is None else given)
    config = Config()
    if arguments.config_fd is not None:
        with open(arguments.config_fd, "rb") as file:
            config.update(json.load(file))
    else:
        config.allow_root = True
    if not config.isolated:
        config.limits = replace(config.limits, processes=_ANY_NUMBER)
    if arguments.token:
        config.token = arguments.token
    listener = None
    if arguments.listener is not None:
        listener = socket.socket(fileno=arguments.listener)
        listener.set_inheritable(False)
    # Forking with threads is what a supervisor is made for: it runs nothing of theirs.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    ports = [port for port in (arguments.port, arguments.code_port) if port is not None]
    with contextlib.suppress(KeyboardInterrupt):
        run(config, listener, arguments.host, ports)
    sys.stdout.flush()
    os._exit(0)
