"""Starting a sandbox, and ending it. Everything here blocks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.local import freezing, ownership
from orchestrion.sandbox.local.cgroups import Group, Hierarchies
from orchestrion.sandbox.local.cradle import Cradle
from orchestrion.sandbox.local.ground import Ground
from orchestrion.sandbox.local.places import Place
from orchestrion.sandbox.local.plan import purpose_plan
from orchestrion.sandbox.local.records import Record, Records, kill

_BACKLOG, _READY = 128, 20


def boot(record: Record, cradle: Cradle, records: Records, ground: Ground) -> Record:
    """Start a half-born sandbox and record it as running.

    The record is written before the sandbox may go on: should we be killed at any point, it is known or it ends.

    Raises:
        SandboxError: It could not be started; nothing of it runs.
    """
    running = replace(record, lifecycle=record.lifecycle + 1).born(cradle.newborn.pid)
    try:
        with _listening(cradle.place) as listener, open(cradle.place.log, "ab") as log:
            cradle.group.limit(record.spec.limits)
            give_workspace(record)
            records.write(running)
            plan = purpose_plan(record, ground.system, cradle.boot_id)
            cradle.newborn.start(plan, listener.fileno(), log.fileno())
        _require_answer(cradle.place)
        return running
    except (OSError, SandboxError) as error:
        kill(running, lambda: None)
        with contextlib.suppress(OSError):
            cradle.group.remove()
        if isinstance(error, SandboxError):
            raise
        raise SandboxError(f"The sandbox could not be made: {error}.") from error
    finally:
        cradle.close()


def _require_answer(place: Place) -> None:
    """Wait until the daemon answers, over a connection of our own: that is quicker than the client's first one."""
    answer = b""
    directory = os.open(place.socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_READY)
            connection.connect(f"/proc/self/fd/{directory}/{place.socket.name}")
            connection.send(b"GET /health HTTP/1.1\r\nHost: localhost:49983\r\nConnection: close\r\n\r\n")
            answer = connection.recv(64)
    finally:
        os.close(directory)
    if not answer.startswith(b"HTTP/1.1 204"):
        raise SandboxError(f"The sandbox ended at its start: {place.last_words() or 'it did not answer'}.")


@contextlib.contextmanager
def _listening(place: Place) -> Iterator[socket.socket]:
    """Listen on the sandbox's socket. The guest inherits it; its path stays outside of the sandbox."""
    directory = os.open(place.socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # A short path to it: a unix socket's may have only 107 bytes.
            listener.bind(f"/proc/self/fd/{directory}/{place.socket.name}")
            listener.listen(_BACKLOG)
            yield listener
    finally:
        os.close(directory)


def give_workspace(record: Record) -> None:
    """Give files that were put into the workspace to the sandbox's user, if that is not ourselves.

    Raises:
        SandboxError: The workspace is gone.
    """
    workspace = record.spec.workspace
    if workspace is None or record.base is None:
        return
    if not Path(workspace).is_dir():
        raise SandboxError(f"The sandbox's workspace is not there: {workspace}.")
    ownership.give_tree(workspace, record.base + ownership.USER)


def end(record: Record, hierarchies: Hierarchies) -> bool:
    """Kill a sandbox, running or frozen, and remove its control group; its files stay. Say whether it's gone."""
    group = Group(hierarchies, record.id)
    if not kill(record, lambda: freezing.thaw(record.pid, group)):
        return False
    return group.remove()
