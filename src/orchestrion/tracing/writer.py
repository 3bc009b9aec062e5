"""Writes `traces/<run_id>/session.json` and `events.jsonl` from the journal, complete and untruncated.

The event types are those of the Architect/Worker/Critic design. A trace is a rendering: it can be made again from the
journal at any time, so a crash while it is written loses nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson

from orchestrion.core import events as ev
from orchestrion.store.models import Run
from orchestrion.store.protocols import Blobs, Journal

SCHEMA_VERSION = 1
_PAGE = 500


async def _all_events(journal: Journal, run_id: str) -> AsyncIterator[ev.Event]:
    after = 0
    while page := await journal.read(run_id, after=after, limit=_PAGE):
        for event in page:
            yield event
        after = page[-1].seq


class _Rendering:
    """Turns events into trace records, in order."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step = 0
        self._calls: dict[str, ev.ToolStarted] = {}

    def records(self, event: ev.Event) -> Iterator[dict[str, Any]]:
        if isinstance(event, ev.LlmCalled):
            self._step += 1
            yield self._record(event, "llm_call", _llm_call(event))
        elif isinstance(event, ev.ToolStarted):
            self._calls[event.call_id] = event
        elif isinstance(event, ev.ToolFinished):
            yield self._record(event, "tool_call", self._tool_call(event))
        elif isinstance(event, ev.RunFailed):
            error = {"code": event.code, "error": event.error, "remedy": event.remedy, "answer": event.answer}
            yield self._record(event, "episode_error", error)
        elif isinstance(event, ev.RunFinished | ev.RunCancelledEvent | ev.RunBudgetSpent):
            state = event.type.removeprefix("run.")
            end = {"state": state, "success": state == "finished", "answer": event.answer}
            yield self._record(event, "episode_end", end | {"files": [file.path for file in event.files]})

    def _tool_call(self, event: ev.ToolFinished) -> dict[str, Any]:
        started = self._calls.get(event.call_id)  # a stopped call may be told a second end
        return {
            "call_id": event.call_id,
            "name": event.name,
            "args": started.args if started else {},
            "result": event.result,
            "status": event.status,
            "seconds": event.seconds,
        }

    def _record(self, event: ev.Event, event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
        head = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self._run.run_id,
            "step": self._step,
            "event_type": event_type,
            "ts": event.ts.isoformat(),
            "seq": event.seq,
            "agent": event.agent,
        }
        return head | payload


def _llm_call(event: ev.LlmCalled) -> dict[str, Any]:
    return {
        "model": event.model,
        "role": event.role,
        "source": event.source,
        "messages": event.prompt,
        "response": event.response,
        "seconds": event.seconds,
        "first_token_seconds": event.first_token_seconds,
    }


async def _with_messages(record: dict[str, Any], blobs: Blobs) -> dict[str, Any]:
    """Put the exchange itself where the event names digests."""
    if record["event_type"] != "llm_call":
        return record
    found = await blobs.get(record["run_id"], [*record["messages"], record["response"]])
    messages = [found[digest] for digest in record["messages"]]
    tools = [message["data"] for message in messages if message["type"] == "tools"]
    return record | {
        "messages": [message for message in messages if message["type"] != "tools"],
        "tools": tools[0] if tools else [],
        "response": found[record["response"]],
    }


def _session(run: Run, count: int, records: int) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "session_id": run.session_id,
        "goal": run.request.goal,
        "agent": run.target,
        "state": run.state,
        "answer": run.answer,
        "error": run.error,
        "usage": run.usage.model_dump(),
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at and run.started_at.isoformat(),
        "ended_at": run.ended_at and run.ended_at.isoformat(),
        "journal_events": count,
        "trace_events": records,
    }


async def write_trace(run: Run, journal: Journal, blobs: Blobs, directory: Path) -> Path:
    """Write both files of a run's trace.

    Args:
        run: The run as it stands.
        journal: Where its events are.
        blobs: Where prompts and responses are.
        directory: `traces/<run_id>`; made if it is not there.

    Returns:
        The directory.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    rendering, count, records = _Rendering(run), 0, 0
    part = directory / f".events.{os.getpid()}.{id(rendering):x}.part"
    with part.open("wb") as file:
        async for event in _all_events(journal, run.run_id):
            count += 1
            for record in rendering.records(event):
                line = orjson.dumps(await _with_messages(record, blobs), default=str)
                await asyncio.to_thread(file.write, line + b"\n")
                records += 1
    part.replace(directory / "events.jsonl")
    session = orjson.dumps(_session(run, count, records), option=orjson.OPT_INDENT_2)
    part.write_bytes(session)
    part.replace(directory / "session.json")
    return directory
