"""`orchestrion runs events`: the journal of one run, line by line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from orchestrion.cli.opening import opened
from orchestrion.cli.text import one_line
from orchestrion.core.events import Event, EventBase
from orchestrion.core.settings import load_settings
from orchestrion.runtime import Runtime

_PAGE = 1000
_COMMON = {*EventBase.model_fields, "type"}


def print_events(run_id: str, *, follow: bool, after: int, as_json: bool) -> None:
    """Print events, those to come too if asked to follow."""
    asyncio.run(_print(run_id, follow=follow, after=after, as_json=as_json))


async def _print(run_id: str, *, follow: bool, after: int, as_json: bool) -> None:
    async with opened(load_settings(), worker=False) as runtime:
        await runtime.get_run(run_id, owner=None)
        events = runtime.follow(run_id, owner=None, after=after) if follow else _kept(runtime, run_id, after)
        async for event in events:
            await asyncio.to_thread(_write, event, as_json=as_json)


async def _kept(runtime: Runtime, run_id: str, after: int) -> AsyncIterator[Event]:
    """Yield what is in the journal now, a page at a time."""
    while page := await runtime.events(run_id, owner=None, after=after, limit=_PAGE):
        for event in page:
            yield event
        after = page[-1].seq


def _write(event: Event, *, as_json: bool) -> None:
    line = event.model_dump_json() if as_json else describe(event)
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def describe(event: Event) -> str:
    """Return an event on one line: number, time, type, and the gist of what it says."""
    fields = event.model_dump(mode="json", exclude=_COMMON, exclude_defaults=True)
    gist = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
    return f"{event.seq:>5}  {event.ts.astimezone():%H:%M:%S}  {event.type:<18} {gist}".rstrip()


def _short(value: object) -> str:
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), 100)
