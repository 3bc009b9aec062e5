"""Carries out one run: builds its context, lets the flow go, and brings it to a visible end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from orchestrion.agents import Agents
from orchestrion.core import events as ev
from orchestrion.core.errors import BudgetSpent, Conflict, OrchestrionError
from orchestrion.core.settings import Settings
from orchestrion.middleware.context import AgentContext
from orchestrion.middleware.meter import Meter
from orchestrion.middleware.model_calls import ModelCallRecorder
from orchestrion.models import Models, explain, is_model_error
from orchestrion.runtime.flow import Flow
from orchestrion.runtime.past import REPORT, Past
from orchestrion.runtime.session_sandbox import SessionSandbox
from orchestrion.runtime.supervisor import decide, urls_in
from orchestrion.store.embedded import Store
from orchestrion.store.models import AgentName, Budget, Run
from orchestrion.store.workspace import UPLOADS, Workspace
from orchestrion.tracing import write_trace

if TYPE_CHECKING:
    from orchestrion.sandbox import Sandboxes
    from orchestrion.sandbox.gateway import Grant

log = structlog.get_logger(__name__)

_HISTORY = 20
_MODELS = 32
_PAGE = 1000
_FILES = 500
_WORKING_FILES = (UPLOADS + "/", "sources/", "task.md", "plan.md")


def _now() -> datetime:
    return datetime.now(UTC)


def full_budget(asked: Budget, settings: Settings) -> Budget:
    """Fill in what the user left open from the settings."""
    return Budget(
        usd=asked.usd or settings.budget_usd,
        tokens=asked.tokens or settings.budget_tokens,
        steps=asked.steps or settings.max_steps,
        seconds=asked.seconds or settings.timeout_seconds,
    )


class Executor:
    """Carries out runs of one process, one call of `carry_out` for each.

    Args:
        settings: The effective settings.
        store: Where everything is kept.
        worker: This process's worker id.
        sandboxes: Returns the sandboxes of this process; a plain answer never asks for them.
    """

    def __init__(self, settings: Settings, store: Store, worker: str, sandboxes: Callable[[], Sandboxes]) -> None:
        self._settings = settings
        self._store = store
        self._worker = worker
        self._sandboxes = sandboxes
        self.settling: set[str] = set()
        self._agents = Agents(store.checkpoints)
        self._models: dict[str | None, Models] = {}

    def models(self, override: str | None) -> Models:
        """Return the models for a run, shared by all runs that name the same one.

        Raises:
            ConfigError: There is no such model.
        """
        if override not in self._models:
            if len(self._models) >= _MODELS:
                self._models.clear()  # clients choose the names, so the cache is bounded; models come back at a call
            self._models[override] = Models(self._settings, override)
        return self._models[override]

    def workspace(self, session_id: str) -> Workspace:
        """Return a session's files."""
        return Workspace(self._settings.home / "workspaces" / session_id)

    def trace_directory(self, run_id: str) -> Path:
        """Return where a run's trace is."""
        return self._settings.home / "traces" / run_id

    async def carry_out(self, run: Run, *, first: bool = False, resumed: bool = False) -> Run:
        """Carry a run out to a terminal state; only being cancelled leaves it without one.

        Args:
            run: The run, already this worker's.
            first: It begins its session, so there is no conversation to read.
            resumed: It goes on from what its journal and its checkpoints say.
        """
        structlog.contextvars.bind_contextvars(run_id=run.run_id, session_id=run.session_id)
        run = run.model_copy(
            update={"state": "running", "worker": self._worker, "started_at": run.started_at or _now()}
        )
        try:
            past = await self._past(run) if resumed else Past()
            history = [] if first else await self._history(run)
            flow = self._flow(run, past, history)
            opened = self._open(flow)
            end = await self._to_the_end(flow)
            await opened
        except OrchestrionError as error:
            flow, end = None, _failed(error)
        return await self.settle(run, end, flow)

    def _flow(self, run: Run, past: Past, history: list[Run]) -> Flow:
        models = self.models(run.request.model)
        decision = past.decision or _decision(run, history)
        context = self._context(run, past, models)
        recorder = ModelCallRecorder(context, self._store.blobs, models)
        return Flow(run, context, models, self._agents, recorder, self._store.journal, history, past, decision)

    def _open(self, flow: Flow) -> asyncio.Future[Any]:
        """Queue the run's first events; the model is asked meanwhile, and nobody sees its answer before them."""
        run, models = flow.run, flow.models
        role = "chat" if flow.decision.target == "chat" else "orchestrator"
        started = ev.RunStarted(
            run_id=run.run_id, worker=self._worker, model=models.label(role), playbook=models.playbook
        )
        opening: list[ev.EventBase] = [started] if flow.past.decision else [started, flow.decision]
        appended = self._store.journal.append(*opening)
        opened = asyncio.gather(appended, self._store.records.update_run(run))
        opened.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return opened

    def _context(self, run: Run, past: Past, models: Models) -> AgentContext:
        sandbox = SessionSandbox(
            self._sandboxes,
            run.request.sandbox,
            lambda: self._owner(run.session_id),
            lambda: self._grant(context, models),
        )
        workspace = self.workspace(run.session_id)
        budget = full_budget(run.request.budget, self._settings)
        meter = Meter(budget, past.usage, past.steps, past.granted, started=monotonic() - past.seconds)
        context = AgentContext(
            run_id=run.run_id,
            session_id=run.session_id,
            workspace=workspace,
            settings=self._settings,
            append=self._append,
            acquire_sandbox=sandbox.acquire,
            release_sandbox=sandbox.release,
            user_urls=frozenset(urls_in(run.request.goal)),
            private_urls_allowed=not self._settings.api_keys,
            task_files=run.request.files,
            meter=meter,
            ledger=past.ledger,
        )
        sandbox.context = context
        return context

    def _grant(self, context: AgentContext, models: Models) -> Grant:
        from orchestrion.runtime.model_door import run_grant

        return run_grant(context, models, self._store.blobs)

    async def _owner(self, session_id: str) -> str:
        return (await self._store.records.session(session_id, None)).owner

    async def _append(self, event: ev.EventBase) -> ev.EventBase:
        return (await self._store.journal.append(event))[0]

    async def _history(self, run: Run) -> list[Run]:
        runs = await self._store.records.runs(None, session_id=run.session_id, limit=_HISTORY + 1)
        ended = [other for other in runs if other.run_id != run.run_id and other.ended and other.answer]
        return list(reversed(ended[:_HISTORY]))

    async def _past(self, run: Run) -> Past:
        """Read what a run has done that goes on.

        Raises:
            Conflict: A later task has made the session's plan and report its own.
        """
        past = Past.from_events(await self._all_events(run.run_id))
        runs = await self._store.records.runs(None, session_id=run.session_id, limit=_HISTORY)
        since = past.worked_until
        later = [other for other in runs if since and other.started_at and other.started_at > since]
        if past.plan and any(other.target not in {None, "chat"} for other in later):
            raise Conflict(
                "A later task of this conversation has taken over its files since.",
                "Send the goal again as a new one.",
            )
        return past

    async def _all_events(self, run_id: str) -> list[ev.Event]:
        events: list[ev.Event] = []
        while True:
            page = await self._store.journal.read(run_id, after=events[-1].seq if events else 0, limit=_PAGE)
            events += page
            if len(page) < _PAGE:
                return events

    async def _to_the_end(self, flow: Flow) -> ev.EventBase:
        """Let the flow go and return the run's terminal event; however it ends, its sandbox is in use no more."""
        try:
            return await self._end_of(flow)
        finally:
            await flow.context.release_sandbox()

    async def _end_of(self, flow: Flow) -> ev.EventBase:
        try:
            answer = await flow.carry_out()
        except BudgetSpent as spent:
            return ev.RunBudgetSpent(kind=spent.kind, limit=spent.limit, answer=f"I stopped early: {spent}.")
        except OrchestrionError as error:
            return _failed(error)
        except Exception as error:
            if is_model_error(error):
                return _failed(explain(error))
            log.exception("run failed", error=str(error))
            return ev.RunFailed(
                code="internal", error=f"The run failed unexpectedly: {type(error).__name__}: {error}"
            )
        return ev.RunFinished(answer=answer)

    async def settle(self, run: Run, end: ev.EventBase, flow: Flow | None = None) -> Run:
        """Bring a run to its terminal state: record first, then the event, then the trace.

        Args:
            run: The run as it stood.
            end: Its terminal event.
            flow: What carried it out, if it got that far.
        """
        self.settling.add(run.run_id)
        try:
            return await self._settle(run, end, flow)
        finally:
            self.settling.discard(run.run_id)

    async def _settle(self, run: Run, end: ev.EventBase, flow: Flow | None) -> Run:
        past = Past.from_events(await self._all_events(run.run_id))
        fields = {"run_id": run.run_id, "files": _files(past), "agent": "orchestrator" if flow else "system"}
        end = end.model_copy(update=fields)
        run = run.model_copy(
            update={
                "state": end.model_dump()["type"].removeprefix("run."),
                "answer": getattr(end, "answer", ""),
                "error": getattr(end, "error", ""),
                "usage": flow.context.meter.usage if flow else past.usage,
                "target": past.decision.target if past.decision else run.target,
                "worker": self._worker,
                "ended_at": _now(),
            }
        )
        await self._store.records.update_run(run)
        await self._store.journal.append(end)
        await self._store.records.release_run(run.run_id, self._worker)
        await self._tidy_up(run)
        return run.model_copy(update={"worker": None})

    async def _tidy_up(self, run: Run) -> None:
        """Drop what an ended run needs no more and write its trace; nothing here changes how it ended."""
        try:
            if run.state == "finished" and run.target != "chat":
                await self._store.checkpoints.adelete_thread(run.run_id)
            await write_trace(run, self._store.journal, self._store.blobs, self.trace_directory(run.run_id))
        except Exception as error:
            log.warning("the run's trace could not be written; it is made again when asked for", error=str(error))


def _files(past: Past) -> list[ev.FileRef]:
    """List the files that a run wrote, the report first."""
    written = [file for path, file in past.artifacts.items() if not path.startswith(_WORKING_FILES)]
    return sorted(written, key=lambda file: (file.path != REPORT, file.path))[:_FILES]


def _decision(run: Run, history: list[Run]) -> ev.RouteDecided:
    """Have the supervisor decide who takes the run."""
    request = run.request
    earlier: list[AgentName | None] = [other.target for other in history if other.target not in {None, "chat"}]
    found = decide(
        request.goal, request.files, mode=request.mode, agent=request.agent, earlier=earlier[-1] if earlier else None
    )
    return ev.RouteDecided(
        run_id=run.run_id,
        agent="orchestrator",
        target=found.agent,
        reason=found.reason,
        by=found.by,
        skill=found.skill,
    )


def _failed(error: OrchestrionError) -> ev.RunFailed:
    return ev.RunFailed(code=error.code, error=error.detail, remedy=error.remedy)
