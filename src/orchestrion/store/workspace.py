"""A session's files on disk, where code in a sandbox may have laid any trap.

Every path is walked one directory at a time from the workspace's root with `O_NOFOLLOW`, so a link that a sandbox
planted (`report.md -> /etc/shadow`, `charts -> /root`) is refused, also when it appears between a check and a use.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import shutil
import stat as stat_module
import subprocess
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrion.core.errors import InvalidInput, NotFound, StoreError, TooLarge, UnsafePath
from orchestrion.core.events import FileRef
from orchestrion.store.scanning import DIRECTORY, is_presentable, scan

UPLOADS = "uploads"
_NAME_BYTES = 200
_READ_BYTES = 64 * 2**20


def media_type(name: str) -> str:
    """Guess a media type from a file's name."""
    if name.endswith(".md"):
        return "text/markdown"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def split_path(path: str) -> tuple[str, ...]:
    """Return the parts of a path inside a workspace.

    Raises:
        UnsafePath: It is absolute, climbs with `..`, or has a NUL.
    """
    pure = PurePosixPath(path)
    parts = tuple(part for part in pure.parts if part != ".")
    if pure.is_absolute() or ".." in parts or "\0" in path:
        raise UnsafePath(f"The path {path!r} leaves the workspace.", "Use a path relative to the workspace.")
    return parts


