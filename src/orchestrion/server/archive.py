"""A workspace as a zip file, made while it is sent."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

from orchestrion.core.errors import NotFound, UnsafePath
from orchestrion.core.events import FileRef
from orchestrion.store.workspace import Workspace

_PIECE = 256 * 1024
_PACKED = (".zip", ".gz", ".xlsx", ".docx", ".parquet", ".png", ".jpg", ".jpeg", ".pdf", ".mp4")
_FIRST_YEAR, _LAST_YEAR = 1980, 2107


class _Pipe:
    """Takes what `zipfile` writes until it is fetched."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes, /) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None:
        """Nothing to do: what is written is there to be fetched."""

    def close(self) -> None:
        """Nothing to do either."""

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


def _stamp(changed: float) -> tuple[int, int, int, int, int, int]:
    """Return a time as zip keeps it, which knows only some years; code in a sandbox may have set any."""
    with suppress(OverflowError, OSError, ValueError):
        moment = time.localtime(changed)
        if _FIRST_YEAR <= moment.tm_year <= _LAST_YEAR:
            return moment[:6]
    return (_FIRST_YEAR, 1, 1, 0, 0, 0)


def _entry(path: str, info: os.stat_result) -> zipfile.ZipInfo:
    # To Windows a backslash parts folders, so `a\\..\\..\\b` would climb out of where it is unpacked.
    entry = zipfile.ZipInfo(path.replace("\\", "_"), _stamp(info.st_mtime))
    packed = path.lower().endswith(_PACKED)
    entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _add(archive: zipfile.ZipFile, pipe: _Pipe, path: str, file: BinaryIO) -> Iterator[bytes]:
    """Write one file of any size, yielding what is ready to be sent."""
    with archive.open(_entry(path, os.fstat(file.fileno())), "w", force_zip64=True) as target:
        while piece := file.read(_PIECE):
            target.write(piece)
            if ready := pipe.take():
                yield ready


def zip_pieces(workspace: Workspace, files: Sequence[FileRef]) -> Iterator[bytes]:
    """Yield a zip file of `files`; one that has gone by the time its turn comes is left out.

    This reads from disk: iterate over it in a thread.
    """
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", compresslevel=1) as archive:
        for ref in files:
            with suppress(NotFound, UnsafePath), workspace.open_read(ref.path) as file:
                yield from _add(archive, pipe, ref.path, file)
    yield pipe.take()
