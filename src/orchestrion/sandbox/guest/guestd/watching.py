"""What happens in a directory, told by inotify(7)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .connect import RpcError
from .paths import DIRECTORY, open_path

_libc = ctypes.CDLL(None, use_errno=True)
_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _IS_DIR = 0x4000, 0x8000, 0x40000000
_ONLY_DIR, _DONT_FOLLOW, _EXCLUDE_UNLINKED = 0x01000000, 0x02000000, 0x04000000
_MASK = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLY_DIR | _EXCLUDE_UNLINKED
_KINDS = (
    (_CREATE, "EVENT_TYPE_CREATE"),
    (_MOVED_TO, "EVENT_TYPE_CREATE"),
    (_MOVED_FROM, "EVENT_TYPE_RENAME"),
    (_ATTRIB, "EVENT_TYPE_CHMOD"),
    (_MODIFY, "EVENT_TYPE_WRITE"),
    (_DELETE, "EVENT_TYPE_REMOVE"),
)
_READ = 256 * 1024
# What one watch may cover: the kernel's memory for watches is for all users of the machine.
_MAX_DIRECTORIES = 20_000
# One answer's worth; the rest stays in the kernel's queue.
_MAX_CHANGES = 20_000
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse", "fuseblk", "ceph", "9p", "afs")


class WatchLost(Exception):
    """More happened than the kernel kept; what came before is told, some after it is lost."""


@dataclass(frozen=True)
class Change:
    """Something that happened; `name` is the path relative to the watched directory."""

    name: str
    kind: str


@dataclass(frozen=True)
class _Event:
    watch: int
    mask: int
    name: str


class Watch:
    """Watches one directory.

    Args:
        path: Absolute.
        recursive: Also all directories below it, those that come later included.

    Attributes:
        lost: Something happened that can't be told; `drain` says so next.

    Raises:
        RpcError: It is no directory, or there are too many to watch.
        OSError: It can't be watched.
    """

    def __init__(self, path: str, recursive: bool) -> None:
        self.path = path
        self._recursive = recursive
        self._names: dict[int, str] = {}
        # What was found in a new directory and told; the kernel may tell it too.
        self._told: set[str] = set()
        self.lost = False
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _failure("There are too many watchers in this sandbox.")
        try:
            self._add("")
            if recursive:
                self._add_below("")
            if self.lost:
                raise RpcError("resource_exhausted", f"There are more directories in {path} than can be watched.")
        except NotADirectoryError:
            self.close()
            raise RpcError("invalid_argument", f"path {path} is not a directory") from None
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether it was stopped."""
        return self._fd < 0

    def close(self) -> None:
        """Stop."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def wait(self, seconds: float) -> bool:
        """Wait until something happened; False if nothing did for so long."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._fd)
        return True

    def drain(self) -> list[Change]:
        """Return what happened since the last time.

        Raises:
            WatchLost: More happened than could be kept; said once, and watching goes on.
        """
        if self.lost:
            self.lost = False
            raise WatchLost(f"Too much happened in {self.path} at once, some of it is lost: list it again.")
        found: list[Change] = []
        while len(found) < _MAX_CHANGES and (data := self._queued()):
            for event in _events(data):
                found += self._changes(event)
        if len(found) < _MAX_CHANGES:
            self._told.clear()
        return found

    def _queued(self) -> bytes:
        try:
            return os.read(self._fd, _READ)
        except BlockingIOError:
            return b""

    def _changes(self, event: _Event) -> list[Change]:
        if event.mask & _OVERFLOW:
            self.lost = True
            # Directories that came meanwhile are watched from here on.
            if self._recursive:
                self._add_below("")
            return []
        if event.mask & _IGNORED:
            self._names.pop(event.watch, None)
            return []
        above = self._names.get(event.watch)
        if above is None or not event.name:
            return []
        name = os.path.join(above, event.name)
        if self._is_told(name, event.mask):
            return []
        found = [Change(name, kind) for bit, kind in _KINDS if event.mask & bit]
        if self._recursive and event.mask & _IS_DIR:
            found += self._follow(name, event.mask)
        return found

    def _is_told(self, name: str, mask: int) -> bool:
        """Say whether a creation was told already, when its directory was found."""
        if mask & (_CREATE | _DELETE | _MOVED_FROM) and name in self._told:
            self._told.discard(name)
            return bool(mask & _CREATE)
        return False

    def _follow(self, name: str, mask: int) -> list[Change]:
        """Watch a directory that came; forget one that went elsewhere. Return what a new one holds already."""
        if mask & _MOVED_FROM:
            self._forget(name)
        if not mask & (_CREATE | _MOVED_TO) or not self._add(name):
            return []
        found = self._add_below(name)
        if mask & _MOVED_TO:
            return []
        self._told.update(path for path, _ in found)
        return [change for path, is_file in found for change in _arrival(path, is_file)]

    def _forget(self, name: str) -> None:
        for watch, path in list(self._names.items()):
            if path == name or path.startswith(name + "/"):
                _libc.inotify_rm_watch(self._fd, watch)
                del self._names[watch]

    def _add(self, name: str) -> bool:
        """Watch the directory `name`; False if it is gone or must not be read."""
        if len(self._names) >= _MAX_DIRECTORIES:
            self.lost = True
            return False
        flags = _MASK | (_DONT_FOLLOW if name else 0)
        path = os.path.join(self.path, name) if name else self.path
        watch: int = _libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(flags))
        if watch >= 0:
            self._names[watch] = name
            return True
        if not name:
            raise _failure("There are more directories than can be watched in this sandbox.")
        # Without a watch for each directory the caller must not think that it is told everything.
        self.lost = self.lost or ctypes.get_errno() == errno.ENOSPC
        return False

    def _add_below(self, name: str) -> list[tuple[str, bool]]:
        """Watch all directories below `name`; return what is there, and whether it is a regular file."""
        found: list[tuple[str, bool]] = []
        waiting = [name]
        while waiting:
            for below, mode in self._scan(waiting.pop()):
                found.append((below, stat.S_ISREG(mode)))
                if stat.S_ISDIR(mode) and self._add(below):
                    waiting.append(below)
        return found

    def _scan(self, name: str) -> list[tuple[str, int]]:
        with contextlib.suppress(OSError):
            fd = open_path(os.path.join(self.path, name), DIRECTORY | (os.O_NOFOLLOW if name else 0))
            try:
                with os.scandir(fd) as entries:
                    return [(os.path.join(name, entry.name), _kind(entry)) for entry in entries]
            finally:
                os.close(fd)
        return []


