"""Multipart uploads, parsed as they come in: no part is held in memory or spooled to a file first."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from orchestrion.core.errors import InvalidInput

FIELD = "file"
MAX_FILES = 1000
_PIECE = 2**20
_BROKEN = "The upload is not well-formed multipart/form-data."
_REMEDY = "Send the files in the multipart field `file`, for example with `curl -F file=@data.csv`."


@dataclass(frozen=True)
class _Token:
    """One thing the parser saw; `data` holds a part's Content-Disposition or a piece of its content."""

    kind: Literal["begin", "data", "end"]
    data: bytes = b""


class _Tokens:
    """Turns the parser's callbacks into tokens."""

    def __init__(self, boundary: bytes) -> None:
        self.queue: deque[_Token] = deque()
        self.complete = False
        self._name = b""
        self._value = b""
        self._disposition = b""
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )

    def _begin(self) -> None:
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        self.queue.append(_Token("begin", self._disposition))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.queue.append(_Token("data", data[start:end]))

    def _end(self) -> None:
        self.queue.append(_Token("end"))

    def _complete(self) -> None:
        self.complete = True


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _file_name(disposition: bytes) -> str:
    """Return the file name in a part's Content-Disposition.

    Raises:
        InvalidInput: The part is no file in the field `file`.
    """
    _, options = parse_options_header(disposition)
    field = _decode(options.get(b"name", b""))
    if field != FIELD or b"filename" not in options:
        raise InvalidInput(f"The upload has a field {field[:60]!r} that is not a file in `{FIELD}`.", _REMEDY)
    return _decode(options[b"filename"])


class MultipartFiles:
    """The files of one multipart body, to be read in order, each to its end.

    Args:
        content_type: The request's header.
        body: The request's body.

    Raises:
        InvalidInput: The body is no multipart form.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise InvalidInput("Files must come as multipart/form-data with a boundary.", _REMEDY)
        try:
            self._tokens = _Tokens(boundary)
        except FormParserError:
            raise InvalidInput(_BROKEN, _REMEDY) from None
        self._body = body

    async def __aiter__(self) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """Yield each file's name as sent, with its content.

        Raises:
            InvalidInput: The body is malformed, breaks off, or has something else than files in it.
        """
        count = 0
        while (token := await self._next()) is not None:
            if token.kind != "begin":
                continue
            count += 1
            if count > MAX_FILES:
                raise InvalidInput(f"One upload may have at most {MAX_FILES} files.", "Send them in several.")
            yield _file_name(token.data), self._content()

    async def _content(self) -> AsyncIterator[bytes]:
        """Yield the current part's content, in pieces large enough to be worth a write."""
        piece = bytearray()
        while (token := await self._next()) is not None and token.kind == "data":
            piece += token.data
            if len(piece) >= _PIECE:
                yield bytes(piece)
                piece.clear()
        if piece:
            yield bytes(piece)

    async def _next(self) -> _Token | None:
        """Return the next token, or None after the closing boundary."""
        queue = self._tokens.queue
        while not queue:
            if self._tokens.complete:
                return None
            chunk = await anext(self._body, None)
            if chunk is None:
                raise InvalidInput("The upload broke off before its end.", "Send it again.")
            self._parse(chunk)
        return queue.popleft()

    def _parse(self, chunk: bytes) -> None:
        try:
            self._tokens.parser.write(chunk)
        except FormParserError:
            raise InvalidInput(_BROKEN, _REMEDY) from None
