"""`GET` and `POST /files`: files as plain HTTP bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from .config import Config
from .connect import Message, RpcError
from .downloads import Unsatisfiable, open_source, respond, unsatisfiable
from .http import Handler, Request, Response, Routes, error_response, json_response
from .metadata import from_headers
from .problems import http_status, printable, sentence
from .rights import FileWorker
from .signatures import Operation, refusal
from .uploads import Target, Upload, make_upload
from .users import User, find_user, resolve

# How much is written at once: few changes of thread, little memory.
_BATCH = 1024 * 1024


class Files:
    """Answers `/files`.

    Args:
        config: The daemon's.
        worker: Where the work is done.
    """

    def __init__(self, config: Config, worker: FileWorker) -> None:
        self._config, self._worker = config, worker

    async def download(self, request: Request) -> Response:
        """Send a file."""
        user = self._user(request, "read")
        path = resolve(request.query.get("path", ""), user)
        wanted, condition = request.headers.get("range", ""), request.headers.get("if-range", "")
        zipped = _wants_gzip(request.headers.get("accept-encoding", ""))
        try:
            source = await self._worker.run_as(user, open_source, path, wanted, condition)
        except Unsatisfiable as error:
            return unsatisfiable(int(error.args[0]))
        except FileNotFoundError:
            return error_response(404, f"path '{printable(path)}' does not exist")
        response = respond(source, self._worker, zipped=zipped)
        return await _without_body(response) if request.method == "HEAD" else response

    async def upload(self, request: Request) -> Response:
        """Take one or more files."""
        user = self._user(request, "write")
        noted = from_headers(request.headers)

        def opened(path: str) -> Target:
            return self._worker.do_as(user, Target, path, user, noted)

        upload = make_upload(request.headers, request.query.get("path"), user, opened)
        return json_response(await self._take(request, user, upload))

    async def _take(self, request: Request, user: User, upload: Upload) -> list[Message]:
        finished = False
        try:
            await self._feed(request, upload)
            written = await self._worker.run(upload.finish)
            finished = True
        finally:
            if not finished:
                self._worker.later(lambda: self._worker.do_as(user, upload.abandon))
        return written

    async def _feed(self, request: Request, upload: Upload) -> None:
        """Write each batch while the next one comes in."""
        writing: asyncio.Task[None] | None = None
        try:
            async for batch in _batches(request.stream()):
                if writing is not None:
                    await writing
                writing = asyncio.create_task(self._worker.run(upload.feed, batch))
            if writing is not None:
                await writing
        finally:
            if writing is not None and not writing.done():
                await asyncio.wait({writing})

    def _user(self, request: Request, operation: Operation) -> User:
        """Return who asks. Raises `RpcError` unless the request is permitted."""
        if reason := refusal(request.query, request.headers, operation, self._config.token):
            raise RpcError("unauthenticated", reason)
        return find_user(request.query.get("username", ""), self._config)


async def _batches(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    async for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _without_body(response: Response) -> Response:
    """Keep only what `HEAD` asks for; a body of known length is left to the server, which sends but its length."""
    if isinstance(response.body, bytes):
        return response
    await response.body.aclose()  # type: ignore[attr-defined]
    return Response(response.status, response.headers, _nothing())


async def _nothing() -> AsyncIterator[bytes]:
    """Yield no piece."""
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece


def _wants_gzip(accepted: str) -> bool:
    """Say whether gzip is asked for.

    HTTP libraries offer all they can undo with every request, and compressing costs more than it saves on the way to
    the host; so a mere offer isn't taken up, only a request for gzip alone, as the SDKs' `gzip=True` makes it.

    Raises:
        RpcError: Neither gzip nor the plain file is accepted.
    """
    weights: dict[str, bool] = {}
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip():
            weights[coding.strip()] = weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    plain = weights.get("identity", weights.get("*", True))
    gzip = weights.get("gzip", weights.get("*", False))
    if not plain and not gzip:
        raise _NotAcceptable("a file can be sent plain or with gzip, and neither is accepted")
    return gzip and (not plain or set(weights) - {"identity"} == {"gzip"})


class _NotAcceptable(Exception):
    """No encoding that the caller accepts is known."""


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Handler:
    """Turn failures into the answers that clients of `/files` know."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except _NotAcceptable as error:
            return error_response(406, str(error))
        except RpcError as error:
            return error_response(http_status(error), error.message)
        except ConnectionError:
            raise
        except OSError as error:
            return error_response(
                http_status(error), sentence(error, printable(request.query.get("path", "the file")))
            )
        except UnicodeEncodeError:
            return error_response(400, "The path is no valid text.")

    return handle


def routes(config: Config) -> Routes:
    """Return the routes of `/files`."""
    files = Files(config, FileWorker(config))
    return {("GET", "/files"): _answering(files.download), ("POST", "/files"): _answering(files.upload)}
