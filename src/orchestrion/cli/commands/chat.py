"""`orchestrion chat`: a conversation."""

from __future__ import annotations

from typing import Annotated

import typer


def chat(
    session: Annotated[str | None, typer.Option(metavar="ID", help="Carry on this session.")] = None,
    model: Annotated[str | None, typer.Option(metavar="P:M", help="provider:model; playbook for none.")] = None,
) -> int:
    """Talk with it in the terminal; with piped input, one goal a line."""
    from orchestrion.cli.talk import talk

    return talk(session, model)
