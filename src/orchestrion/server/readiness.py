"""Whether runs can be taken, and what is degraded."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Literal

import structlog
from pydantic import BaseModel

from orchestrion.runtime import Runtime

log = structlog.get_logger(__name__)

_DEADLINE = 30.0
_FRESH_SECONDS = 5.0
_ESSENTIAL = frozenset({"store", "model"})


class ReadyCheck(BaseModel):
    """One thing that was looked at."""

    name: str
    status: str
    detail: str = ""
    remedy: str = ""


class Readiness(BaseModel):
    """Whether runs can be taken; details only for those who may use the server."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: list[ReadyCheck] = []


class ReadinessProbe:
    """Looks at most once in a few seconds, however many ask: a probe starts a sandbox."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._seen = Readiness(status="unavailable")
        self._expires = 0.0

    async def look(self, runtime: Runtime) -> Readiness:
        """Return what was found, not older than `_FRESH_SECONDS`."""
        async with self._lock:
            if time.monotonic() >= self._expires:
                self._seen = await _look(runtime)
                self._expires = time.monotonic() + _FRESH_SECONDS
        return self._seen


async def _look(runtime: Runtime) -> Readiness:
    try:
        async with asyncio.timeout(_DEADLINE):
            found = await runtime.health()
    except Exception as error:
        log.exception("the health checks failed")
        detail = f"The health checks failed ({type(error).__name__})."
        check = ReadyCheck(name="runtime", status="missing", detail=detail, remedy="The server's log has the cause.")
        return Readiness(status="unavailable", checks=[check])
    return _judge([ReadyCheck(**asdict(check)) for check in found])


def _judge(checks: list[ReadyCheck]) -> Readiness:
    """No run can do without the essentials; all else is a degradation that each run names for itself."""
    if any(check.name in _ESSENTIAL and check.status == "missing" for check in checks):
        return Readiness(status="unavailable", checks=checks)
    whole = all(check.status == "ok" for check in checks)
    return Readiness(status="ready" if whole else "degraded", checks=checks)
