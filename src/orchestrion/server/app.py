"""The FastAPI application, assembled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

import orchestrion
from orchestrion.core.settings import Settings
from orchestrion.runtime import Runtime
from orchestrion.server import problems
from orchestrion.server.context import ContextMiddleware
from orchestrion.server.limits import BodyLimitMiddleware
from orchestrion.server.routes import ROUTERS
from orchestrion.server.security import Gate, GateMiddleware
from orchestrion.server.services import Services

_ENVELOPE = 2**20


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open a runtime of our own, unless the caller brought one."""
    services: Services = app.state.services
    async with AsyncExitStack() as stack:
        if not services.has_runtime:
            services.runtime = await stack.enter_async_context(Runtime(services.settings, adopt=True))
        stack.push_async_callback(services.aclose)
        yield


def create_app(source: Runtime | Settings) -> FastAPI:
    """Build the application.

    Args:
        source: A runtime that the caller has opened and will close, or settings to open one with for as long as the
            application lives.
    """
    if isinstance(source, Settings):
        services = Services(source)
    else:
        services = Services(source.settings)
        services.runtime = source
    app = FastAPI(
        title="Orchestrion",
        version=orchestrion.__version__,
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": problems.Problem, "description": "A problem document"}},
    )
    app.state.services = services
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    # The last one added is the outermost.
    upload_limit = services.settings.upload_limit_mb * 2**20
    app.add_middleware(BodyLimitMiddleware, upload_limit=upload_limit + _ENVELOPE)
    app.add_middleware(GateMiddleware, gate=Gate.from_settings(services.settings))
    app.add_middleware(ContextMiddleware, metrics=services.metrics)
    return app
