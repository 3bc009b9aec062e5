"""What the journal says a run has already done, so that a resumed run goes on from there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from orchestrion.core import events as ev
from orchestrion.middleware.ledger import Ledger

REPORT = "report.md"
PARTIAL = "Partial report"


@dataclass
class Past:
    """A run's journal in short.

    Attributes:
        decision: The supervisor's decision, if it was made.
        plan: The plan as it stood last.
        phase: The phase that was reached.
        report_written: The agent wrote report.md during this run.
        notes: What the agent said while it worked.
        results: What its tools returned, with their names.
        artifacts: Files that the run wrote.
        usage: What it has used.
        granted: What it had used when it last ended: going on after that is a new budget.
        steps: Its model calls since then.
        seconds: How long it has worked since then, by the clock of its events.
        worked_until: When it last did something before it was taken up again.
        ledger: Its tool calls.
        events: How many events it has.
    """

    decision: ev.RouteDecided | None = None
    plan: list[ev.PlanStep] = field(default_factory=list)
    phase: str = ""
    report_written: bool = False
    notes: list[str] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    artifacts: dict[str, ev.FileRef] = field(default_factory=dict)
    usage: ev.Usage = field(default_factory=ev.Usage)
    granted: ev.Usage = field(default_factory=ev.Usage)
    steps: int = 0
    seconds: float = 0.0
    worked_until: datetime | None = None
    ledger: Ledger = field(default_factory=Ledger)
    events: int = 0

    @classmethod
    def from_events(cls, events: Iterable[ev.Event]) -> Past:
        """Read a run's events."""
        past, known = cls(), list(events)
        at_work = False
        for event in known:
            past._take(event)
            if at_work and not isinstance(event, ev.RunResumed):
                past._pass_time(event.ts)
            if isinstance(event, ev.RunStarted):
                at_work, past.worked_until = True, event.ts
            if event.terminal:
                past.granted, past.steps, past.seconds = past.usage, 0, 0.0
            if event.terminal or isinstance(event, ev.RunResumed):
                at_work = False
        past.events = len(known)
        past.ledger = Ledger.from_events(known)
        return past

    def _pass_time(self, until: datetime) -> None:
        """Count the time since the event before, unless the clock was set back."""
        if self.worked_until is not None:
            self.seconds += max(0.0, (until - self.worked_until).total_seconds())
        self.worked_until = until

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.RouteDecided():
                self.decision = event
            case ev.PlanUpdated():
                self.plan = event.steps
            case ev.RunPhase():
                self.phase = event.phase
            case ev.MessageCompleted(phase="execute"):
                self.notes.append(event.text)
            case ev.ToolFinished(status="ok") if event.name not in {"update_plan", "write_report"}:
                self.results.append((event.name, event.result))
            case ev.ArtifactWritten():
                self.artifacts[event.file.path] = event.file
                if event.file.path == REPORT:
                    self.report_written = event.title != PARTIAL
            case ev.UsageRecorded():
                self.usage = event.total
            case ev.LlmCalled():
                self.steps += 1
            case _:
                pass
