"""What the journal knows of a run's tool calls from before the run was resumed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrion.core.events import Event, ToolFinished, ToolStarted


@dataclass
class Ledger:
    """Tool calls of a run that was resumed, by call id.

    Attributes:
        finished: Those that came to their end.
        cut_off: Those that did not, because the process died or the run was stopped.
    """

    finished: dict[str, ToolFinished] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Ledger:
        """Read the ledger out of a run's journal."""
        ledger = cls()
        for event in events:
            if isinstance(event, ToolStarted):
                ledger.cut_off.add(event.call_id)
            elif isinstance(event, ToolFinished) and event.status != "cancelled":
                ledger.cut_off.discard(event.call_id)
                ledger.finished[event.call_id] = event
        return ledger
