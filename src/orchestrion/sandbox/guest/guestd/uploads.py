"""Writing what a caller uploads. All of it blocks and runs in a thread; only opening needs the caller's rights."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from . import metadata
from .connect import Message, RpcError
from .paths import WRITE, open_directories, open_path
from .problems import printable
from .users import User, resolve

_PIECE = 1024 * 1024
_MAX_PARTS = 10_000


class Target:
    """A file that is being written.

    Args:
        path: Absolute.
        user: Who is to own it, and the directories made for it.
        noted: Its metadata.

    Raises:
        RpcError: There is something that is no regular file.
        OSError: It can't be written.
    """

    def __init__(self, path: str, user: User, noted: Mapping[str, str]) -> None:
        self.path = path
        self._noted = dict(noted)
        self._name = os.path.basename(path)
        if not self._name:
            raise RpcError("invalid_argument", f"path is a directory: {path}")
        self._parent, _ = open_directories(os.path.dirname(path), user)
        self._fd = -1
        self._is_new = False
        try:
            self._open()
            self._prepare(user)
        except BaseException:
            self.abandon()
            raise

    def _open(self) -> None:
        """Open the file. The order of calls is seen by those who watch the directory: made, given away, written."""
        with contextlib.suppress(FileExistsError):
            self._fd = open_path(self._name, WRITE | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=self._parent)
            self._is_new = True
            return
        # It is there, or a link is that may lead to a file which isn't.
        self._fd = open_path(self._name, WRITE | os.O_CREAT, 0o644, dir_fd=self._parent)

    def _prepare(self, user: User) -> None:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise RpcError("invalid_argument", f"{printable(self.path)} is not a regular file")
        if self._is_new or found.st_uid != user.uid:
            # Of another's file that the user may write, it can't become the owner.
            with contextlib.suppress(PermissionError):
                os.fchown(self._fd, user.uid, user.gid)
        metadata.replace(self._fd, self._noted)
        if found.st_size:
            os.ftruncate(self._fd, 0)

    def write(self, data: bytes | memoryview) -> None:
        """Write on. Raises `OSError`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> Message:
        """End it; return what the caller is told. Raises `OSError`."""
        self._close()
        info: Message = {"path": printable(self.path), "name": printable(self._name), "type": "file"}
        return {**info, "metadata": self._noted} if self._noted else info

    def abandon(self) -> None:
        """Close it and remove what this upload made, so that half a file isn't taken for a whole one."""
        with contextlib.suppress(OSError):
            if self._is_new and os.path.samestat(os.fstat(self._fd), os.lstat(self._name, dir_fd=self._parent)):
                os.unlink(self._name, dir_fd=self._parent)
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        fd, self._fd, parent, self._parent = self._fd, -1, self._parent, -1
        if parent >= 0:
            os.close(parent)
        if fd >= 0:
            os.close(fd)


# Opens a file for writing by its absolute path; raises as `Target` does.
Opener: TypeAlias = Callable[[str], Target]


class Upload(Protocol):
    """Takes an upload's body."""

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Take the next pieces. Raises `RpcError` and `OSError`."""
        ...

    def finish(self) -> list[Message]:
        """End it; return what was written. Raises `RpcError` and `OSError`."""
        ...

    def abandon(self) -> None:
        """Drop what is unfinished."""
        ...


class RawUpload:
    """A body that is one file's content.

    Args:
        path: Where it goes.
        opened: Opens it.
    """

    def __init__(self, path: str, opened: Opener) -> None:
        self._path, self._opened = path, opened
        self._target: Target | None = None

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Write them."""
        target = self._open()
        for piece in pieces:
            target.write(piece)

    def finish(self) -> list[Message]:
        """Close the file."""
        return [self._open().close()]

    def abandon(self) -> None:
        """Remove the file if it is new."""
        if self._target is not None:
            self._target.abandon()

    def _open(self) -> Target:
        if self._target is None:
            self._target = self._opened(self._path)
        return self._target


