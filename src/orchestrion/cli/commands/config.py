"""`orchestrion config`: the settings in effect."""

from __future__ import annotations

import typer

from orchestrion.cli.options import AsJson, print_json

app = typer.Typer(help="The settings in effect, and where each comes from.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def show(as_json: AsJson = False) -> None:
    """Print every setting with its value and origin; secrets are masked."""
    from dataclasses import asdict

    from orchestrion.cli.table import print_table
    from orchestrion.core.settings import describe, load_settings

    lines = describe(load_settings())
    if as_json:
        print_json([asdict(line) for line in lines])
    else:
        rows = [(line.name, line.value or "–", line.origin, line.description) for line in lines]
        print_table(("SETTING", "VALUE", "ORIGIN", "MEANING"), rows)
