"""The worker: carries runs out in this process, stops them, and goes on with those whose process has died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog

from orchestrion.core import events as ev
from orchestrion.core.errors import NotFound, OrchestrionError, StoreError
from orchestrion.core.settings import Settings
from orchestrion.runtime.lease import WorkerLease
from orchestrion.runtime.turns import SessionTurns
from orchestrion.store.embedded import Store
from orchestrion.store.models import Run

if TYPE_CHECKING:
    from orchestrion.runtime.executor import Executor
    from orchestrion.sandbox import Sandboxes

log = structlog.get_logger(__name__)

_POLL = 0.5
_ADOPT = 2.0
_PATIENCE = 5.0


class Worker:
    """The runs of this process.

    Args:
        settings: The effective settings.
        store: Where everything is kept.
        lease: This process's claim to be alive.
    """

    def __init__(self, settings: Settings, store: Store, lease: WorkerLease) -> None:
        self._settings = settings
        self._store = store
        self._lease = lease
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopped: set[str] = set()
        self._slots = asyncio.Semaphore(settings.max_concurrent_runs)
        self._turns = SessionTurns(settings.home / "turns")
        self._unkept: dict[str, Callable[[], Awaitable[None]]] = {}
        self._made_executor: Executor | None = None
        self._made_sandboxes: Sandboxes | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def executor(self) -> Executor:
        """The part that carries runs out; it imports the agents, so it is made when a run needs it."""
        if self._made_executor is None:
            from orchestrion.runtime.executor import Executor

            self._made_executor = Executor(self._settings, self._store, self._lease.worker, self.sandboxes)
        return self._made_executor

    def sandboxes(self, *, pool: int = 0) -> Sandboxes:
        """Return the sandboxes of this process, imported when first asked for.

        Args:
            pool: How many to keep ready, if this is the first call and the settings don't say.
        """
        if self._made_sandboxes is None:
            from orchestrion.sandbox import Sandboxes

            self._made_sandboxes = Sandboxes(self._settings, pool=pool)
        return self._made_sandboxes

    async def leave_sandboxes(self) -> None:
        """Let go of the sandboxes; they live on."""
        if self._made_sandboxes is not None:
            await self._made_sandboxes.aclose()

    def watch(self, *, adopt: bool) -> None:
        """Begin to look after runs: those that another process asked to stop and, with `adopt`, orphans."""
        self._watcher = asyncio.create_task(self._watch_forever(adopt))

    def start(self, run: Run, *, first: bool = False, resumed: bool = False) -> None:
        """Begin to carry a run out that is this worker's; see `Executor.carry_out`."""
        task = asyncio.create_task(self._carry_out(run, first, resumed), name=run.run_id)
        self._tasks[run.run_id] = task
        task.add_done_callback(lambda _: self._forget(run.run_id))

    def _forget(self, run_id: str) -> None:
        self._tasks.pop(run_id, None)
        self._stopped.discard(run_id)

    async def _carry_out(self, run: Run, first: bool, resumed: bool) -> None:
        try:
            async with self._turns.turn(run.session_id, partial(self._say_waiting, run)), self._slots:
                await self.executor.carry_out(run, first=first, resumed=resumed)
        except asyncio.CancelledError:
            if run.run_id in self._stopped:
                await self._surely(run.run_id, partial(self._end, run.run_id, ev.RunCancelledEvent()))
        except Exception as error:
            log.exception("run could not be carried out", run_id=run.run_id, error=str(error))
            await self.give_up(run, error)

    async def _say_waiting(self, run: Run) -> None:
        text = "An earlier goal of this conversation is still being worked on; this one comes after it."
        notice = ev.RunNotice(run_id=run.run_id, level="info", code="waiting_for_turn", text=text)
        await self._store.journal.append(notice)

    async def give_up(self, run: Run, error: Exception) -> None:
        """End a run that could not be carried out, as soon as the store can keep that."""
        failed = ev.RunFailed(code="internal", error=f"The run failed unexpectedly: {type(error).__name__}: {error}")
        if isinstance(error, OrchestrionError):
            failed = ev.RunFailed(code=error.code, error=error.detail, remedy=error.remedy)
        await self._surely(run.run_id, partial(self._end, run.run_id, failed))

    async def _surely(self, run_id: str, unit: Callable[[], Awaitable[None]]) -> None:
        """Do something for a run now or, if the store can't keep it, later."""
        self._unkept.pop(run_id, None)
        try:
            await unit()
        except StoreError as error:
            self._unkept[run_id] = unit
            self._store.journal.break_off(run_id, error)
            log.warning("a run's state could not be kept yet", run_id=run_id, error=str(error))
        except NotFound:
            log.info("the run was removed meanwhile", run_id=run_id)

    async def _end(self, run_id: str, end: ev.EventBase) -> None:
        """End a run, unless its record says that it had ended by itself just then."""
        run = await self._plain_run(run_id)
        if run.ended:
            await self._end_visibly(run)
        else:
            await self.executor.settle(run, end)

    async def _plain_run(self, run_id: str) -> Run:
        return await self._store.records.run(run_id, None)

    def carries(self, run_id: str) -> bool:
        """Say whether a run is carried out here."""
        return run_id in self._tasks

    def stop(self, run_id: str) -> bool:
        """Stop a run if it is carried out here, and say whether it is. One that is just ending is let end."""
        if run_id not in self._tasks:
            return False
        if run_id not in self._stopped | self.executor.settling:
            self._stopped.add(run_id)
            self._tasks[run_id].cancel()
        return True

    async def settled(self, run_id: str) -> bool:
        """Wait until this process is done with a run that has ended; False if that takes too long."""
        task = self._tasks.get(run_id)
        if task is None:
            return True
        await asyncio.wait({task}, timeout=_PATIENCE)
        return task.done()

    async def claim(self, run: Run) -> bool:
        """Take a run over from its dead process; False if somebody was faster."""
        return await self._store.records.claim_run(run.run_id, self._lease.worker, run.worker)

    async def go_on(self, run: Run, reason: str) -> None:
        """Say that a run goes on, so that its readers stay, and let it."""
        await self._surely(run.run_id, partial(self._go_on, run, reason))

    async def _go_on(self, run: Run, reason: str) -> None:
        resumed = ev.RunResumed(run_id=run.run_id, worker=self._lease.worker, reason=reason)
        await self._store.journal.append(resumed)
        self.start(run, resumed=True)

    async def _watch_forever(self, adopt: bool) -> None:
        """Stop runs that another process was asked to stop; adopt those whose process has died."""
        waited = _ADOPT
        while True:
            try:
                for run_id in await self._store.records.cancels(self._lease.worker):
                    self.stop(run_id)
                for run_id, unit in list(self._unkept.items()):
                    await self._surely(run_id, unit)
                if adopt and waited >= _ADOPT:
                    waited = 0.0
                    await self._adopt_orphans()
            except Exception as error:
                log.warning("looking after runs failed", error=str(error))
            await asyncio.sleep(_POLL)
            waited += _POLL

    async def _adopt_orphans(self) -> None:
        for run in await self._store.records.orphans(self._lease.worker):
            if self._lease.alive(run.worker) or not await self.claim(run):
                continue
            if run.ended:
                await self._surely(run.run_id, partial(self._end_visibly, run))
            else:
                await self.go_on(run, "Its process had ended; it goes on from its last step.")

    async def _end_visibly(self, run: Run) -> None:
        """A process died between a run's record and its terminal event: append what the record says."""
        last = await self._last_event(run.run_id)
        if last is not None and last.terminal:
            await self._store.records.release_run(run.run_id, self._lease.worker)
            return
        ends: dict[str, ev.EventBase] = {
            "finished": ev.RunFinished(answer=run.answer),
            "cancelled": ev.RunCancelledEvent(answer=run.answer),
            "budget_spent": ev.RunBudgetSpent(kind="unknown", limit=0, answer=run.answer),
        }
        failed = ev.RunFailed(code="internal", error=run.error, answer=run.answer)
        await self.executor.settle(run, ends.get(run.state, failed))

    async def _last_event(self, run_id: str) -> ev.Event | None:
        last: ev.Event | None = None
        while page := await self._store.journal.read(run_id, after=last.seq if last else 0):
            last = page[-1]
        return last

    async def hand_back(self) -> None:
        """Stop working without ending the runs: whoever comes next goes on with them."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        tasks, stopped = dict(self._tasks), set(self._stopped)
        for run_id, task in tasks.items():
            if run_id not in self.executor.settling:
                task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for run_id in tasks.keys() - stopped:
            with suppress(StoreError, NotFound):  # then it is found to be without a worker later on
                run = await self._plain_run(run_id)
                if not run.ended:
                    await self._store.records.update_run(run.model_copy(update={"state": "queued", "worker": None}))
