"""`/api/sandboxes/{id}/ports/{port}/…`: what services inside a sandbox answer, over HTTP and WebSocket."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, WebSocket
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from orchestrion.core.errors import Forbidden
from orchestrion.sandbox import Sandboxes
from orchestrion.sandbox.protocols import CODE_PORT, ENVD_PORT
from orchestrion.server.edge.edge import Edge
from orchestrion.server.edge.splice import splice
from orchestrion.server.edge.way import Target
from orchestrion.server.routes.sandboxes import in_use, owned
from orchestrion.server.services import Caller, CallerDep

router = APIRouter(prefix="/api/sandboxes/{sandbox_id}/ports/{port}", tags=["sandboxes"])

# Whatever a service inside sends must not act in our page's name: in a browser it gets an origin of its own.
_POLICY = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
# To a browser the service stands at our own address: cookies there are other programs' (it tells no ports apart), and
# these answers would count for our page and for whatever else is at that name.
_OURS = frozenset((b"authorization", b"cookie"))
_FOR_THE_WHOLE_SITE = (
    *("set-cookie", "clear-site-data", "strict-transport-security", "alt-svc", "www-authenticate"),
    *("service-worker-allowed", "report-to", "reporting-endpoints", "nel", "origin-agent-cluster"),
)
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

Port = Annotated[int, Path(ge=1, le=65535)]


class _Through(Response):
    """Passes the request on, and the service's answer back."""

    def __init__(self, sandboxes: Sandboxes, edge: Edge, target: Target, prefix: str) -> None:
        super().__init__()
        self._sandboxes = sandboxes
        self._edge = edge
        self._target = target
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""

        async def fenced(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in _FOR_THE_WHOLE_SITE:
                    del headers[name]
                headers.append("content-security-policy", _POLICY)
            await send(message)

        with self._sandboxes.hold(self._target.sandbox_id):
            await self._edge.serve(self._target, _below(scope, self._prefix), receive, fenced)


def _below(scope: Scope, prefix: str) -> Scope:
    """Return the request as the service sees it: with the path below ours, without our key and the site's cookies."""
    path = scope["path"].removeprefix(prefix) or "/"
    raw = scope["raw_path"].removeprefix(prefix.encode()) or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name not in _OURS]
    headers.append((b"x-forwarded-prefix", prefix.encode()))
    return {**scope, "path": path, "raw_path": raw, "headers": headers}


def _prefix(caller: Caller, sandbox_id: str, port: int) -> str:
    return f"{caller.prefix}/api/sandboxes/{sandbox_id}/ports/{port}"


def _refuse_daemon(port: int) -> None:
    if port in {ENVD_PORT, CODE_PORT}:
        raise Forbidden("That port is the sandbox's own daemon's.", "Use the other paths below /api/sandboxes.")


@router.api_route("", methods=_METHODS, include_in_schema=False)
@router.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
async def through(sandbox_id: str, port: Port, request: Request, caller: CallerDep) -> Response:
    """Pass a request on to a service inside."""
    _refuse_daemon(port)
    await owned(sandbox_id, caller)
    sandboxes, services = caller.runtime.sandboxes(), caller.services
    return _Through(sandboxes, services.edge, Target(sandbox_id, port), _prefix(caller, sandbox_id, port))


@router.websocket("/{path:path}")
async def through_socket(websocket: WebSocket, sandbox_id: str, port: Port, path: str, caller: CallerDep) -> None:
    """Join a WebSocket to one of a service inside."""
    _refuse_daemon(port)
    query = websocket.scope["query_string"].decode("latin-1")
    async with in_use(sandbox_id, caller) as sandbox:
        await splice(websocket, sandbox.port(port), f"/{path}{'?' + query if query else ''}")
