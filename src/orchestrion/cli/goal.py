"""`orchestrion run`: one goal from the command line to its end."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from orchestrion.cli.drive import drive
from orchestrion.cli.files import check_files, read_blocks
from orchestrion.cli.opening import opened
from orchestrion.cli.render import View
from orchestrion.cli.render.view import NO_KEY, PLAYBOOK
from orchestrion.cli.screen import Screen
from orchestrion.cli.sink import JsonSink, ScreenSink, Writer
from orchestrion.cli.stop import Stop
from orchestrion.core.errors import InvalidInput
from orchestrion.core.settings import Settings, load_settings
from orchestrion.runtime import Runtime
from orchestrion.store.models import Run, RunRequest, Session

OWNER = "local"
_FLAGS = {"usd": "--budget-usd", "tokens": "--budget-tokens", "seconds": "--timeout", "goal": "The goal"}


@dataclass(frozen=True)
class Order:
    """What was typed.

    Attributes:
        fields: Of the request, but for the session and the files.
        files: As typed.
        session: An existing one to carry on.
        json: Events as JSON lines instead of progress.
    """

    fields: dict[str, Any]
    files: list[str] = field(default_factory=list)
    session: str | None = None
    json: bool = False


def run_goal(order: Order) -> int:
    """Carry one goal to its end; return the exit code.

    Raises:
        OrchestrionError: Something is wrong with what was typed or with this machine.
    """
    settings = load_settings()
    request = checked_request(order.fields)
    files = check_files(order.files, limit=settings.upload_limit_mb << 20)
    return asyncio.run(_run(settings, order, request, files))


def checked_request(fields: dict[str, Any]) -> RunRequest:
    """Build the request.

    Raises:
        InvalidInput: A value is out of its range; the sentence names the flag.
    """
    from pydantic import ValidationError

    goal = fields["goal"].strip()
    if not goal:
        raise InvalidInput("The goal is empty.", 'Say what you want, for instance: orchestrion run "hello".')
    for name, value in fields.get("budget", {}).items():
        if value is not None and not math.isfinite(value):
            raise InvalidInput(f"{_FLAGS[name]} is out of range: it has to be a finite number.", "Correct it.")
    try:
        goal.encode("utf-8")
        return RunRequest.model_validate({**fields, "goal": goal})
    except UnicodeEncodeError:
        raise InvalidInput("The goal is not valid UTF-8.", "Check the terminal's encoding.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][-1]) if first["loc"] else ""
        said = first["msg"][0].lower() + first["msg"][1:]
        raise InvalidInput(f"{_FLAGS.get(name, f'--{name}')} is out of range: {said}.", "Correct it.") from None


def playbook_label(settings: Settings, model: str | None) -> str:
    """Return what to say when the playbook answers: it was chosen, or there is no key for anything else."""
    chosen = (model or settings.model or "").startswith("playbook")
    keys = settings.anthropic_api_key or settings.openai_api_key
    return PLAYBOOK if chosen or keys else NO_KEY


async def _run(settings: Settings, order: Order, request: RunRequest, files: list[Path]) -> int:
    stop = Stop()
    stop.listen()
    async with opened(settings) as runtime:
        screen = None if order.json else Screen()
        session, request = await stop.guard(prepare(runtime, request, order.session, files, screen))
        run = await submit(runtime, request, session, created=order.session is None)
        root = runtime.workspace(session.session_id).root
        view = View(screen, root, playbook_label(settings, request.model)) if screen else None
        writer = Writer(ScreenSink(view) if view else JsonSink())
        stop.notify = writer.stopping
        async with writer.running():
            return await drive(runtime, run.run_id, writer, stop)


async def prepare(
    runtime: Runtime, request: RunRequest, wanted: str | None, files: list[Path], screen: Screen | None
) -> tuple[Session, RunRequest]:
    """Find or make the session and bring the files into it; leave nothing behind if that fails.

    Args:
        runtime: The runtime.
        request: As typed.
        wanted: The session to carry on; None makes one.
        files: That were checked.
        screen: Shows how far the reading is.

    Returns:
        The session, and the request with session and files filled in.
    """
    if wanted is not None:
        session = await runtime.get_session(wanted, owner=None)
    else:
        session = await runtime.create_session(title=request.goal, owner=OWNER)
    try:
        paths = [await upload(runtime, session.session_id, file, screen) for file in files]
    except BaseException:
        if wanted is None:
            await runtime.delete_session(session.session_id, owner=None)
        raise
    return session, request.model_copy(update={"session_id": session.session_id, "files": paths})


async def upload(runtime: Runtime, session_id: str, file: Path, screen: Screen | None) -> str:
    """Stream one file into the session; return its path there."""
    total = (await asyncio.to_thread(file.stat)).st_size
    progress = partial(_progress, screen, file.name, total) if screen else (lambda count: None)
    limit = runtime.settings.upload_limit_mb << 20
    try:
        stored = await runtime.workspace(session_id).store_upload(file.name, read_blocks(file, progress), limit=limit)
    finally:
        if screen:
            screen.status("")
    return str(stored.path)


def _progress(screen: Screen, name: str, total: int, count: int) -> None:
    screen.status(f"Reading {name}: {count * 100 // max(total, count, 1)} %")
    screen.tick()


async def submit(runtime: Runtime, request: RunRequest, session: Session, *, created: bool) -> Run:
    """Submit the request; a session made for it goes again if it is refused."""
    try:
        return await runtime.submit(request, owner=session.owner)
    except BaseException:
        if created:
            await runtime.delete_session(session.session_id, owner=None)
        raise
