"""What every route needs: the runtime, and who is asking."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from orchestrion.core.settings import Settings
from orchestrion.runtime import Runtime
from orchestrion.server.metrics import Metrics
from orchestrion.server.problems import REQUEST_ID
from orchestrion.server.process_logs import ProcessLogs
from orchestrion.server.readiness import ReadinessProbe
from orchestrion.server.security import OWNER

if TYPE_CHECKING:
    from orchestrion.server.edge.edge import Edge


@dataclass
class Services:
    """The application's parts.

    Attributes:
        settings: The effective settings.
        metrics: What `/metrics` shows.
        readiness: What `/readyz` looks at.
        logs: What processes in sandboxes print.
        stopping: Set when the server begins to stop; streams end, `/readyz` says no.
    """

    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    readiness: ReadinessProbe = field(default_factory=ReadinessProbe)
    logs: ProcessLogs = field(default_factory=ProcessLogs)
    _runtime: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        """The open runtime."""
        assert self._runtime is not None, "the application's lifespan has not begun"
        return self._runtime

    @runtime.setter
    def runtime(self, value: Runtime) -> None:
        self._runtime = value

    @cached_property
    def edge(self) -> Edge:
        """The way to services inside the sandboxes."""
        from orchestrion.server.edge.edge import Edge

        return Edge(self.runtime.sandboxes(), None)

    async def aclose(self) -> None:
        """Let go of what leads into sandboxes."""
        await self.logs.aclose()
        if "edge" in self.__dict__:
            self.edge.close()

    @property
    def has_runtime(self) -> bool:
        """Whether the runtime is there already."""
        return self._runtime is not None


@dataclass(frozen=True)
class Caller:
    """One request's view of the server.

    Attributes:
        owner: Whose sessions it may see; empty where no key was needed and none was sent.
        request_id: For problem documents and the log.
        prefix: What a proxy puts before our paths.
        services: The application's parts.
    """

    owner: str
    request_id: str
    prefix: str
    services: Services

    @property
    def runtime(self) -> Runtime:
        """The open runtime."""
        return self.services.runtime


async def _caller(connection: HTTPConnection) -> Caller:
    scope = connection.scope
    services: Services = connection.app.state.services
    return Caller(scope[OWNER] or "", scope[REQUEST_ID], scope.get("root_path", ""), services)


CallerDep = Annotated[Caller, Depends(_caller)]
