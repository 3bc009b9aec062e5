"""What the store promises, whichever engine keeps it.

Embedded, all of it is one SQLite file; the distributed engines implement the same protocols.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Protocol

from orchestrion.core.errors import StoreError
from orchestrion.core.events import Event, EventBase
from orchestrion.store.models import Run, Session


class Journal(Protocol):
    """The append-only log of events: numbered per run from 1, without gaps, each appended once."""

    def append(self, *events: EventBase) -> Awaitable[list[Event]]:
        """Append events and return them numbered; they are kept before anyone sees them.

        The order of the calls is the order of the events, whether or not one is waited for before the next.

        Raises:
            StoreError: They could not be kept; none of them was.
        """
        ...

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return a run's events with `seq` greater than `after`, in order."""
        ...

    def follow(self, run_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield a run's events from `after` on, as they come, and end after the terminal one."""
        ...

    def break_off(self, run_id: str, error: StoreError) -> None:
        """Raise `error` in a run's followers once they have all there is: what comes next can't be kept for now."""
        ...

    def follow_batches(self, run_id: str, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """As `follow`, but what is there is yielded together."""
        ...


class Blobs(Protocol):
    """Content-addressed values of a run: what repeats from event to event is kept once, and goes with the run."""

    async def put(self, run_id: str, values: Sequence[Any]) -> list[str]:
        """Keep JSON values of a run and return their digests, in order."""
        ...

    async def get(self, run_id: str, digests: Sequence[str]) -> dict[str, Any]:
        """Return the values of a run that are there, by digest."""
        ...


class Records(Protocol):
    """Sessions and runs as they stand. `owner` None sees everyone's."""

    async def add_session(self, session: Session) -> None:
        """Keep a new session."""
        ...

    async def session(self, session_id: str, owner: str | None) -> Session:
        """Return a session.

        Raises:
            NotFound: There is none, or it is another owner's.
        """
        ...

    async def sessions(self, owner: str | None, limit: int = 1000) -> list[Session]:
        """Return sessions, the last used first."""
        ...

    async def update_session(self, session: Session) -> None:
        """Keep a session's new title and time."""
        ...

    async def delete_session(self, session_id: str) -> None:
        """Remove a session, its runs, their events and their blobs."""
        ...

    async def add_run(self, run: Run) -> None:
        """Keep a new run."""
        ...

    async def run(self, run_id: str, owner: str | None) -> Run:
        """Return a run.

        Raises:
            NotFound: There is none, or it is another owner's.
        """
        ...

    async def runs(
        self, owner: str | None, *, session_id: str | None = None, states: Sequence[str] = (), limit: int = 100
    ) -> list[Run]:
        """Return runs, the newest first."""
        ...

    async def update_run(self, run: Run) -> None:
        """Keep how a run stands."""
        ...

    async def claim_run(self, run_id: str, worker: str, previous: str | None) -> bool:
        """Give a run to `worker` if it still belongs to `previous`; False if somebody was faster."""
        ...

    async def release_run(self, run_id: str, worker: str) -> None:
        """Let go of a run that has ended visibly; does nothing if somebody has taken it up again."""
        ...

    async def reopen_run(self, run: Run, previous: Run) -> bool:
        """Keep a run that goes on and forget that it was to stop; False if it no longer stands as `previous`."""
        ...

    async def orphans(self, worker: str) -> list[Run]:
        """Return the runs that other workers hold, and those that wait for one, the oldest first."""
        ...

    async def request_cancel(self, run_id: str) -> None:
        """Ask whoever carries the run out to stop it."""
        ...

    async def cancels(self, worker: str) -> set[str]:
        """Return the unfinished runs of `worker` that were asked to stop."""
        ...
