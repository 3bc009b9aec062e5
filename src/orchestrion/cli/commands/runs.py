"""`orchestrion runs`: what was done, and what is being done."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrion.cli.options import AsJson, Limit

app = typer.Typer(help="List, show, follow, cancel and resume runs.", no_args_is_help=True)
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", show_default=False)]


@app.command("list")
def list_(
    session: Annotated[str | None, typer.Option(metavar="ID", help="Only this session's.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from orchestrion.cli.records import list_runs

    list_runs(session, limit, as_json=as_json)


@app.command()
def show(run_id: RunId, as_json: AsJson = False) -> None:
    """Show how a run stands, its answer and its files."""
    from orchestrion.cli.records import show_run

    show_run(run_id, as_json=as_json)


@app.command()
def events(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run ends.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="Begin after this number.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print a run's events."""
    from orchestrion.cli.eventlog import print_events

    print_events(run_id, follow=follow, after=after, as_json=as_json)


@app.command()
def cancel(run_id: RunId, as_json: AsJson = False) -> int:
    """Stop a run."""
    from orchestrion.cli.control import cancel_run

    return cancel_run(run_id, as_json=as_json)


@app.command()
def resume(run_id: RunId, as_json: AsJson = False) -> int:
    """Take up a run that was interrupted, and follow it to its end."""
    from orchestrion.cli.control import resume_run

    return resume_run(run_id, as_json=as_json)
