"""The service `filesystem.Filesystem`: what is done to files by name, and watching directories."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from . import connect, tree
from .config import Config
from .connect import Message, RpcError, ping_seconds
from .entries import Describer
from .http import Request, Routes
from .problems import as_rpc, printable
from .rights import FileWorker
from .users import User, resolve, rpc_user
from .watching import Change, Watch, WatchLost, on_network

_T = TypeVar("_T")
# The kernel gives each user 128 inotify instances by default; programs inside need some too.
_MAX_WATCHERS = 64
_WITH_ENTRY = ("EVENT_TYPE_CREATE", "EVENT_TYPE_WRITE", "EVENT_TYPE_CHMOD")


class Filesystem:
    """Answers the service's calls.

    Args:
        config: The daemon's.
        worker: Where the work is done.
    """

    def __init__(self, config: Config, worker: FileWorker) -> None:
        self._config, self._worker = config, worker
        self._watchers: dict[str, _Watcher] = {}

    async def stat(self, message: Message, request: Request) -> Message:
        """Describe a file or directory."""
        user, path = self._asked(message, request)
        return {"entry": await self._do(user, path, tree.describe, path)}

    async def make_dir(self, message: Message, request: Request) -> Message:
        """Make a directory."""
        user, path = self._asked(message, request)
        return {"entry": await self._do(user, path, tree.make_directory, path, user)}

    async def move(self, message: Message, request: Request) -> Message:
        """Rename."""
        user, source = self._asked(message, request, "source")
        _, destination = self._asked(message, request, "destination")
        return {"entry": await self._do(user, source, tree.move, source, destination, user)}

    async def list_dir(self, message: Message, request: Request) -> Message:
        """Describe what is in a directory."""
        user, path = self._asked(message, request)
        depth = message.get("depth") or 1
        if not isinstance(depth, int) or depth < 1:
            raise RpcError("invalid_argument", "depth should be at least 1")
        return {"entries": await self._do(user, path, tree.list_directory, path, depth)}

    async def remove(self, message: Message, request: Request) -> Message:
        """Remove a file or a directory with all in it."""
        user, path = self._asked(message, request)
        await self._do(user, path, tree.remove, path)
        return {}

    async def watch_dir(self, message: Message, request: Request) -> AsyncGenerator[Message | bytes, None]:
        """Tell what happens in a directory until the caller goes away."""
        watcher = await self._watcher(message, request)
        try:
            yield {"start": {}}
            while True:
                if not watcher.watch.lost and not await watcher.watch.wait(ping_seconds(request)):
                    yield {"keepalive": {}}
                    continue
                for event in await self._events(watcher):
                    yield {"filesystem": event}
        finally:
            watcher.watch.close()

    async def create_watcher(self, message: Message, request: Request) -> Message:
        """Watch a directory for a caller who asks from time to time."""
        if len(self._watchers) >= _MAX_WATCHERS:
            raise RpcError("resource_exhausted", f"There are {_MAX_WATCHERS} watchers already; remove one.")
        watcher = await self._watcher(message, request)
        name = "w" + secrets.token_hex(10)
        self._watchers[name] = watcher
        return {"watcherId": name}

    async def get_watcher_events(self, message: Message, _request: Request) -> Message:
        """Tell what happened since the last time."""
        return {"events": await self._events(self._named(message))}

    async def remove_watcher(self, message: Message, _request: Request) -> Message:
        """Stop watching."""
        watcher = self._named(message)
        del self._watchers[message["watcherId"]]
        async with watcher.turn:
            watcher.watch.close()
        return {}

    def _asked(self, message: Message, request: Request, field: str = "path") -> tuple[User, str]:
        """Return who asks, and for which absolute path."""
        user = rpc_user(request, self._config)
        path = message.get(field, "")
        if not isinstance(path, str):
            raise RpcError("invalid_argument", f"{field} must be a text")
        return user, resolve(path, user)

    async def _do(self, user: User, path: str, work: Callable[..., _T], *args: object) -> _T:
        try:
            return await self._worker.run_as(user, work, *args)
        except OSError as error:
            raise as_rpc(error, printable(path)) from None
        except UnicodeEncodeError:
            raise RpcError("invalid_argument", "The path is no valid text.") from None

    async def _watcher(self, message: Message, request: Request) -> _Watcher:
        user, path = self._asked(message, request)
        if not message.get("allowNetworkMounts") and await self._do(user, path, on_network, path):
            raise RpcError("invalid_argument", f"{path} is on a network mount; watching it needs allowNetworkMounts")
        watch = await self._do(user, path, Watch, path, bool(message.get("recursive")))
        return _Watcher(watch, user, bool(message.get("includeEntry")))

    def _named(self, message: Message) -> _Watcher:
        name = message.get("watcherId")
        if not isinstance(name, str) or name not in self._watchers:
            raise RpcError("not_found", f"watcher with id {name} not found")
        return self._watchers[name]

    async def _events(self, watcher: _Watcher) -> list[Message]:
        async with watcher.turn:
            if watcher.watch.closed:
                raise RpcError("not_found", "the watcher was removed")
            try:
                return await self._do(watcher.user, watcher.watch.path, watcher.events)
            except WatchLost as error:
                raise RpcError("data_loss", str(error)) from None


class _Watcher:
    """A watch and what its caller wants to know."""

    def __init__(self, watch: Watch, user: User, with_entry: bool) -> None:
        self.watch, self.user, self._with_entry = watch, user, with_entry
        self.turn = asyncio.Lock()

    def events(self) -> list[Message]:
        """Return what happened. Blocks."""
        describer = Describer()
        return [self._event(change, describer) for change in self.watch.drain()]

    def _event(self, change: Change, describer: Describer) -> Message:
        event: Message = {"name": printable(change.name), "type": change.kind}
        if self._with_entry and change.kind in _WITH_ENTRY:
            # It may be gone by now.
            with contextlib.suppress(OSError):
                event["entry"] = describer.describe(os.path.join(self.watch.path, change.name))
        return event


def routes(config: Config) -> Routes:
    """Return the service's routes."""
    service = Filesystem(config, FileWorker(config))
    return connect.routes(
        "filesystem.Filesystem",
        unary={
            "Stat": service.stat,
            "MakeDir": service.make_dir,
            "Move": service.move,
            "ListDir": service.list_dir,
            "Remove": service.remove,
            "CreateWatcher": service.create_watcher,
            "GetWatcherEvents": service.get_watcher_events,
            "RemoveWatcher": service.remove_watcher,
        },
        server={"WatchDir": service.watch_dir},
    )
