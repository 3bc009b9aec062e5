"""`orchestrion sandbox list`, `pause`, `resume`, `fork`, `kill`: the sandboxes of this data directory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from orchestrion.cli.options import print_json
from orchestrion.cli.quiet import calm_logs
from orchestrion.cli.table import print_table
from orchestrion.cli.text import ago
from orchestrion.core.errors import OrchestrionError
from orchestrion.core.settings import load_settings
from orchestrion.sandbox import Sandboxes
from orchestrion.sandbox.registry import Held

T = TypeVar("T")


def ask(question: Callable[[Sandboxes], Awaitable[T]]) -> T:
    """Do something with the sandboxes of this data directory."""

    async def _ask() -> T:
        settings = load_settings()
        calm_logs(settings)
        sandboxes = Sandboxes(settings)
        try:
            return await question(sandboxes)
        finally:
            await sandboxes.aclose()

    return asyncio.run(_ask())


def as_record(held: Held) -> dict[str, Any]:
    """Return a sandbox for JSON."""
    spec = held.info.spec
    return {
        "id": held.info.id,
        "provider": held.info.provider,
        "state": held.info.state,
        "session_id": spec.session_id,
        "template": spec.template,
        "created_at": held.info.created_at.isoformat(),
        "ends_at": held.ends_at.isoformat() if held.ends_at else None,
        "on_timeout": held.on_timeout,
        "metadata": dict(spec.metadata),
    }


def list_sandboxes(*, as_json: bool) -> None:
    """Print the sandboxes."""
    held = ask(lambda sandboxes: sandboxes.all())
    if as_json:
        print_json([as_record(one) for one in held])
    elif not held:
        print(
            "No sandboxes. One is made by the first tool call that needs it, or by: orchestrion sandbox exec -- CMD"
        )
    else:
        print_table(("SANDBOX", "STATE", "PROVIDER", "CREATED", "TEMPLATE", "SESSION"), [_row(one) for one in held])


def _row(held: Held) -> tuple[str, ...]:
    info = held.info
    return (
        info.id,
        info.state,
        info.provider,
        ago(info.created_at),
        info.spec.template,
        info.spec.session_id or "–",
    )


def pause(sandbox_id: str, *, memory: bool) -> None:
    """Pause a sandbox."""
    ask(lambda sandboxes: sandboxes.pause(sandbox_id, memory=memory))
    print(f"Paused {sandbox_id}.")


def resume(sandbox_id: str) -> None:
    """Resume a sandbox."""
    ask(lambda sandboxes: sandboxes.resume(sandbox_id))
    print(f"{sandbox_id} runs.")


def fork(sandbox_id: str, count: int, *, as_json: bool) -> int:
    """Copy a sandbox; print the copies' ids."""
    made = ask(lambda sandboxes: sandboxes.fork(sandbox_id, count=count))
    failed = [one for one in made if isinstance(one, OrchestrionError)]
    ids = [one.id for one in made if not isinstance(one, OrchestrionError)]
    if as_json:
        print_json({"sandboxes": ids, "errors": [str(error) for error in failed]})
    else:
        for one in ids:
            print(one)
        for error in failed:
            print(str(error), file=sys.stderr)
    return 1 if failed else 0


def kill(sandbox_ids: Sequence[str]) -> None:
    """End sandboxes and forget them."""

    async def question(sandboxes: Sandboxes) -> None:
        for sandbox_id in sandbox_ids:
            await sandboxes.remove(sandbox_id)
            print(f"Ended {sandbox_id}.")

    ask(question)