def _kind(entry: os.DirEntry[str]) -> int:
    """Say what it is by what the directory knows, without looking at it."""
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def _arrival(name: str, is_file: bool) -> list[Change]:
    """Return what would have been told of a file that was there before its directory could be watched."""
    made = Change(name, "EVENT_TYPE_CREATE")
    return [made, Change(name, "EVENT_TYPE_WRITE")] if is_file else [made]


def _events(data: bytes) -> Iterator[_Event]:
    place = 0
    while place < len(data):
        watch, mask, _cookie, length = struct.unpack_from("iIII", data, place)
        name = data[place + 16 : place + 16 + length].rstrip(b"\0")
        yield _Event(watch, mask, os.fsdecode(name))
        place += 16 + length


def _failure(message: str) -> Exception:
    code = ctypes.get_errno()
    if code in (errno.ENOSPC, errno.EMFILE, errno.ENFILE):
        return RpcError("resource_exhausted", message)
    return OSError(code, os.strerror(code))


def on_network(path: str) -> bool:
    """Say whether a path is on a file system that other machines change unseen. Raises `OSError`."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            fields, _, types = line.partition(" - ")
            kind = types.split(" ", 1)[0]
            if fields.split(" ")[2] == wanted and (kind in _NETWORK or kind.startswith("fuse.")):
                return True
    return False
