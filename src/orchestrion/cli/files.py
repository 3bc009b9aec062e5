"""The user's files: looked at before anything is created, then streamed into the session."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from orchestrion.cli.text import size
from orchestrion.core.errors import InvalidInput, NotFound, TooLarge
from orchestrion.store.workspace import upload_name

_BLOCK = 1 << 20
_REMEDY = "Check the path given with -f."


def check_files(names: Iterable[str], *, limit: int | None = None) -> list[Path]:
    """Return the files as paths, each once.

    Args:
        names: As typed.
        limit: Largest size in bytes; None for any.

    Raises:
        NotFound: One does not exist.
        InvalidInput: One is a directory or can't be read.
        TooLarge: One is over the limit.
    """
    found: dict[Path, Path] = {}
    for name in names:
        path = Path(name).expanduser()
        _check(name, path, limit)
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _check(name: str, path: Path, limit: int | None) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"The file {name} does not exist.", _REMEDY) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"The file {name} can't be reached: {_said(error)}.", _REMEDY) from None
    if stat.S_ISDIR(status.st_mode):
        raise InvalidInput(f"{name} is a directory, not a file.", "Name the files in it, each with -f.")
    upload_name(path.name)
    if not os.access(path, os.R_OK):
        raise InvalidInput(
            f"The file {name} can't be read: permission denied.", "Change its permissions, or copy it."
        )
    if limit is not None and status.st_size > limit:
        raise TooLarge(
            f"The file {name} has {size(status.st_size)}; the limit is {size(limit)}.",
            "Raise it with ORCHESTRION_UPLOAD_LIMIT_MB, or give a smaller file.",
        )


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()


async def read_blocks(path: Path, progress: Callable[[int], None] = lambda count: None) -> AsyncIterator[bytes]:
    """Yield a file block by block; it is never held whole.

    Args:
        path: Of the file.
        progress: Told the number of bytes read so far.

    Raises:
        InvalidInput: It can't be read.
    """
    count = 0
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while block := await asyncio.to_thread(file.read, _BLOCK):
                count += len(block)
                progress(count)
                yield block
    except OSError as error:
        raise InvalidInput(f"The file {path} can't be read: {_said(error)}.", _REMEDY) from None