class MultipartUpload:
    """A form whose parts named `file` are files; other parts are passed over.

    Args:
        boundary: Of the form.
        path: Where its one file goes; None for each part's file name.
        user: Whose home paths start from.
        opened: Opens a file.
    """

    def __init__(self, boundary: bytes, path: str | None, user: User, opened: Opener) -> None:
        self._path, self._user, self._opened = path, user, opened
        self._target: Target | None = None
        self._done: list[Message] = []
        self._seen: set[str] = set()
        self._parts = 0
        self._ended = False
        self._field, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._take_field,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._write,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Parse them, and write what belongs to files."""
        try:
            for piece in pieces:
                self._parser.write(piece)
        except FormParserError as error:
            raise RpcError("invalid_argument", f"The form can't be read: {error}") from None

    def finish(self) -> list[Message]:
        """Return what was written; the form must have come to its end."""
        if not self._ended:
            raise RpcError("invalid_argument", "The form breaks off before its end.")
        return self._done

    def abandon(self) -> None:
        """Drop the file that was being written; those before it are whole."""
        if self._target is not None:
            self._target.abandon()

    def _begin(self) -> None:
        self._headers.clear()
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise RpcError("invalid_argument", f"One upload may have {_MAX_PARTS} parts.")

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name") != b"file":
            return
        given = self._path or os.fsdecode(options.get(b"filename", b""))
        if not given:
            raise RpcError("invalid_argument", "A file needs a name: give the query parameter path or a file name.")
        path = resolve(given, self._user)
        if path in self._seen:
            raise RpcError(
                "invalid_argument", f"{printable(path)} is given twice in one upload; only the first was written."
            )
        self._seen.add(path)
        self._target = self._opened(path)

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._target is not None:
            self._target.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        if self._target is not None:
            target, self._target = self._target, None
            self._done.append(target.close())

    def _end(self) -> None:
        self._ended = True


class Unzipped:
    """An upload whose body is compressed with gzip.

    Args:
        inner: Takes it uncompressed.
    """

    def __init__(self, inner: Upload) -> None:
        self._inner = inner
        self._zip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._begun = False

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Uncompress in bounded pieces, however much a little may turn into."""
        try:
            for piece in pieces:
                for plain in self._inflate(piece):
                    self._inner.feed([plain])
        except zlib.error:
            raise RpcError("invalid_argument", "The body is not gzip, though Content-Encoding says so.") from None

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        full = False
        while data or full:
            if self._zip.eof:
                self._zip = zlib.decompressobj(zlib.MAX_WBITS | 16)
            self._begun = True
            plain = self._zip.decompress(data, _PIECE)
            data = self._zip.unused_data or self._zip.unconsumed_tail
            full = len(plain) == _PIECE and not self._zip.eof
            if plain:
                yield plain

    def finish(self) -> list[Message]:
        """End it; the compressed stream must have come to its end."""
        if self._begun and not self._zip.eof:
            raise RpcError("invalid_argument", "The compressed body breaks off before its end.")
        return self._inner.finish()

    def abandon(self) -> None:
        """Drop what is unfinished."""
        self._inner.abandon()


def make_upload(headers: Mapping[str, str], path: str | None, user: User, opened: Opener) -> Upload:
    """Return what takes an upload's body.

    Args:
        headers: The request's.
        path: Where it goes, from the query.
        user: Whose it is.
        opened: Opens a file.

    Raises:
        RpcError: The headers don't fit.
    """
    kind, options = parse_options_header(headers.get("content-type", ""))
    upload: Upload
    if kind == b"multipart/form-data" and options.get(b"boundary"):
        try:
            upload = MultipartUpload(options[b"boundary"], path, user, opened)
        except FormParserError as error:
            raise RpcError("invalid_argument", f"The form can't be read: {error}") from None
    elif kind == b"application/octet-stream":
        if not path:
            raise RpcError("invalid_argument", "A raw upload needs the query parameter path.")
        upload = RawUpload(resolve(path, user), opened)
    else:
        raise RpcError("invalid_argument", "The body must be multipart/form-data or application/octet-stream.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == "gzip":
        return Unzipped(upload)
    if encoding not in ("identity", ""):
        raise RpcError("invalid_argument", f"The content encoding {encoding} is not supported; use gzip or none.")
    return upload
