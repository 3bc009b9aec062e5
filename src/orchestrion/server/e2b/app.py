"""The endpoint as one ASGI application: edge or control plane, by the request's host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.settings import Settings
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.server.e2b.answers import Refusal, nothing, refusal
from orchestrion.server.e2b.builds import UPLOADS, Builds
from orchestrion.server.e2b.catalogue import Catalogue
from orchestrion.server.e2b.control import Control
from orchestrion.server.e2b.keys import Keys
from orchestrion.server.e2b.routing import Call, Routes
from orchestrion.server.e2b.targets import Domain
from orchestrion.server.e2b.templates import Templates
from orchestrion.server.e2b.upgrade import Upgrades
from orchestrion.server.e2b.views import Views
from orchestrion.server.edge.edge import Edge

log = structlog.get_logger(__name__)


class Endpoint:
    """E2B's control plane and edge.

    Args:
        settings: Limits of sandboxes.
        sandboxes: Opened by the caller.
        keys: Who may use it.
        domain: Under which clients reach it.
    """

    def __init__(self, settings: Settings, sandboxes: Sandboxes, keys: Keys, domain: Domain) -> None:
        self._keys = keys
        self._domain = domain
        self._edge = Edge(sandboxes, keys.traffic_token)
        self.upgrades = Upgrades(domain, self._edge)
        catalogue = Catalogue(settings.home / "e2b" / "templates.json")
        self._control = Control(sandboxes.limits, sandboxes, self._edge, Views(keys, domain.name), catalogue)
        self._builds = Builds(sandboxes.limits, sandboxes, keys, catalogue, f"https://api.{domain.name}")
        self._routes = Routes()
        for part in (self._control, self._builds, Templates(sandboxes, catalogue)):
            part.install(self._routes)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample and watch in the background; break what is under way at the end."""
        keeping = asyncio.create_task(self._control.history.keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            self.let_go()
            await self.upgrades.close()
            await self._builds.close()

    def let_go(self) -> None:
        """Break what is under way to sandboxes, so that a stop need not wait for it."""
        self._edge.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        assert scope["type"] == "http"
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            target = self._domain.target(headers)
            if target is not None:
                await self._edge.serve(target, scope, receive, send)
                return
            response = await self._answer(Request(scope, receive))
        except Refusal as refused:
            response = refused.response()
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw_path = request.scope["raw_path"].decode("latin-1")
        if raw_path == "/health":
            return nothing()
        if raw_path.startswith(UPLOADS):
            return await self._builds.upload(request)
        owner = self._keys.owner(_sent_key(request))
        if owner is None:
            raise Refusal(401, "The API key is missing or wrong: send one of this server's as X-API-KEY.")
        handler, parts = self._routes.find(request.method, raw_path)
        try:
            return await handler(Call(owner, request, parts))
        except OrchestrionError as error:
            log.info("a request was refused", path=raw_path, detail=str(error))
            raise refusal(error) from error
        except Refusal:
            raise
        except Exception:
            log.exception("a request failed", path=raw_path)
            raise Refusal(500, "The server made a mistake; its log says more.") from None


def _sent_key(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return request.headers.get("x-api-key") or (value.strip() if scheme.lower() == "bearer" else None)
