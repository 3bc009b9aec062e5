"""A session's files: up, down, and all at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from orchestrion.core.errors import InvalidInput, NotFound
from orchestrion.core.events import FileRef
from orchestrion.server.archive import zip_pieces
from orchestrion.server.downloads import disposition, file_response
from orchestrion.server.services import Caller, CallerDep
from orchestrion.server.uploads import MultipartFiles
from orchestrion.store.workspace import Workspace, media_type

router = APIRouter(prefix="/api/sessions/{session_id}", tags=["files"])

_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


class Files(BaseModel):
    """Files of a session's workspace."""

    files: list[FileRef]


async def _workspace(caller: Caller, session_id: str) -> Workspace:
    """Return the workspace of a session of this caller's; nobody else's is even looked at."""
    await caller.runtime.get_session(session_id, owner=caller.owner)
    return caller.runtime.workspace(session_id)


@router.get("/files")
async def list_files(session_id: str, caller: CallerDep) -> Files:
    """List a session's files."""
    return Files(files=await (await _workspace(caller, session_id)).list())


@router.post("/files", status_code=201, openapi_extra=_UPLOAD_BODY)
async def upload(session_id: str, request: Request, caller: CallerDep) -> Files:
    """Take files in, streamed straight into the workspace; all of them or none."""
    workspace = await _workspace(caller, session_id)
    content_type = request.headers.get("content-type", "")
    return Files(files=await _store_all(workspace, content_type, request.stream(), caller))


async def _store_all(
    workspace: Workspace, content_type: str, body: AsyncIterator[bytes], caller: Caller
) -> list[FileRef]:
    limit = caller.services.settings.upload_limit_mb * 2**20
    stored: list[FileRef] = []
    try:
        async for name, content in MultipartFiles(content_type, body):
            stored.append(await workspace.store_upload(name, content, limit=limit))
        if not stored:
            raise InvalidInput("The upload has no file in it.", "Send at least one in the multipart field `file`.")
    except BaseException:
        for ref in stored:
            with suppress(NotFound):
                await asyncio.shield(workspace.delete(ref.path))
        raise
    caller.services.metrics.uploaded.inc(sum(ref.size for ref in stored))
    return stored


@router.head("/files/{path:path}", include_in_schema=False)
@router.get("/files/{path:path}", response_class=Response)
async def download(
    session_id: str, path: str, request: Request, caller: CallerDep, download: bool = False
) -> Response:
    """Return a file, or the range asked for; `?download=1` has it saved rather than shown."""
    workspace = await _workspace(caller, session_id)
    file = await asyncio.to_thread(workspace.open_read, path)
    return file_response(
        file,
        request.headers,
        name=path.rsplit("/", 1)[-1],
        media_type=media_type(path),
        attachment=download,
        head=request.method == "HEAD",
        request_id=caller.request_id,
    )


@router.delete("/files/{path:path}", status_code=204)
async def delete_file(session_id: str, path: str, caller: CallerDep) -> None:
    """Delete a file."""
    await (await _workspace(caller, session_id)).delete(path)


@router.get("/archive", response_class=StreamingResponse)
async def archive(session_id: str, caller: CallerDep) -> StreamingResponse:
    """Return all files of a session as a zip file, made while it is sent."""
    workspace = await _workspace(caller, session_id)
    files = await workspace.list()
    headers = {
        "Content-Disposition": disposition(f"{session_id}.zip", attachment=True),
        "Cache-Control": "no-store",
    }
    return StreamingResponse(zip_pieces(workspace, files), 200, headers, "application/zip")
