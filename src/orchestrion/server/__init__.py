"""The HTTP face: FastAPI over the runtime, with Server-Sent Events, WebSocket, files and the page.

The application is loaded when it is first asked for, as the endpoint for E2B's clients does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrion.server.app import create_app
    from orchestrion.server.serving import serve

__all__ = ["create_app", "serve"]


def __getattr__(name: str) -> object:
    if name == "create_app":
        from orchestrion.server.app import create_app

        return create_app
    if name == "serve":
        from orchestrion.server.serving import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
