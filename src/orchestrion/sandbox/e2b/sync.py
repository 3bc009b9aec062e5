"""A workspace that a provider can't mount: copied in before each call, and back out after it.

Files are compared by size and time with what both sides had when they last agreed. What changed on the host goes in,
what changed inside comes out; where both did, the host's stays and goes in with the next call. The host's side is
walked by `Workspace`, so no link that either side plants leads out of it; hidden files and links stay where they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TypeAlias

from orchestrion.core.errors import NotFound, OrchestrionError, SandboxGone, TooLarge
from orchestrion.sandbox.protocols import Files
from orchestrion.store.workspace import Workspace

Stamp: TypeAlias = tuple[int, int]
Listing: TypeAlias = dict[str, Stamp]

INSIDE = "/workspace"
FILE_BYTES = 64 * 1024 * 1024
TOTAL_BYTES = 1024 * 1024 * 1024
_FILES = 10_000
_DEPTH = 64
_TOGETHER = 4
_NAMED = 5


class WorkspaceSync:
    """Keeps a directory on the host and one inside alike.

    Args:
        root: The directory on the host.
        files: The file system inside.
        inside: The directory there.
    """

    def __init__(self, root: Path, files: Files, inside: str = INSIDE) -> None:
        self._host = Workspace(root)
        self._files = files
        self._inside = inside
        self._host_seen: Listing = {}
        self._guest_seen: Listing = {}

    async def begin(self) -> None:
        """Compare both sides when a sandbox is found again: files of one size are taken to be the same."""
        inside, host = await self._list(), await self._host.snapshot()
        same = [path for path, stamp in host.items() if path in inside and inside[path][0] == stamp[0]]
        self._host_seen = {path: host[path] for path in same}
        self._guest_seen = {path: inside[path] for path in same}

    async def push(self) -> None:
        """Bring in what changed on the host, and remove inside what was removed there.

        Raises:
            TooLarge: More changed than may be copied.
            SandboxGone: The sandbox died.
        """
        host = await self._host.snapshot()
        changed = [path for path, stamp in host.items() if self._host_seen.get(path) != stamp]
        removed = [path for path in self._host_seen if path not in host]
        _check_size({path: host[path] for path in changed})
        await _together(self._upload(path) for path in changed)
        await _together(self._files.remove(f"{self._inside}/{path}") for path in removed)
        self._host_seen = host
        if changed or removed:
            inside = await self._list()
            touched = {*changed, *removed}
            kept = {path: stamp for path, stamp in self._guest_seen.items() if path not in touched}
            self._guest_seen = {**kept, **{path: inside[path] for path in changed if path in inside}}

    async def pull(self) -> list[str]:
        """Bring out what changed inside, and remove on the host what was removed there.

        Returns:
            What was not copied, and why: a sentence for each.

        Raises:
            SandboxGone: The sandbox died.
        """
        inside, host = await self._list(), await self._host.snapshot()
        free = {path for path in {*host, *self._host_seen} if host.get(path) == self._host_seen.get(path)}
        changed = [
            path
            for path, stamp in inside.items()
            if self._guest_seen.get(path) != stamp and (path in free or path not in host)
        ]
        fitting, left = _fitting({path: inside[path] for path in changed})
        refused = await _together(self._download(path) for path in fitting)
        for path in [path for path in self._guest_seen if path not in inside and path in free]:
            with contextlib.suppress(OrchestrionError):
                await self._host.delete(path)
        after = await self._host.snapshot()
        ours = {*fitting, *free}
        self._host_seen = {
            path: stamp for path, stamp in after.items() if path in ours or self._host_seen.get(path) == stamp
        }
        self._guest_seen = inside
        return [*left, *(reason for reason in refused if reason)]

    async def _upload(self, path: str) -> None:
        with contextlib.suppress(NotFound):  # removed again since it was listed
            await self._files.write(f"{self._inside}/{path}", await self._host.read_bytes(path))

    async def _download(self, path: str) -> str:
        try:
            data = await self._files.read_bytes(f"{self._inside}/{path}", limit=FILE_BYTES)
            await self._host.write_bytes(path, data)
        except SandboxGone:
            raise
        except NotFound:
            return ""
        except OrchestrionError as error:
            return f"{path} was not copied out of the sandbox: {error.detail}"
        return ""

    async def _list(self) -> Listing:
        found: Listing = {}
        for entry in await self._files.list(self._inside, depth=_DEPTH):
            path = entry.path.removeprefix(f"{self._inside}/")
            if entry.type == "file" and entry.symlink_target is None and _is_plain(path):
                found[path] = (entry.size, int(entry.modified_at.timestamp() * 1_000_000))
        return found


def _is_plain(path: str) -> bool:
    """Say whether the host's listing would show such a path, too; what it would hide isn't copied."""
    parts = path.split("/")
    return all(part and not part.startswith(".") and part != "__pycache__" for part in parts)


def _check_size(changed: Listing) -> None:
    for path, (size, _) in changed.items():
        if size > FILE_BYTES:
            raise TooLarge(
                f"{path} is too large to be copied into a sandbox that does not mount the workspace.",
                f"Keep files below {FILE_BYTES // 2**20} MiB, or use SANDBOX_MODE=local.",
            )
    if sum(size for size, _ in changed.values()) > TOTAL_BYTES:
        raise TooLarge(
            "The workspace is too large to be copied into a sandbox that does not mount it.",
            f"Keep it below {TOTAL_BYTES // 2**20} MiB, or use SANDBOX_MODE=local.",
        )


def _fitting(changed: Listing) -> tuple[list[str], list[str]]:
    """Return what may be copied out, and a sentence for what may not."""
    fitting: list[str] = []
    left: list[str] = []
    total = 0
    for path in sorted(changed):
        size = changed[path][0]
        if size <= FILE_BYTES and total + size <= TOTAL_BYTES and len(fitting) < _FILES:
            fitting.append(path)
            total += size
        else:
            left.append(path)
    if not left:
        return fitting, []
    names = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
    return fitting, [f"Too large or too many to be copied out of the sandbox: {names}."]


async def _together(work: Iterable[Awaitable[str | None]]) -> list[str | None]:
    """Carry things out, a few at a time."""
    gate = asyncio.Semaphore(_TOGETHER)

    async def one(item: Awaitable[str | None]) -> str | None:
        async with gate:
            return await item

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in work]
    return [task.result() for task in tasks]
