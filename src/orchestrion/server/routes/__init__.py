"""The routes, one file a resource."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrion.server.routes import (
    agents,
    chat,
    docs,
    files,
    health,
    page,
    runs,
    sandbox_files,
    sandbox_ports,
    sandbox_processes,
    sandboxes,
    sessions,
    stream,
    traces,
)

# The page's catch-all comes last.
ROUTERS: tuple[APIRouter, ...] = (
    chat.router,
    stream.router,
    runs.router,
    sessions.router,
    files.router,
    agents.router,
    sandboxes.router,
    sandboxes.snapshots,
    sandbox_files.router,
    sandbox_processes.router,
    sandbox_ports.router,
    traces.router,
    health.router,
    docs.router,
    page.router,
)

__all__ = ["ROUTERS"]