def upload_name(name: str) -> str:
    """Return the safe file name for an upload: its last part, in NFC.

    Raises:
        InvalidInput: Nothing usable is left, it has control characters, or it is too long.
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1].strip()
    if last in {"", ".", ".."}:
        raise InvalidInput(f"{name[:80]!r} is not a usable file name.", "Rename the file.")
    if not is_presentable(last):
        raise InvalidInput("The file name has control characters in it.", "Rename the file.")
    if len(last.encode()) > _NAME_BYTES:
        raise InvalidInput(f"The file name is longer than {_NAME_BYTES} bytes.", "Rename the file.")
    return last


def _translate(error: OSError, path: str) -> Exception:
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
        return UnsafePath(f"{path} passes through a link or a file.", "Name the file itself.")
    if error.errno in {errno.ENOENT, errno.EISDIR}:
        return NotFound(f"There is no file {path} in this session.", "The session's file list shows what there is.")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreError("The disk is full.", "Free some space and try again.")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidInput("A part of the path is too long.", "Use shorter names.")
    return StoreError(f"{path} can't be used: {error.strerror}.")


class Workspace:
    """The files of one session.

    Args:
        root: The directory on the host; made on first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def _parent(self, path: str, *, create: bool) -> Iterator[tuple[int, str]]:
        """Open the directory that holds `path` and yield it with the last part of the name."""
        parts = split_path(path)
        if not parts:
            raise UnsafePath("That is the workspace itself, not a file in it.", "Name a file in it.")
        if create:
            self.root.mkdir(parents=True, exist_ok=True)
        try:
            directory = os.open(self.root, DIRECTORY)
        except OSError as error:
            raise _translate(error, path) from None
        try:
            for part in parts[:-1]:
                if create:
                    self._make_directory(directory, part)
                inner = os.open(part, DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inner
            yield directory, parts[-1]
        except OSError as error:
            raise _translate(error, path) from None
        finally:
            os.close(directory)

    @staticmethod
    def _make_directory(directory: int, name: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=directory)
            owner = os.fstat(directory)
            _give_to(owner.st_uid, owner.st_gid, name, directory)

    def open_read(self, path: str) -> BinaryIO:
        """Open a regular file for reading, following no link.

        Raises:
            NotFound: There is none.
            UnsafePath: The path leaves the workspace or passes through a link.
        """
        with self._parent(path, create=False) as (directory, name):
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            if not stat_module.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise NotFound(f"{path} is not a file.", "The session's file list shows what there is.")
            return os.fdopen(handle, "rb")

    def stat(self, path: str) -> FileRef:
        """Return the size and type of a file.

        Raises:
            NotFound: There is none.
            UnsafePath: The path leaves the workspace or passes through a link.
        """
        with self.open_read(path) as file:
            return FileRef(
                path="/".join(split_path(path)),
                size=os.fstat(file.fileno()).st_size,
                media_type=media_type(path),
            )

    def _open_new(self, directory: int, name: str) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(name, flags, 0o644, dir_fd=directory)
        owner = os.fstat(directory)
        if os.geteuid() == 0 and owner.st_uid:
            os.fchown(handle, owner.st_uid, owner.st_gid)
        return os.fdopen(handle, "wb")

    def _write(self, path: str, data: bytes) -> None:
        with self._parent(path, create=True) as (directory, name):
            part = f".{name[:40]}.{os.getpid()}.{id(data):x}.part"
            try:
                with self._open_new(directory, part) as file:
                    file.write(data)
                os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part, dir_fd=directory)
                raise

    async def write_bytes(self, path: str, data: bytes) -> FileRef:
        """Write a whole file; readers see the old or the new one, never a part.

        Raises:
            UnsafePath: The path leaves the workspace or passes through a link.
            StoreError: The disk is full or the file can't be written.
        """
        await asyncio.to_thread(self._write, path, data)
        return FileRef(path="/".join(split_path(path)), size=len(data), media_type=media_type(path))

    async def write_text(self, path: str, text: str) -> FileRef:
        """Write a whole text file in UTF-8. Raises as `write_bytes`."""
        return await self.write_bytes(path, text.encode("utf-8", "replace"))

    async def read_bytes(self, path: str, *, limit: int | None = None) -> bytes:
        """Read a file, at most `limit` bytes of it; without a limit all of it, if that is not absurdly much.

        Raises:
            NotFound: There is none.
            UnsafePath: The path leaves the workspace or passes through a link.
            TooLarge: It is larger than anything that is read whole.
        """

        def read() -> bytes:
            with self.open_read(path) as file:
                return file.read(_READ_BYTES + 1 if limit is None else limit)

        data = await asyncio.to_thread(read)
        if limit is None and len(data) > _READ_BYTES:
            raise TooLarge(f"{path} is larger than {_READ_BYTES // 2**20} MiB.", "Read it in pieces.")
        return data

    async def read_text(self, path: str, *, limit: int | None = None) -> str:
        """Read a text file, at most `limit` bytes of it; what is not UTF-8 becomes �. Raises as `read_bytes`."""
        return (await self.read_bytes(path, limit=limit)).decode("utf-8", "replace")

    async def exists(self, path: str) -> bool:
        """Say whether there is such a regular file."""
        try:
            await asyncio.to_thread(self.stat, path)
        except (NotFound, UnsafePath):
            return False
        return True

    async def list(self, under: str = "") -> list[FileRef]:
        """List the regular files, sorted by path, as `scan` finds them.

        Args:
            under: A folder to begin at.

        Raises:
            UnsafePath: The path leaves the workspace.
        """
        found = await asyncio.to_thread(scan, self.root, split_path(under))
        return [FileRef(path=file.path, size=file.size, media_type=media_type(file.path)) for file in found]

    async def snapshot(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change (ns) of every file, by path, to see later what has changed."""
        return {file.path: (file.size, file.changed_ns) for file in await asyncio.to_thread(scan, self.root)}

    async def delete(self, path: str) -> None:
        """Remove a file.

        Raises:
            NotFound: There is none.
            UnsafePath: The path leaves the workspace or passes through a link.
        """

        def remove() -> None:
            with self._parent(path, create=False) as (directory, name):
                os.unlink(name, dir_fd=directory)

        await asyncio.to_thread(remove)

    async def destroy(self) -> None:
        """Remove the whole workspace."""
        await asyncio.to_thread(_remove_tree, self.root)

    async def store_upload(self, name: str, chunks: AsyncIterator[bytes], *, limit: int) -> FileRef:
        """Stream an upload to `uploads/`, under a name of its own: nothing is overwritten.

        Args:
            name: As the client gave it.
            chunks: The content.
            limit: Bytes it may have.

        Raises:
            InvalidInput: The name is not usable.
            TooLarge: It has more than `limit` bytes; nothing is kept.
            StoreError: The disk is full.
        """
        safe = upload_name(name)
        with self._parent(f"{UPLOADS}/{safe}", create=True) as (directory, _):
            part = f".upload.{os.urandom(8).hex()}.part"
            try:
                with self._open_new(directory, part) as file:
                    size = await _copy(chunks, file, limit, safe)
                final = _link_unique(directory, part, safe)
            finally:
                with suppress(OSError):
                    os.unlink(part, dir_fd=directory)
        return FileRef(path=f"{UPLOADS}/{final}", size=size, media_type=media_type(final))


async def _copy(chunks: AsyncIterator[bytes], file: BinaryIO, limit: int, name: str) -> int:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"{name} is larger than {limit // 2**20} MiB.", "Raise ORCHESTRION_UPLOAD_LIMIT_MB.")
        await asyncio.to_thread(file.write, chunk)
    return size


def _link_unique(directory: int, part: str, name: str) -> str:
    """Give the finished upload its name, or `name-2`, `name-3`, … where that is taken."""
    stem, dot, ending = name.rpartition(".")
    for number in range(1, 10_000):
        candidate = name if number == 1 else (f"{stem}-{number}.{ending}" if dot and stem else f"{name}-{number}")
        try:
            os.link(part, candidate, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            continue
        return candidate
    raise StoreError(f"There are too many uploads called {name}.", "Remove some.")


def _give_to(uid: int, gid: int, name: str, directory: int) -> None:
    """Let the sandbox's user own what the host makes in its workspace, where the host is root."""
    if os.geteuid() == 0 and uid:
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def _remove_tree(root: Path) -> None:
    """Remove a tree of any depth: `rmtree` takes a stack frame and a descriptor for each level, `rm` neither."""
    with suppress(RecursionError):
        shutil.rmtree(root, ignore_errors=True)
    if root.is_dir() and not root.is_symlink():
        subprocess.run(["rm", "-rf", "--", root], check=False, capture_output=True)  # noqa: S603, S607 - fixed command
