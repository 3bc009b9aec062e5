"""`run.finished`, `run.failed`, `run.cancelled` and `run.budget_spent`: how a run ends, and where its work is."""

from __future__ import annotations

from datetime import datetime

from orchestrion.cli.errors import complain
from orchestrion.cli.render.view import View
from orchestrion.cli.text import seconds, size
from orchestrion.core.events import FileRef, RunBudgetSpent, RunCancelledEvent, RunFailed, RunFinished

_FLAGS = {"usd": "--budget-usd", "tokens": "--budget-tokens", "seconds": "--timeout"}


def run_finished(view: View, event: RunFinished) -> None:
    """Print the answer unless it was streamed, then where the files are."""
    _close(view, event.answer, event.files, event.ts)


def run_failed(view: View, event: RunFailed) -> None:
    """Print what work there is, then the error on stderr."""
    _close(view, event.answer, event.files, event.ts)
    complain(event.error, event.remedy)


def run_cancelled(view: View, event: RunCancelledEvent) -> None:
    """Say that it stopped, and print what work there is."""
    view.screen.line(("Stopped.", "yellow"))
    _close(view, event.answer, event.files, event.ts)


def run_budget_spent(view: View, event: RunBudgetSpent) -> None:
    """Say which budget is spent, and print the partial result."""
    _close(view, event.answer, event.files, event.ts)
    raise_with = _FLAGS.get(event.kind)
    how = f"with {raise_with}" if raise_with else "with ORCHESTRION_MAX_STEPS"
    complain(
        f"The budget of {event.limit:g} {event.kind} is spent; what was done until then is kept.", f"Raise it {how}."
    )


def _close(view: View, answer: str, files: list[FileRef], at: datetime) -> None:
    view.ended = at.timestamp()
    view.screen.end_stream()
    if answer and answer.strip() != view.said.strip():
        view.screen.stream(answer)
        view.screen.end_stream()
    if files or view.screen.live:  # a plain answer in a pipe stays plain
        _totals(view)
    _files(view, files)
    view.screen.close()


def _totals(view: View) -> None:
    tokens = view.usage.input_tokens + view.usage.output_tokens
    if view.by_playbook or not tokens:
        return
    cost = f" · ${view.usage.usd:.4f}" if view.usage.usd is not None else ""
    time = f" · {seconds(view.ended - view.started)}" if view.started else ""
    view.screen.line((f"{tokens:,} tokens{cost}{time}", "dim"))


def _order(file: FileRef) -> tuple[int, str]:
    if file.path == "report.md":
        return 0, ""
    return (1 if file.path.startswith("charts/") else 2), file.path


def _files(view: View, files: list[FileRef]) -> None:
    """List absolute paths, the report first; the very last line is the report's path and nothing else."""
    if not files:
        return
    view.screen.gap()
    view.screen.line(("Files", "bold"))
    for file in sorted(files, key=_order):
        view.screen.path(str(view.root / file.path), size(file.size))
    report = view.report_path([file.path for file in files])
    if report:
        view.screen.gap()
        view.screen.line(("Report", "bold"))
        view.screen.path(str(report))
