"""`tool.finished`: a tool call is over."""

from __future__ import annotations

from orchestrion.cli.render.view import ToolCall, View
from orchestrion.cli.text import seconds, tail
from orchestrion.core.events import ToolFinished

_LINES, _ERROR_LINES = 6, 10
_OUTCOMES = {"error": "failed", "unknown": "outcome unknown", "cancelled": "cancelled"}


def tool_finished(view: View, event: ToolFinished) -> None:
    """Print the tail of its output and how it ended."""
    call = view.calls.pop(event.call_id, ToolCall(event.name, read_only=True))
    failed = event.status != "ok"
    text = event.result if failed or (not call.output and not call.read_only) else call.output
    lines, more = tail(text, _ERROR_LINES if failed else _LINES)
    _print_tail(view, lines, more + (call.dropped if text is call.output else 0), failed=failed)
    if failed:
        said = f"{view.screen.symbol('failed')} {_OUTCOMES[event.status]}"
        view.screen.line((said, "red"), (f" after {seconds(event.seconds)}", "dim"), indent="  ")
    elif event.seconds >= 1:
        view.screen.line((f"{view.screen.symbol('done')} {seconds(event.seconds)}", "dim"), indent="  ")
    view.busy("Thinking")


def _print_tail(view: View, lines: list[str], more: int, *, failed: bool) -> None:
    bar = f"  {view.screen.symbol('tail')} "
    room = max(view.screen.width - len(bar), 10) if view.screen.live else 200
    if more:
        view.screen.line((f"… {more} more line{'s' if more > 1 else ''} above", "dim"), indent=bar)
    for line in lines:
        shown = line if len(line) <= room else line[: room - 1] + "…"
        view.screen.line((shown, "red" if failed else "dim"), indent=bar)
