"""Sessions and runs in SQLite. Each row keeps its model as JSON beside the columns that are searched by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, insert, or_, select, update

from orchestrion.core.errors import NotFound
from orchestrion.core.events import TERMINAL_STATES
from orchestrion.store.database import Database, blobs, events, runs, sessions
from orchestrion.store.models import Run, Session


def _session_row(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "owner": session.owner,
        "updated_at": session.updated_at.isoformat(),
        "data": session.model_dump_json(),
    }


def _run_row(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "session_id": run.session_id,
        "state": run.state,
        "worker": run.worker,
        "data": run.model_dump_json(),
    }


def _held_by(worker: str | None) -> ColumnElement[bool]:
    return runs.c.worker.is_(None) if worker is None else runs.c.worker == worker


class SqliteRecords:
    """See `store.protocols.Records`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _execute(self, *statements: Any) -> int:
        def unit(connection: Connection) -> int:
            return sum(connection.execute(statement).rowcount for statement in statements)

        return await self._database.write(unit)

    async def _select(self, query: Select[Any]) -> list[str]:
        return list(await self._database.read(lambda connection: connection.execute(query).scalars().all()))

    async def add_session(self, session: Session) -> None:
        """Keep a new session."""
        await self._execute(insert(sessions).values(**_session_row(session)))

    async def session(self, session_id: str, owner: str | None) -> Session:
        """Return a session; see the protocol."""
        query = select(sessions.c.data).where(sessions.c.session_id == session_id)
        if owner is not None:
            query = query.where(sessions.c.owner == owner)
        for row in await self._select(query):
            return Session.model_validate_json(row)
        raise NotFound(f"There is no session {session_id}.", "`orchestrion sessions list` shows what there is.")

    async def sessions(self, owner: str | None, limit: int = 1000) -> list[Session]:
        """Return sessions, the last used first."""
        query = select(sessions.c.data).order_by(sessions.c.updated_at.desc()).limit(limit)
        if owner is not None:
            query = query.where(sessions.c.owner == owner)
        return [Session.model_validate_json(row) for row in await self._select(query)]

    async def update_session(self, session: Session) -> None:
        """Keep a session's new title and time."""
        row = _session_row(session)
        await self._execute(update(sessions).where(sessions.c.session_id == session.session_id).values(**row))

    async def delete_session(self, session_id: str) -> None:
        """Remove a session, its runs and their events."""
        of_session = select(runs.c.run_id).where(runs.c.session_id == session_id)
        await self._execute(
            delete(events).where(events.c.run_id.in_(of_session)),
            delete(blobs).where(blobs.c.run_id.in_(of_session)),
            delete(runs).where(runs.c.session_id == session_id),
            delete(sessions).where(sessions.c.session_id == session_id),
        )

    async def add_run(self, run: Run) -> None:
        """Keep a new run."""
        await self._execute(insert(runs).values(cancel_requested=0, **_run_row(run)))

    async def _runs(self, query: Select[*tuple[Any, ...]]) -> list[Run]:
        """Return runs; whose they are stands in a column alone, since a claim changes nothing else."""
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Run.model_validate_json(row.data).model_copy(update={"worker": row.worker}) for row in rows]

    async def run(self, run_id: str, owner: str | None) -> Run:
        """Return a run; see the protocol."""
        query = select(runs.c.data, runs.c.worker).where(runs.c.run_id == run_id)
        if owner is not None:
            query = query.join(sessions, sessions.c.session_id == runs.c.session_id).where(sessions.c.owner == owner)
        for run in await self._runs(query):
            return run
        raise NotFound(f"There is no run {run_id}.", "`orchestrion runs list` shows what there is.")

    async def runs(
        self, owner: str | None, *, session_id: str | None = None, states: Sequence[str] = (), limit: int = 100
    ) -> list[Run]:
        """Return runs, the newest first."""
        query = select(runs.c.data, runs.c.worker).order_by(runs.c.run_id.desc()).limit(limit)
        if owner is not None:
            query = query.join(sessions, sessions.c.session_id == runs.c.session_id).where(sessions.c.owner == owner)
        if session_id is not None:
            query = query.where(runs.c.session_id == session_id)
        if states:
            query = query.where(runs.c.state.in_(states))
        return await self._runs(query)

    async def update_run(self, run: Run) -> None:
        """Keep how a run stands."""
        await self._execute(update(runs).where(runs.c.run_id == run.run_id).values(**_run_row(run)))

    async def claim_run(self, run_id: str, worker: str, previous: str | None) -> bool:
        """Give a run to `worker` if it still belongs to `previous`; see the protocol."""
        claim = update(runs).where(runs.c.run_id == run_id, _held_by(previous))
        return await self._execute(claim.values(worker=worker)) == 1

    async def release_run(self, run_id: str, worker: str) -> None:
        """Let go of a run that has ended visibly, unless it has been taken up again."""
        over = and_(runs.c.run_id == run_id, runs.c.worker == worker, runs.c.state.in_(TERMINAL_STATES))
        await self._execute(update(runs).where(over).values(worker=None))

    async def reopen_run(self, run: Run, previous: Run) -> bool:
        """Keep a run that goes on, if it still stands as `previous`; see the protocol."""
        unchanged = and_(runs.c.run_id == run.run_id, runs.c.state == previous.state, _held_by(previous.worker))
        return await self._execute(update(runs).where(unchanged).values(cancel_requested=0, **_run_row(run))) == 1

    async def orphans(self, worker: str) -> list[Run]:
        """Return the runs that other workers hold, and those that wait for one."""
        waiting = and_(runs.c.worker.is_(None), runs.c.state.in_(("queued", "running")))
        held = and_(runs.c.worker.is_not(None), runs.c.worker != worker)
        return await self._runs(select(runs.c.data, runs.c.worker).where(or_(waiting, held)).order_by(runs.c.run_id))

    async def request_cancel(self, run_id: str) -> None:
        """Ask whoever carries the run out to stop it."""
        await self._execute(update(runs).where(runs.c.run_id == run_id).values(cancel_requested=1))

    async def cancels(self, worker: str) -> set[str]:
        """Return the unfinished runs of `worker` that were asked to stop."""
        query = select(runs.c.run_id).where(
            runs.c.cancel_requested == 1,
            or_(runs.c.worker == worker, runs.c.worker.is_(None)),
            runs.c.state.not_in(TERMINAL_STATES),
        )
        return set(await self._select(query))
