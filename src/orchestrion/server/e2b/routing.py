"""Routes of the control plane: matched before decoding, as an id may hold an encoded slash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response

from orchestrion.server.e2b.answers import Refusal

_LARGEST_BODY = 4 * 1024 * 1024


@dataclass(frozen=True)
class Call:
    """One request to the control plane.

    Attributes:
        owner: Who asks.
        request: As it came.
        path: The path's variable parts, decoded.
    """

    owner: str
    request: Request
    path: Mapping[str, str]

    @property
    def query(self) -> QueryParams:
        """The query's parameters."""
        return self.request.query_params

    @property
    def headers(self) -> Headers:
        """The headers."""
        return self.request.headers

    @property
    def id(self) -> str:
        """The `{id}` of the path."""
        return self.path["id"]

    async def body(self) -> bytes:
        """Return the body.

        Raises:
            Refusal: It is too large.
        """
        pieces = bytearray()
        async for piece in self.request.stream():
            pieces += piece
            if len(pieces) > _LARGEST_BODY:
                raise Refusal(413, f"The body is larger than {_LARGEST_BODY} bytes.")
        return bytes(pieces)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass
class Routes:
    """A table of routes."""

    _table: list[tuple[str, list[str], Handler]] = field(default_factory=list)

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Add one; `{name}` stands for any one segment."""
        self._table.append((method, path.split("/"), handler))

    def find(self, method: str, raw_path: str) -> tuple[Handler, dict[str, str]]:
        """Return the handler of a request, and the path's variable parts.

        Raises:
            Refusal: There is none.
        """
        segments = raw_path.rstrip("/").split("/")
        fits = [(verb, names, handler) for verb, names, handler in self._table if _matches(names, segments)]
        for verb, names, handler in fits:
            if verb == method:
                parts = zip(names, segments, strict=True)
                return handler, {name[1:-1]: unquote(part) for name, part in parts if name.startswith("{")}
        if fits:
            raise Refusal(405, f"{method} is not possible here.")
        raise Refusal(404, "This server has no such endpoint.")


def _matches(names: list[str], segments: list[str]) -> bool:
    pairs = zip(names, segments, strict=False)
    return len(names) == len(segments) and all(
        (name.startswith("{") and bool(part)) or name == part for name, part in pairs
    )
