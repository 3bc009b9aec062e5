"""Reading a file for a caller: whole, in part, compressed. What is told of its length is what is sent."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from mimetypes import MimeTypes
from urllib.parse import quote

from .connect import RpcError
from .http import Response, error_response
from .paths import READ, open_path
from .problems import printable
from .rights import FileWorker

_PIECE = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# The standard table alone: the sandbox's own files are no authority on anything.
_TYPES = MimeTypes(filenames=())
_LATEST = 253_402_300_799


@dataclass
class Source:
    """A file that is being read, with its first piece.

    Attributes:
        path: Where it is.
        fd: Open; -1 once it is closed.
        found: How it was when it was opened.
        start: Where the part that was asked for begins.
        length: How much was asked for; None for all there is, of files that don't know their size (/proc).
        first: What was read already.
        complete: Whether that is all.
    """

    path: str
    fd: int
    found: os.stat_result
    start: int = 0
    length: int | None = None
    first: bytes = b""
    complete: bool = False

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, size: int) -> bytes:
        """Return the next bytes. Blocks."""
        return os.read(self.fd, size)


class Unsatisfiable(Exception):
    """The range that was asked for begins behind the end; the argument is the file's size."""


def open_source(path: str, wanted: str, condition: str) -> Source:
    """Open a file and read its beginning. Blocks, and runs with the caller's rights.

    Args:
        path: Absolute.
        wanted: The header `Range`, or empty.
        condition: The header `If-Range`, or empty.

    Raises:
        RpcError: It is no regular file.
        Unsatisfiable: The range lies outside.
        OSError: It can't be read.
    """
    fd = open_path(path, READ)
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise RpcError("invalid_argument", f"path '{printable(path)}' is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise RpcError("invalid_argument", f"path '{printable(path)}' is not a regular file")
        source = Source(path, fd, found)
        _choose(source, wanted if condition in ("", _tag(found)) else "")
        _begin(source)
    except BaseException:
        os.close(fd)
        raise
    return source


def _choose(source: Source, wanted: str) -> None:
    """Decide which part is sent. A range that isn't understood, or is several, counts as none (RFC 9110, 14.2)."""
    size = source.found.st_size
    if not size:
        return
    source.length = size
    asked = _RANGE.fullmatch(wanted.replace(" ", ""))
    if asked is None or asked.groups() == ("", ""):
        return
    first, last = asked.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if first and last and int(last) < int(first):
        return
    if start >= size:
        raise Unsatisfiable(size)
    source.start, source.length = start, end - start + 1
    os.lseek(source.fd, start, os.SEEK_SET)


def _begin(source: Source) -> None:
    """Read the first piece, and close the file if that is all."""
    room = _PIECE if source.length is None else min(_PIECE, source.length)
    pieces: list[bytes] = []
    while room and (piece := source.read(room)):
        pieces.append(piece)
        room -= len(piece)
    source.first = b"".join(pieces)
    source.complete = bool(room) or source.length == len(source.first)
    if source.complete:
        source.close()


def _tag(found: os.stat_result) -> str:
    return f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"'


class Pieces:
    """What was asked for, piece by piece, each read while the one before is sent.

    An iterator of its own rather than a generator: one that was never started closes its file too.
    """

    def __init__(self, source: Source, worker: FileWorker) -> None:
        self._source, self._worker = source, worker
        self._left = source.length
        self._piece = source.first
        self._next: asyncio.Task[bytes] | None = None

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece.

        Raises:
            RuntimeError: The file has become shorter, so that what was promised can't be sent.
        """
        piece = self._piece if self._next is None else await self._next
        if not piece:
            if self._left:
                raise RuntimeError(f"{printable(self._source.path)} became shorter while it was read")
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= len(piece)
        self._next = asyncio.create_task(self._read_on())
        return piece

    async def _read_on(self) -> bytes:
        size = _PIECE if self._left is None else min(self._left, _PIECE)
        return await self._worker.run(self._source.read, size) if size and self._source.fd >= 0 else b""

    async def aclose(self) -> None:
        """Close the file, once nothing reads it; not waited for, as whoever closes may be cancelled again."""
        if self._next is None:
            self._source.close()
        else:
            self._next.add_done_callback(self._close)

    def _close(self, last: asyncio.Task[bytes]) -> None:
        if not last.cancelled():
            # Its failure, if any, is nobody's any more.
            last.exception()
        self._source.close()


class Zipped:
    """The same, compressed with gzip."""

    def __init__(self, source: Source, worker: FileWorker) -> None:
        self._pieces, self._worker = Pieces(source, worker), worker
        self._squeeze = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        self._ended = False

    def __aiter__(self) -> Zipped:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece, which may be empty."""
        if self._ended:
            raise StopAsyncIteration
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._ended = True
            return self._squeeze.flush()
        return await self._worker.run(self._squeeze.compress, piece)

    async def aclose(self) -> None:
        """Close the file."""
        await self._pieces.aclose()


def respond(source: Source, worker: FileWorker, *, zipped: bool) -> Response:
    """Return the response that sends a file or a part of it."""
    headers = _headers(source)
    part = source.start > 0 or (source.length or 0) < source.found.st_size
    if zipped and not part:
        headers["Content-Encoding"] = "gzip"
        return Response(200, headers, Zipped(source, worker))
    if part:
        size, sent = source.found.st_size, len(source.first) if source.complete else source.length or 0
        headers["Content-Range"] = f"bytes {source.start}-{source.start + sent - 1}/{size}"
    status = 206 if part else 200
    if source.complete:
        return Response(status, headers, source.first)
    if source.length is not None:
        headers["Content-Length"] = str(source.length)
    return Response(status, headers, Pieces(source, worker))


def unsatisfiable(size: int) -> Response:
    """Answer a range that lies outside of the file."""
    refused = error_response(416, f"the range is outside of the file, which has {size} bytes")
    return Response(416, {**refused.headers, "Content-Range": f"bytes */{size}"}, refused.body)


def _headers(source: Source) -> dict[str, str]:
    name = printable(os.path.basename(source.path))
    modified = datetime.fromtimestamp(min(max(source.found.st_mtime_ns // 10**9, 0), _LATEST), UTC)
    return {
        "Content-Type": _TYPES.guess_type(name)[0] or "application/octet-stream",
        "Content-Disposition": f"inline; {_file_name(name)}",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
        "Accept-Ranges": "bytes",
        # English, as a program that sets no locale has the plain one.
        "Last-Modified": f"{modified:%a, %d %b %Y %H:%M:%S} GMT",
        "ETag": _tag(source.found),
    }


def _file_name(name: str) -> str:
    """Write a file name into a header, whatever is in it (RFC 6266)."""
    if name.isascii() and name.isprintable() and not set(name) & set('"\\'):
        return f'filename="{name}"'
    return f"filename*=UTF-8''{quote(name, safe='')}"
