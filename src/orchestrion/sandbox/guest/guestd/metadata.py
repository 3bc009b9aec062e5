"""What a caller notes about a file: extended attributes below `user.e2b.`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping

from .connect import RpcError
from .problems import printable

_PREFIX = "user.e2b."
_HEADER = "x-metadata-"
# The kernel's bound on a name, and what every file system has room for in one file.
_MAX_KEY = 255 - len(_PREFIX)
_MAX_TOTAL = 4096


def from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that an upload's headers `X-Metadata-<key>` give.

    Raises:
        RpcError: A key or value is none that can be kept.
    """
    found = {name[len(_HEADER) :]: value for name, value in headers.items() if name.startswith(_HEADER)}
    for key, value in found.items():
        if not 0 < len(key) <= _MAX_KEY:
            raise RpcError("invalid_argument", f"A metadata key must have 1 to {_MAX_KEY} bytes.")
        if not _is_printable(key) or not _is_printable(value):
            raise RpcError("invalid_argument", f"The metadata '{key}' must be printable ASCII, key and value.")
    if sum(len(_PREFIX) + len(key) + len(value) for key, value in found.items()) > _MAX_TOTAL:
        raise RpcError("invalid_argument", f"A file's metadata may have {_MAX_TOTAL} bytes together.")
    return found


def _is_printable(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)


def read(place: str | int) -> dict[str, str]:
    """Return a file's metadata, by path or descriptor; none where the file system keeps none.

    Programs inside may note more than an upload can. What is beyond that bound is left out.
    """
    found: dict[str, str] = {}
    room = _MAX_TOTAL
    for name in _names(place):
        with contextlib.suppress(OSError):
            value = os.getxattr(place, name)
            room -= len(name) + len(value)
            if room < 0:
                break
            found[printable(name[len(_PREFIX) :])] = value.decode("utf-8", "replace")
    return found


def _names(place: str | int) -> list[str]:
    try:
        return [name for name in os.listxattr(place) if name.startswith(_PREFIX)]
    except OSError:
        return []


def replace(fd: int, wanted: Mapping[str, str]) -> None:
    """Make `wanted` all the metadata of an open file. A file with none, to which none is given, isn't touched.

    Raises:
        RpcError: The file system keeps none.
        OSError: As setxattr(2).
    """
    for name in set(_names(fd)) - {_PREFIX + key for key in wanted}:
        with contextlib.suppress(OSError):
            os.removexattr(fd, name)
    try:
        for key, value in wanted.items():
            os.setxattr(fd, _PREFIX + key, value.encode())
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            raise RpcError("failed_precondition", "The file system there keeps no metadata; write without.") from None
        raise
