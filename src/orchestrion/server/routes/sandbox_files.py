"""`/api/sandboxes/{id}/files`: the file system inside."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from orchestrion.core.errors import InvalidInput
from orchestrion.sandbox.protocols import Entry
from orchestrion.server.downloads import disposition
from orchestrion.server.routes.sandboxes import in_use, opened
from orchestrion.server.services import Caller, CallerDep

router = APIRouter(prefix="/api/sandboxes/{sandbox_id}/files", tags=["sandboxes"])

Path = Annotated[str, Query(min_length=1, max_length=4096)]


class Listing(BaseModel):
    """What is in a directory."""

    path: str
    entries: list[Entry]


@router.get("")
async def list_files(
    sandbox_id: str, caller: CallerDep, path: Path = "/home/user", depth: Annotated[int, Query(ge=1, le=5)] = 1
) -> Listing:
    """List a directory."""
    sandbox = await opened(sandbox_id, caller)
    return Listing(path=path, entries=await sandbox.files.list(path, depth=depth))


@router.get("/content", response_class=StreamingResponse)
async def read_file(sandbox_id: str, path: Path, caller: CallerDep) -> StreamingResponse:
    """Download a file. It is sent as an attachment: what a sandbox made must not act in our page's name."""
    sandbox = await opened(sandbox_id, caller)
    entry = await sandbox.files.stat(path)
    if entry.type != "file":
        raise InvalidInput(f"{path} is not a file.", "Ask for a file.")
    headers = {
        "Content-Disposition": disposition(entry.name, attachment=True),
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(
        _pieces(sandbox_id, path, caller), media_type="application/octet-stream", headers=headers
    )


@router.put("", status_code=204)
async def write_file(sandbox_id: str, path: Path, request: Request, caller: CallerDep) -> None:
    """Write a file; the request's body is its content."""
    async with in_use(sandbox_id, caller) as sandbox:
        await sandbox.files.write(path, _body(request))


@router.delete("", status_code=204)
async def remove_file(sandbox_id: str, path: Path, caller: CallerDep) -> None:
    """Remove a file, or a directory and all in it."""
    await (await opened(sandbox_id, caller)).files.remove(path)


async def _pieces(sandbox_id: str, path: str, caller: Caller) -> AsyncGenerator[bytes, None]:
    async with in_use(sandbox_id, caller) as sandbox:
        async for piece in sandbox.files.read(path):
            yield piece


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    async for piece in request.stream():
        if piece:
            yield piece
