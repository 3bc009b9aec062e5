"""The built page, or how to build it."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).resolve().parent.parent / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "media-src 'self' blob:; frame-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_UNBUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Orchestrion</title>
<body style="font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem">
<h1>Orchestrion is running</h1>
<p>The API is ready: see <a href="docs">its documentation</a> and <a href="readyz">its state</a>.</p>
<p>The page has not been built yet. In a checkout, <code>make serve</code> builds it and starts the server;
the published package has it already.</p></body></html>
"""
mimetypes.add_type("text/javascript", ".js")


class _PageFile(Convertor[str]):
    """A file name with an ending, so that the page's files hide no address of the API."""

    regex = r"[^/]+\.[a-z0-9]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("page_file", _PageFile())


def _inside(name: str) -> Path | None:
    """Return the built file of that name, or None."""
    path = (STATIC / name).resolve()
    return path if path.is_relative_to(STATIC) and path.is_file() else None


def _serve(name: str, headers: dict[str, str]) -> Response:
    built = _inside(name)
    if built is None:
        raise HTTPException(404)
    return FileResponse(built, headers=headers)


@router.head("/")
@router.get("/")
async def index() -> Response:
    """Return the page."""
    built = _inside("index.html")
    if built is None:
        return HTMLResponse(_UNBUILT, headers=_HEADERS)
    return FileResponse(built, headers=_HEADERS)


@router.head("/{name:page_file}")
@router.get("/{name:page_file}")
async def root_file(name: str) -> Response:
    """Return one of the page's files."""
    return _serve(name, _HEADERS)


@router.head("/assets/{name:path}")
@router.get("/assets/{name:path}")
async def asset(name: str) -> Response:
    """Return one of the page's assets; each carries a hash in its name and never changes."""
    return _serve(f"assets/{name}", _FOREVER)
