"""The runtime: sessions and runs, whoever asks for them and whichever process carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast, get_args

import structlog

from orchestrion.core import events as ev
from orchestrion.core.errors import ConfigError, Conflict, InvalidInput, NotFound, SandboxUnavailable
from orchestrion.core.ids import is_id, new_id
from orchestrion.core.logs import configure_logs
from orchestrion.core.settings import SandboxMode, Settings
from orchestrion.runtime.health import Check, check_all
from orchestrion.runtime.lease import WorkerLease
from orchestrion.runtime.worker import Worker
from orchestrion.store.embedded import Store, open_embedded
from orchestrion.store.models import Run, RunRequest, Session
from orchestrion.store.workspace import Workspace

if TYPE_CHECKING:
    from orchestrion.sandbox import Sandboxes

log = structlog.get_logger(__name__)

_SETTLE = 5.0
_TITLE = 60
_OWNERS = 1024


def _now() -> datetime:
    return datetime.now(UTC)


class Runtime:
    """Everything the faces need. Use as an async context manager.

    Args:
        settings: The effective settings.
        worker: Carry out the runs that are submitted here; else this process only reads and asks.
        adopt: Also go on with runs whose process has died, as a server does.
    """

    def __init__(self, settings: Settings, *, worker: bool = True, adopt: bool = False) -> None:
        self.settings = settings
        self._works = worker
        self._adopts = adopt
        self._stack = AsyncExitStack()
        self._owners: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Open the store and begin to look after runs.

        Raises:
            StoreError: The data directory can't be used.
        """
        configure_logs(self.settings)
        self._store: Store = await self._stack.enter_async_context(open_embedded(self.settings.home))
        self._lease = WorkerLease(self.settings.home / "workers")
        self._stack.callback(self._lease.release)
        self._worker = Worker(self.settings, self._store, self._lease)
        self._stack.push_async_callback(self._worker.leave_sandboxes)
        if self._adopts:
            await self._stack.enter_async_context(self._worker.sandboxes(pool=1))
        self._stack.push_async_callback(self._worker.hand_back)
        if self._works:
            self._worker.watch(adopt=self._adopts)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hand back what is not finished and close the store."""
        await self._stack.aclose()

    async def warm(self) -> None:
        """Import and build beforehand what the first answer needs."""
        executor = await asyncio.to_thread(lambda: self._worker.executor)
        await executor.models(None).warm()
        try:
            await self.sandboxes().warm()
        except SandboxUnavailable as error:
            log.warning("no sandbox can be made here", why=error.detail, remedy=error.remedy)

    # Sessions

    async def create_session(self, *, title: str = "", owner: str) -> Session:
        """Begin a conversation."""
        session = _new_session(title, owner)
        await self._store.records.add_session(session)
        return session

    async def list_sessions(self, *, owner: str | None) -> list[Session]:
        """Return sessions, the last used first."""
        return await self._store.records.sessions(owner)

    async def get_session(self, session_id: str, *, owner: str | None) -> Session:
        """Return a session.

        Raises:
            NotFound: There is none, or it is another owner's.
        """
        return await self._store.records.session(session_id, owner)

    async def rename_session(self, session_id: str, title: str, *, owner: str | None) -> Session:
        """Give a session another title. Raises as `get_session`."""
        session = await self.get_session(session_id, owner=owner)
        renamed = session.model_copy(update={"title": title.strip()[:_TITLE], "updated_at": _now()})
        await self._store.records.update_session(renamed)
        return renamed

    async def delete_session(self, session_id: str, *, owner: str | None) -> None:
        """Stop a session's runs and remove it with its files, traces and sandbox. Raises as `get_session`.

        Raises:
            Conflict: A run does not stop; nothing is removed.
        """
        await self.get_session(session_id, owner=owner)
        runs = await self._store.records.runs(None, session_id=session_id, limit=10_000)
        for run in runs:
            ended = run.ended or (await self.cancel(run.run_id, owner=owner)).ended
            if not (ended and await self._worker.settled(run.run_id)):
                raise Conflict("A run of this session has not stopped yet.", "Try again in a moment.")
        await self.sandboxes().close(session_id)
        await self._store.records.delete_session(session_id)
        await self.workspace(session_id).destroy()
        for run in runs:
            await self._store.checkpoints.adelete_thread(run.run_id)
            await Workspace(self._trace_directory(run.run_id)).destroy()

    def workspace(self, session_id: str) -> Workspace:
        """Return a session's files; ask `get_session` first whether it is there.

        Raises:
            NotFound: That is not a session's id.
        """
        if not is_id(session_id, "ses"):
            raise NotFound(f"There is no session {session_id}.")
        return Workspace(self.settings.home / "workspaces" / session_id)

    # Runs

    async def submit(self, request: RunRequest, *, owner: str) -> Run:
        """Accept a goal and start on it.

        Raises:
            NotFound: There is no such session or file.
            InvalidInput: The goal is empty, or there is no such model or sandbox provider.
            Conflict: This process carries out no runs.
        """
        if not self._works:
            raise Conflict("This process carries out no runs.")
        if not request.goal.strip():
            raise InvalidInput("The goal is empty.", "Say what you want done.")
        await self._check(request)
        first = request.session_id is None
        session, keep = await self._session_for(request, owner)
        request = request.model_copy(update={"session_id": session.session_id})
        run = Run(
            run_id=new_id("run"),
            session_id=session.session_id,
            state="queued",
            request=request,
            worker=self._lease.worker,
            created_at=_now(),
        )
        created = ev.RunCreated(run_id=run.run_id, session_id=run.session_id, goal=request.goal, files=request.files)
        kept = await asyncio.gather(
            keep(session),
            self._store.records.add_run(run),
            self._store.journal.append(created),
            return_exceptions=True,
        )
        for error in kept:
            if isinstance(error, Exception):
                await self._worker.give_up(run, error)  # what was kept of it must not look as if it were to come
                raise error
        self._remember_owner(run.run_id, session.owner)
        self._worker.start(run, first=first)
        return run

    def _remember_owner(self, run_id: str, owner: str) -> None:
        """Keep whose the latest runs are, so that following a fresh run needs no look into the store."""
        self._owners[run_id] = owner
        if len(self._owners) > _OWNERS:
            del self._owners[next(iter(self._owners))]

    async def _check(self, request: RunRequest) -> None:
        """Refuse what could not be carried out, before anything is kept."""
        if request.sandbox not in {None, *get_args(SandboxMode)}:
            raise InvalidInput(
                f"There is no sandbox provider {request.sandbox}.", "This version has: local, e2b, hybrid."
            )
        try:
            await self._worker.executor.models(request.model).prepare("orchestrator")
        except ConfigError as error:
            raise InvalidInput(error.detail, error.remedy) from None

    async def _session_for(
        self, request: RunRequest, owner: str
    ) -> tuple[Session, Callable[[Session], Awaitable[None]]]:
        """Check what the request names; return its session, a new one if it names none, and how to keep it."""
        if request.session_id is None:
            if request.files:
                raise InvalidInput("Files belong to a session, and none is named.", "Name the session_id too.")
            return _new_session(_title(request.goal), owner), self._store.records.add_session
        session = await self.get_session(request.session_id, owner=owner)
        for path in request.files:
            self.workspace(session.session_id).stat(path)
        update = {"title": session.title or _title(request.goal), "updated_at": _now()}
        return session.model_copy(update=update), self._store.records.update_session

    def _shown(self, run: Run) -> Run:
        """A run whose process has died is waiting to be taken up, not running."""
        if run.state == "running" and not self._lease.alive(run.worker):
            return run.model_copy(update={"state": "queued"})
        return run

    async def list_runs(self, *, owner: str | None, session_id: str | None = None, limit: int = 100) -> list[Run]:
        """Return runs, the newest first."""
        runs = await self._store.records.runs(owner, session_id=session_id, limit=limit)
        return [self._shown(run) for run in runs]

    async def get_run(self, run_id: str, *, owner: str | None) -> Run:
        """Return a run.

        Raises:
            NotFound: There is none, or it is another owner's.
        """
        return self._shown(await self._store.records.run(run_id, owner))

    async def cancel(self, run_id: str, *, owner: str | None) -> Run:
        """Stop a run, wherever it is carried out. Does nothing to one that has ended. Raises as `get_run`."""
        run = await self.get_run(run_id, owner=owner)
        if run.ended:
            return run
        await self._store.records.request_cancel(run_id)
        if not self._worker.stop(run_id) and not self._lease.alive(run.worker) and await self._worker.claim(run):
            await self._worker.executor.settle(run, ev.RunCancelledEvent())
        await self._wait_for_end(run_id)
        return await self.get_run(run_id, owner=owner)

    async def _wait_for_end(self, run_id: str) -> None:
        """Give a run that was asked to stop a moment to do so."""
        try:
            async with asyncio.timeout(_SETTLE):
                async for _ in self._store.journal.follow(run_id):
                    pass
        except TimeoutError:
            log.warning("run has not stopped yet", run_id=run_id)

    async def resume(self, run_id: str, *, owner: str | None) -> Run:
        """Go on with a run that failed, was stopped, spent its budget, or whose process died. Raises as `get_run`.

        Raises:
            Conflict: It is finished, or somebody carries it out.
        """
        run = await self._store.records.run(run_id, owner)
        if run.state == "finished":
            raise Conflict("That run is finished: there is nothing to resume.", "Send a new goal to its session.")
        if not self._works:
            raise Conflict("This process carries out no runs.")
        if run.ended and await self._worker.settled(run_id):
            run = await self._store.records.run(run_id, owner)
        reopened = run.model_copy(
            update={"state": "queued", "worker": self._lease.worker, "ended_at": None, "error": ""}
        )
        busy = self._lease.alive(run.worker)
        if busy or not await self._store.records.reopen_run(reopened, run):
            raise Conflict("That run is being carried out.", "Follow it, or cancel it first.")
        await self._worker.go_on(reopened, "You asked for it.")
        return reopened

    # Reading

    async def events(self, run_id: str, *, owner: str | None, after: int = 0, limit: int = 1000) -> list[ev.Event]:
        """Return a run's events after a number. Raises as `get_run`."""
        await self._store.records.run(run_id, owner)
        return await self._store.journal.read(run_id, after=after, limit=limit)

    async def follow(self, run_id: str, *, owner: str | None, after: int = 0) -> AsyncIterator[ev.Event]:
        """Yield a run's events after a number, as they come, to the terminal one. Raises as `get_run`."""
        async with aclosing(self.follow_batches(run_id, owner=owner, after=after)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def follow_batches(
        self, run_id: str, *, owner: str | None, after: int = 0
    ) -> AsyncGenerator[list[ev.Event], None]:
        """As `follow`, but what is there is yielded together. Raises as `get_run`."""
        if not (self._worker.carries(run_id) and owner in {None, self._owners.get(run_id)}):
            await self._store.records.run(run_id, owner)
        batches = cast(AsyncGenerator[list[ev.Event], None], self._store.journal.follow_batches(run_id, after=after))
        async with aclosing(batches):
            async for batch in batches:
                yield batch

    def _trace_directory(self, run_id: str) -> Path:
        return self.settings.home / "traces" / run_id

    async def trace_path(self, run_id: str, *, owner: str | None) -> Path:
        """Return the directory of a run's trace, written anew if the run is still under way. Raises as `get_run`."""
        run = await self.get_run(run_id, owner=owner)
        directory = self._trace_directory(run_id)
        if run.ended and (directory / "session.json").is_file():
            return directory
        from orchestrion.tracing import write_trace

        return await write_trace(run, self._store.journal, self._store.blobs, directory)

    async def usage(self, *, owner: str | None) -> dict[str, Any]:
        """Return what all runs together have used, and each of them."""
        runs = await self._store.records.runs(owner, limit=10_000)
        priced = [run.usage.usd for run in runs if run.usage.usd is not None]
        return {
            "runs": len(runs),
            "input_tokens": sum(run.usage.input_tokens for run in runs),
            "output_tokens": sum(run.usage.output_tokens for run in runs),
            "usd": sum(priced),
            "unpriced_runs": len(runs) - len(priced),
        }

    def sandboxes(self) -> Sandboxes:
        """Return the sandboxes of this data directory."""
        return self._worker.sandboxes()

    async def health(self) -> list[Check]:
        """Say what works, what is degraded and how to mend it."""
        return await check_all(self.settings, lambda: self._store.records.sessions(None, 1), self.sandboxes())


def _new_session(title: str, owner: str) -> Session:
    now = _now()
    return Session(session_id=new_id("ses"), title=title[:_TITLE], owner=owner, created_at=now, updated_at=now)


def _title(goal: str) -> str:
    text = " ".join(goal.split())
    return text if len(text) <= _TITLE else text[: _TITLE - 1].rstrip() + "…"
