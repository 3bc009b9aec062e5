"""`orchestrion runs cancel|resume`."""

from __future__ import annotations

import asyncio

from orchestrion.cli.drive import drive
from orchestrion.cli.errors import complain
from orchestrion.cli.goal import playbook_label
from orchestrion.cli.opening import opened
from orchestrion.cli.options import print_json
from orchestrion.cli.render import View
from orchestrion.cli.screen import Screen
from orchestrion.cli.sink import JsonSink, ScreenSink, Writer
from orchestrion.cli.stop import Stop
from orchestrion.core.settings import load_settings
from orchestrion.runtime import Runtime
from orchestrion.store.models import Run


def cancel_run(run_id: str, *, as_json: bool) -> int:
    """Stop a run, whichever process carries it out; return 1 if it has not confirmed that."""
    run = asyncio.run(_cancel(run_id))
    if as_json:
        print_json({"run_id": run.run_id, "state": run.state})
    elif run.ended:
        print(f"{run.run_id} is {run.state.replace('_', ' ')}.")
    if not run.ended:
        complain(f"{run.run_id} was asked to stop, and is still {run.state}.", "Ask again in a moment.")
    return 0 if run.ended else 1


async def _cancel(run_id: str) -> Run:
    async with opened(load_settings(), worker=False) as runtime:
        return await runtime.cancel(run_id, owner=None)


def resume_run(run_id: str, *, as_json: bool) -> int:
    """Take up a run again and show what follows; return its exit code."""
    return asyncio.run(_resume(run_id, as_json=as_json))


async def _resume(run_id: str, *, as_json: bool) -> int:
    settings = load_settings()
    stop = Stop()
    stop.listen()
    async with opened(settings) as runtime:
        run = await runtime.get_run(run_id, owner=None)
        last = await _last_number(runtime, run_id)
        await stop.guard(runtime.resume(run_id, owner=None))
        root = runtime.workspace(run.session_id).root
        label = playbook_label(settings, run.request.model)
        sink = JsonSink() if as_json else ScreenSink(View(Screen(), root, label))
        writer = Writer(sink)
        stop.notify = writer.stopping
        async with writer.running():
            return await drive(runtime, run_id, writer, stop, after=last)


async def _last_number(runtime: Runtime, run_id: str) -> int:
    last = 0
    while page := await runtime.events(run_id, owner=None, after=last, limit=1000):
        last = page[-1].seq
    return last
