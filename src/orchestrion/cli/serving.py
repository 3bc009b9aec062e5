"""`orchestrion serve`: start the server and say when it is ready."""

from __future__ import annotations

import asyncio

from orchestrion.core.settings import load_settings


def serve_forever(host: str | None, port: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        OrchestrionError: A setting is wrong, or the address can't be listened on.
    """
    settings = load_settings(host=host, port=port)
    from orchestrion.server import serve

    asyncio.run(serve(settings, on_ready=_ready))


def _ready(url: str) -> None:
    print(f"Orchestrion is ready on {url}", flush=True)
