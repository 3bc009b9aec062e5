"""`orchestrion runs list|show` and `orchestrion sessions …`: what is on record."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import typer

from orchestrion.cli.opening import opened
from orchestrion.cli.options import print_json
from orchestrion.cli.table import is_narrow, print_pairs, print_table
from orchestrion.cli.text import ago, clean, one_line
from orchestrion.core.settings import load_settings
from orchestrion.runtime import Runtime
from orchestrion.store.models import Run, Session

T = TypeVar("T")
_REPORT = "report.md"


def ask(question: Callable[[Runtime], Awaitable[T]]) -> T:
    """Ask the runtime something, without taking up any run."""

    async def _ask() -> T:
        async with opened(load_settings(), worker=False) as runtime:
            return await question(runtime)

    return asyncio.run(_ask())


def list_runs(session: str | None, limit: int, *, as_json: bool) -> None:
    """Print runs, newest first."""

    async def question(runtime: Runtime) -> list[Run]:
        if session is not None:
            await runtime.get_session(session, owner=None)
        return list(await runtime.list_runs(owner=None, session_id=session, limit=limit))

    runs = ask(question)
    if as_json:
        print_json([run.model_dump(mode="json") for run in runs])
    elif not runs:
        print('No runs yet. Begin with: orchestrion run "hello"')
    else:
        _print_runs(runs)


def _print_runs(runs: list[Run]) -> None:
    if is_narrow():
        print_table(("RUN", "STATE", "GOAL"), [(run.run_id, run.state, run.request.goal) for run in runs])
        return
    rows = [(run.run_id, run.state, run.target or "–", ago(run.created_at), run.request.goal) for run in runs]
    print_table(("RUN", "STATE", "AGENT", "CREATED", "GOAL"), rows)


def show_run(run_id: str, *, as_json: bool) -> None:
    """Print a run as it stands."""

    async def question(runtime: Runtime) -> tuple[Run, Path]:
        run = await runtime.get_run(run_id, owner=None)
        return run, runtime.workspace(run.session_id).root

    run, root = ask(question)
    if as_json:
        print_json({**run.model_dump(mode="json"), "workspace": str(root)})
        return
    tokens = run.usage.input_tokens + run.usage.output_tokens
    report = root / _REPORT
    print_pairs(
        [
            ("Run", run.run_id),
            ("Session", run.session_id),
            ("State", run.state),
            ("Agent", run.target or ""),
            ("Goal", one_line(run.request.goal, 200)),
            ("Created", ago(run.created_at)),
            ("Tokens", f"{tokens:,}" if tokens else ""),
            ("Error", run.error),
            ("Workspace", str(root)),
            ("Report", str(report) if report.is_file() and run.target not in (None, "chat") else ""),
        ]
    )
    if run.answer:
        print(f"\n{clean(run.answer).strip()}")


def list_sessions(limit: int, *, as_json: bool) -> None:
    """Print sessions, the latest first."""
    sessions = ask(lambda runtime: runtime.list_sessions(owner=None))[:limit]
    if as_json:
        print_json([session.model_dump(mode="json") for session in sessions])
    elif not sessions:
        print("No sessions yet. Begin with: orchestrion chat")
    else:
        rows = [(one.session_id, ago(one.updated_at), one.title or "–") for one in sessions]
        print_table(("SESSION", "USED", "TITLE"), rows)


def show_session(session_id: str, *, as_json: bool) -> None:
    """Print a session with its runs."""

    async def question(runtime: Runtime) -> tuple[Session, list[Run], Path]:
        session = await runtime.get_session(session_id, owner=None)
        runs = await runtime.list_runs(owner=None, session_id=session_id)
        return session, list(runs), runtime.workspace(session_id).root

    session, runs, root = ask(question)
    if as_json:
        dumped = [run.model_dump(mode="json") for run in runs]
        print_json({**session.model_dump(mode="json"), "workspace": str(root), "runs": dumped})
        return
    print_pairs(
        [
            ("Session", session.session_id),
            ("Title", session.title),
            ("Created", ago(session.created_at)),
            ("Used", ago(session.updated_at)),
            ("Workspace", str(root)),
        ]
    )
    if runs:
        print()
        _print_runs(runs)


def delete_session(session_id: str, *, confirm: bool, as_json: bool) -> None:
    """Delete a session; a person at a terminal is asked first."""
    title = _title(session_id)
    if confirm and sys.stdin.isatty():
        typer.confirm(f"Delete {title} with all its runs and files?", abort=True)
    _delete(session_id)
    if as_json:
        print_json({"session_id": session_id, "deleted": True})
    else:
        print(f"Deleted {title}.")


def _title(session_id: str) -> str:
    session = ask(lambda runtime: runtime.get_session(session_id, owner=None))
    return f"{session_id} ({one_line(session.title, 60)})" if session.title else session_id


def _delete(session_id: str) -> None:
    ask(lambda runtime: runtime.delete_session(session_id, owner=None))
