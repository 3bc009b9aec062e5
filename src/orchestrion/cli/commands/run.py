"""`orchestrion run`: one goal."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestrion.cli.options import AsJson, Files

AgentOption = Literal["chat", "research", "data", "computer"]
ModeOption = Literal["auto", "chat", "agent"]


def run(
    *,
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What you want, in your words.", show_default=False)],
    file: Files = None,
    agent: Annotated[
        AgentOption | None,
        typer.Option(metavar="NAME", help="The agent of your choice: chat, research, data or computer."),
    ] = None,
    mode: Annotated[
        ModeOption, typer.Option(metavar="MODE", help="auto, chat (only a plain answer) or agent (only a task).")
    ] = "auto",
    session: Annotated[str | None, typer.Option(metavar="ID", help="Carry on this session.")] = None,
    model: Annotated[str | None, typer.Option(metavar="P:M", help="provider:model; playbook for none.")] = None,
    sandbox: Annotated[str | None, typer.Option(metavar="NAME", help="The sandbox provider.")] = None,
    budget_usd: Annotated[float | None, typer.Option(metavar="N", help="Most money to spend, US dollars.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(metavar="N", help="Most tokens to use.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", help="Most seconds to take.")] = None,
    as_json: AsJson = False,
) -> int:
    """Carry out one goal, with live progress, and say where the finished files are."""
    from orchestrion.cli.goal import Order, run_goal

    fields = {
        "goal": goal,
        "mode": mode,
        "agent": agent,
        "model": model,
        "sandbox": sandbox,
        "budget": {"usd": budget_usd, "tokens": budget_tokens, "seconds": timeout},
    }
    return run_goal(Order(fields, file or [], session, as_json))
