"""`tool.finished`: a tool call is over."""

from __future__ import annotations

from orchestrion.cli.render.tool_started import TOLD_OTHERWISE
from orchestrion.cli.render.view import ToolCall, View
from orchestrion.cli.text import seconds, tail
from orchestrion.core.events import ToolFinished

_LINES, _ERROR_LINES = 6, 10
# A shorter call's time is not worth a line.
_LONG = 1.0
_OUTCOMES = {"error": "failed", "unknown": "outcome unknown", "cancelled": "cancelled"}


def tool_finished(view: View, event: ToolFinished) -> None:
    """Print the tail of its output and how it ended."""
    call = view.calls.pop(event.call_id, ToolCall(event.name))
    failed = event.status != "ok"
    if failed or event.name not in TOLD_OTHERWISE:
        _name_again(view, event, needed=failed or bool(call.output) or event.seconds >= _LONG)
        said = event.result if event.status in ("error", "unknown") else call.output
        lines, more = tail(said, _ERROR_LINES if failed else _LINES)
        _print_tail(view, lines, more if failed else more + call.dropped, failed=failed)
        _print_end(view, event)
    view.busy("Thinking" if not view.calls else next(iter(view.calls.values())).name)


def _name_again(view: View, event: ToolFinished, *, needed: bool) -> None:
    """Where several calls go on at once, say whose output follows."""
    if needed and view.last_call != event.call_id:
        view.last_call = event.call_id
        view.screen.line((f"{view.screen.symbol('tool')} {event.name}", "dim cyan"))


def _print_end(view: View, event: ToolFinished) -> None:
    if event.status != "ok":
        said = f"{view.screen.symbol('failed')} {_OUTCOMES[event.status]}"
        view.screen.line((said, "red"), (f" after {seconds(event.seconds)}", "dim"), indent="  ")
    elif event.seconds >= _LONG:
        view.screen.line((f"{view.screen.symbol('done')} {seconds(event.seconds)}", "dim"), indent="  ")


def _print_tail(view: View, lines: list[str], more: int, *, failed: bool) -> None:
    bar = f"  {view.screen.symbol('tail')} "
    room = max(view.screen.width - len(bar), 10) if view.screen.live else 200
    if more:
        view.screen.line((f"… {more} more line{'s' if more > 1 else ''} above", "dim"), indent=bar)
    for line in lines:
        shown = line if len(line) <= room else line[: room - 1] + "…"
        view.screen.line((shown, "red" if failed else "dim"), indent=bar)
