"""`orchestrion route`: the supervisor's decision, without running anything."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrion.cli.options import AsJson, Files


def route(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The goal.", show_default=False)],
    file: Files = None,
    as_json: AsJson = False,
) -> None:
    """Say which agent would take up a goal, and why."""
    from orchestrion.cli.routing import show_route

    show_route(text, file or [], as_json=as_json)
