"""Files down: ranges, validators, and headers under which a file from a sandbox can't act in our page's name."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from orchestrion.server.problems import problem

_PIECE = 256 * 1024
_RANGE = re.compile(r"^bytes=\s*(\d{0,18})-(\d{0,18})\s*$")
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self'"
_TEXT = ("text/", "application/json", "application/xml", "application/javascript", "image/svg+xml")


@dataclass(frozen=True)
class Span:
    """The bytes from `start` to `end`, exclusive."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """The range lies outside the file."""


def parse_range(header: str, size: int) -> Span | None:
    """Return the one range that is asked for; None for the whole file.

    What is not one well-formed range is ignored, as RFC 9110 (14.2) allows.

    Raises:
        Unsatisfiable: It begins after the end, or is empty.
    """
    match = _RANGE.match(header)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= end:
        raise Unsatisfiable
    return Span(start, end)


def disposition(name: str, *, attachment: bool) -> str:
    """Return a Content-Disposition that carries any name (RFC 6266)."""
    kind = "attachment" if attachment else "inline"
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _content_type(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith(_TEXT) else media_type


def _headers(file: BinaryIO, name: str, media_type: str, *, attachment: bool) -> dict[str, str]:
    info = os.fstat(file.fileno())
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": disposition(name, attachment=attachment),
        "Content-Type": _content_type(media_type),
        "ETag": f'"{info.st_mtime_ns:x}-{info.st_size:x}"',
        "X-Content-Type-Options": "nosniff",
    }
    if media_type != "application/pdf":  # A browser's PDF viewer does not open in a sandbox, and runs no script.
        headers["Content-Security-Policy"] = _SANDBOX
    return headers


async def _pieces(file: BinaryIO, span: Span) -> AsyncIterator[bytes]:
    try:
        await asyncio.to_thread(file.seek, span.start)
        left = span.end - span.start
        while left > 0:
            piece = await asyncio.to_thread(file.read, min(_PIECE, left))
            if not piece:
                return
            left -= len(piece)
            yield piece
    finally:
        file.close()


def _span(request: Headers, size: int, etag: str) -> Span | None:
    wanted = request.get("range", "")
    if not wanted or request.get("if-range", etag) != etag:
        return None
    return parse_range(wanted, size)


def file_response(
    file: BinaryIO, request: Headers, *, name: str, media_type: str, attachment: bool, head: bool, request_id: str
) -> Response:
    """Serve an open file, whole or in part; the file is closed in every case.

    Args:
        file: Open for reading, at any position.
        request: The request's headers.
        name: The name to save it under.
        media_type: Its type.
        attachment: Whether it is to be saved rather than shown.
        head: Whether only the headers are wanted.
        request_id: For the problem document of a range that can't be had.
    """
    size = os.fstat(file.fileno()).st_size
    headers = _headers(file, name, media_type, attachment=attachment)
    if headers["ETag"] in request.get("if-none-match", ""):
        file.close()
        return Response(status_code=304, headers=headers)
    try:
        span = _span(request, size, headers["ETag"])
    except Unsatisfiable:
        file.close()
        return _unsatisfiable(size, request_id)
    status, span = (200, Span(0, size)) if span is None else (206, span)
    headers["Content-Length"] = str(span.end - span.start)
    if status == 206:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
    if head:
        file.close()
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(file, span), status, headers)


def _unsatisfiable(size: int, request_id: str) -> Response:
    return problem(
        416,
        "range_not_satisfiable",
        f"The file has {size} bytes; the range asked for lies outside.",
        "Ask for a range within the file.",
        request_id=request_id,
        headers={"Content-Range": f"bytes */{size}"},
    )
