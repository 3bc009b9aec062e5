"""`orchestrion sessions`: conversations and their workspaces."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrion.cli.options import AsJson, Limit

app = typer.Typer(help="List, show and delete sessions.", no_args_is_help=True)
SessionId = Annotated[str, typer.Argument(metavar="SESSION_ID", show_default=False)]


@app.command("list")
def list_(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List sessions, the latest first."""
    from orchestrion.cli.records import list_sessions

    list_sessions(limit, as_json=as_json)


@app.command()
def show(session_id: SessionId, as_json: AsJson = False) -> None:
    """Show a session, its runs and where its files are."""
    from orchestrion.cli.records import show_session

    show_session(session_id, as_json=as_json)


@app.command()
def delete(
    session_id: SessionId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a session with its runs and files."""
    from orchestrion.cli.records import delete_session

    delete_session(session_id, confirm=not yes and not as_json, as_json=as_json)
