"""`/openapi.json` and `/docs`: the API described, readable without scripts and without a network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Orchestrion API</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
summary{cursor:pointer;padding:.4rem 0}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{overflow:auto;padding:.6rem;border:1px solid #8884;border-radius:6px}
details{border-bottom:1px solid #8883}b{display:inline-block;min-width:4.5rem}</style>
<h1>Orchestrion API</h1><p>Errors are RFC 9457 problem documents. The machine-readable form is
<a href="openapi.json">openapi.json</a>.</p>"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'"


def _code(value: object) -> str:
    return html.escape(json.dumps(value, indent=2, ensure_ascii=False))


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code></summary>"
    yield f"<p>{html.escape(operation.get('description') or operation.get('summary', ''))}</p>"
    for title, key in (("Parameters", "parameters"), ("Body", "requestBody"), ("Answers", "responses")):
        if part := operation.get(key):
            yield f"<h4>{title}</h4><pre>{_code(part)}</pre>"
    yield "</details>"


def render(schema: dict[str, Any]) -> str:
    """Return an OpenAPI description as one HTML page."""
    parts = [_HEAD]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts.extend(_operation(method, path, operation))
    parts.append("<h2>Schemas</h2>")
    for name, model in schema.get("components", {}).get("schemas", {}).items():
        parts.append(f"<details><summary>{html.escape(name)}</summary><pre>{_code(model)}</pre></details>")
    return "\n".join(parts)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Return the documentation of the API."""
    return HTMLResponse(render(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})
