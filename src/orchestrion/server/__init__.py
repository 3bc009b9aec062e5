"""The HTTP face: FastAPI over the runtime, with Server-Sent Events, WebSocket, files and the page."""

from __future__ import annotations

from orchestrion.server.app import create_app
from orchestrion.server.serving import serve

__all__ = ["create_app", "serve"]
