"""`orchestrion serve`: the page and the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on (8700); 0 for a free one.")
    ] = None,
) -> None:
    """Serve the web page and the API until stopped."""
    from orchestrion.cli.serving import serve_forever

    serve_forever(host, port)
