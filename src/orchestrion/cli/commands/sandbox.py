"""`orchestrion sandbox`: isolated computers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrion.cli.options import AsJson

app = typer.Typer(help="List, use, pause, copy and end sandboxes; serve them to E2B's SDKs.", no_args_is_help=True)

SandboxId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
Provider = Annotated[str | None, typer.Option("--sandbox", metavar="PROVIDER", help="local, e2b or hybrid.")]
Where = Annotated[str | None, typer.Option("--id", metavar="ID", help="In this one; else in a new one.")]
Template = Annotated[str, typer.Option("--template", metavar="NAME", help="What a new one is made of.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the sandboxes."""
    from orchestrion.cli.sandboxes import list_sandboxes

    list_sandboxes(as_json=as_json)


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec_(
    *,
    command: Annotated[list[str], typer.Argument(metavar="CMD…", show_default=False)],
    sandbox: Provider = None,
    sandbox_id: Where = None,
    template: Template = "base",
    cwd: Annotated[str | None, typer.Option(metavar="DIR", help="The directory inside.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="user or root.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, metavar="S", help="Most seconds to take.")] = None,
) -> int:
    """Run a command in a sandbox; its output and exit code are passed through."""
    from orchestrion.cli.sandbox_run import Place, execute

    return execute(command, Place(sandbox_id, sandbox, template), cwd=cwd, user=user, timeout=timeout)


@app.command()
def shell(sandbox: Provider = None, sandbox_id: Where = None, template: Template = "base") -> int:
    """Open a shell in a sandbox."""
    from orchestrion.cli.sandbox_run import Place
    from orchestrion.cli.sandbox_run import shell as open_shell

    return open_shell(Place(sandbox_id, sandbox, template))


@app.command()
def pause(
    sandbox_id: SandboxId,
    files_only: Annotated[bool, typer.Option("--files-only", help="Keep its files, end its processes.")] = False,
) -> None:
    """Pause a sandbox."""
    from orchestrion.cli import sandboxes

    sandboxes.pause(sandbox_id, memory=not files_only)


@app.command()
def resume(sandbox_id: SandboxId) -> None:
    """Let a paused sandbox go on."""
    from orchestrion.cli import sandboxes

    sandboxes.resume(sandbox_id)


@app.command()
def fork(
    sandbox_id: SandboxId,
    count: Annotated[int, typer.Option(min=1, max=16, help="How many copies.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Copy a sandbox; print the copies' ids."""
    from orchestrion.cli import sandboxes

    return sandboxes.fork(sandbox_id, count, as_json=as_json)


@app.command()
def kill(sandbox_ids: Annotated[list[str], typer.Argument(metavar="ID…", show_default=False)]) -> None:
    """End sandboxes and forget them."""
    from orchestrion.cli import sandboxes

    sandboxes.kill(sandbox_ids)


@app.command()
def build(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the template.", show_default=False)],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD…]", show_default=False)] = None,
    base: Annotated[str, typer.Option("--from", metavar="NAME", help="The template to start from.")] = "base",
    copy: Annotated[list[str] | None, typer.Option(metavar="SRC:DST", help="Copy a file in; repeatable.")] = None,
    script: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Run it inside, as root.")] = None,
    registries: Annotated[bool, typer.Option("--registries", help="Allow the package registries.")] = False,
) -> int:
    """Make a template: files copied in, a script and a command run, the result kept."""
    from orchestrion.cli.sandbox_build import Recipe
    from orchestrion.cli.sandbox_build import build as make

    return make(Recipe(name, base, copy or [], script, command or [], registries))


@app.command()
def serve(
    *,
    domain: Annotated[
        str | None, typer.Option(help="Name that clients use, with the port if it is not 443 (sbx.localhost:PORT).")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8443,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    cert: Annotated[Path | None, typer.Option(help="Your own certificate, the whole chain, for *.DOMAIN.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
) -> None:
    """Serve E2B's protocol, so that its own SDKs work with the sandboxes made here."""
    from orchestrion.cli.sandbox_serving import serve_forever

    serve_forever(domain or f"sbx.localhost:{port}", host, port, cert, key)
