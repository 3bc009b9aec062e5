"""The commands and their groups."""

from __future__ import annotations

from typing import Annotated

import typer

import orchestrion
from orchestrion.cli.commands import chat, config, doctor, route, run, runs, sandbox, serve, sessions

app = typer.Typer(
    help="A self-hosted agent platform: give it a goal, get finished work.",
    epilog="Exit codes: 0 finished, 1 failed, 2 bad usage, 3 waiting for an answer, 4 budget spent, 130 cancelled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orchestrion {orchestrion.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


app.command("run")(run.run)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.add_typer(runs.app, name="runs")
app.add_typer(sessions.app, name="sessions")
app.add_typer(sandbox.app, name="sandbox")
app.command("route")(route.route)
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)
