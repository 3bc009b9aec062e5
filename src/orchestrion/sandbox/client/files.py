"""The file system inside."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlencode

from orchestrion.core.errors import Conflict, SandboxError, TooLarge
from orchestrion.sandbox.client.guest import ANSWER_SECONDS, Guest, unknown, within
from orchestrion.sandbox.client.transport import Reply
from orchestrion.sandbox.client.wire import MESSAGE, Message, checked, text_of, time_of, whole_of
from orchestrion.sandbox.protocols import ENVD_PORT, Change, Entry

_SERVICE = "filesystem.Filesystem"
_PIECE = 1024 * 1024
# A transfer may take its time, but not trickle for ever.
_SLOWEST = 64 * 1024
_TYPES: dict[str, Literal["file", "directory"]] = {"FILE_TYPE_FILE": "file", "FILE_TYPE_DIRECTORY": "directory"}
_KINDS: dict[str, Literal["create", "write", "remove", "rename", "chmod"]] = {
    "EVENT_TYPE_CREATE": "create",
    "EVENT_TYPE_WRITE": "write",
    "EVENT_TYPE_REMOVE": "remove",
    "EVENT_TYPE_RENAME": "rename",
    "EVENT_TYPE_CHMOD": "chmod",
}


class GuestFiles:
    """Implements `Files`.

    Args:
        guest: The daemon.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    async def stat(self, path: str, *, user: str | None = None) -> Entry:
        """Describe one file or directory."""
        return _entry((await self._ask("Stat", {"path": path}, user)).get("entry"))

    async def list(self, path: str, *, depth: int = 1, user: str | None = None) -> list[Entry]:
        """Describe what is in a directory, `depth` levels deep."""
        found = (await self._ask("ListDir", {"path": path, "depth": depth}, user)).get("entries", [])
        if not isinstance(found, list):
            raise unknown("a directory that is no list")
        return [_entry(one) for one in found]

    async def read(self, path: str, *, user: str | None = None) -> AsyncIterator[bytes]:
        """Yield a file's bytes in pieces."""
        async with contextlib.aclosing(await self._download(path, user)) as reply:
            async for piece in _paced(reply):
                yield piece

    async def read_bytes(self, path: str, *, limit: int = MESSAGE, user: str | None = None) -> bytes:
        """Return a file's bytes; raises `TooLarge` beyond `limit`."""
        data = io.BytesIO()  # whose value is not copied once more, unlike joined pieces
        async with contextlib.aclosing(await self._download(path, user)) as reply:
            async for piece in _paced(reply):
                if data.tell() + len(piece) > limit:
                    raise TooLarge(f"{path} is larger than {limit} bytes.", "Read it in pieces.")
                data.write(piece)
        return data.getvalue()

    async def write(self, path: str, data: bytes | AsyncIterator[bytes], *, user: str | None = None) -> None:
        """Write a file; directories above it are made."""
        headers = {"Content-Type": "application/octet-stream"}
        async with within(ANSWER_SECONDS) as scope:
            body: bytes | AsyncIterator[bytes] = data
            if not isinstance(data, bytes):
                body = _lasting(data, scope)
            elif len(data) > _PIECE:
                headers["Content-Length"] = str(len(data))
                body = _lasting(_slices(data), scope)
            reply = await self._guest.send(ENVD_PORT, "POST", _target(path, user), headers, body)
            async with contextlib.aclosing(reply):
                await reply.read(MESSAGE)

    async def make_dir(self, path: str, *, user: str | None = None) -> bool:
        """Make a directory and those above it; False if it is there already."""
        try:
            await self._ask("MakeDir", {"path": path}, user)
        except Conflict:
            return False
        return True

    async def move(self, source: str, destination: str, *, user: str | None = None) -> Entry:
        """Rename."""
        reply = await self._ask("Move", {"source": source, "destination": destination}, user)
        return _entry(reply.get("entry"))

    async def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove a file, or a directory and all in it."""
        await self._ask("Remove", {"path": path}, user)

    async def watch(self, path: str, *, recursive: bool = False, user: str | None = None) -> AsyncIterator[Change]:
        """Yield what happens in a directory until closed."""
        messages = await self._guest.open(f"{_SERVICE}/WatchDir", {"path": path, "recursive": recursive}, user=user)
        async with contextlib.aclosing(messages):
            while (message := await messages.next()) is not None:
                if "filesystem" in message:
                    yield _change(checked(message["filesystem"]))
        raise SandboxError("The sandbox stopped telling of a directory.")

    async def _ask(self, method: str, message: Message, user: str | None) -> Message:
        return await self._guest.call(f"{_SERVICE}/{method}", message, user=user)

    async def _download(self, path: str, user: str | None) -> Reply:
        headers = {"Accept-Encoding": "identity"}
        async with within(ANSWER_SECONDS):
            return await self._guest.send(ENVD_PORT, "GET", _target(path, user), headers)


def _target(path: str, user: str | None) -> str:
    query = {"path": path} if user is None else {"path": path, "username": user}
    return f"/files?{urlencode(query, errors='surrogateescape')}"


async def _paced(reply: Reply) -> AsyncIterator[bytes]:
    """Yield a body; the time that it may take grows with what has come, and the reader's own doesn't count."""
    loop = asyncio.get_running_loop()
    pieces = reply.pieces()
    left = float(ANSWER_SECONDS)
    while True:
        begin = loop.time()
        async with within(left):
            piece = await anext(pieces, None)
        if piece is None:
            return
        left = min(left - (loop.time() - begin) + len(piece) / _SLOWEST, ANSWER_SECONDS)
        yield piece


async def _lasting(pieces: AsyncIterator[bytes], scope: asyncio.Timeout) -> AsyncIterator[bytes]:
    """Yield what is to be sent: each piece has its own time to be taken, and as long as it needs to be made."""
    while True:
        scope.reschedule(None)
        piece = await anext(pieces, None)
        scope.reschedule(asyncio.get_running_loop().time() + ANSWER_SECONDS)
        if piece is None:
            return
        if piece:
            yield piece


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for at in range(0, len(data), _PIECE):
        yield bytes(view[at : at + _PIECE])


def _entry(value: object) -> Entry:
    entry = checked(value)
    labels = checked(entry.get("metadata") or {})
    return Entry(
        name=text_of(entry, "name"),
        path=text_of(entry, "path"),
        type=_TYPES.get(str(entry.get("type")), "other"),
        size=whole_of(entry, "size", 0),
        mode=whole_of(entry, "mode", 0),
        permissions=text_of(entry, "permissions", ""),
        owner=text_of(entry, "owner", ""),
        group=text_of(entry, "group", ""),
        modified_at=time_of(entry, "modifiedTime"),
        symlink_target=text_of(entry, "symlinkTarget", "") or None,
        metadata={key: text_of(labels, key) for key in labels},
    )


def _change(event: Message) -> Change:
    kind = _KINDS.get(str(event.get("type")))
    if kind is None:
        raise unknown("a change of an unknown kind")
    return Change(text_of(event, "name"), kind)
