"""`tool.output`: output of a tool while it runs."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.cli.text import one_line, tail
from orchestrion.core.events import ToolOutput

_KEPT = 16_384
_READABLE = ("text", "markdown", "latex", "json")


def tool_output(view: View, event: ToolOutput) -> None:
    """Keep the end of it for when the call is over; its last line goes to the status line."""
    call = view.calls.get(event.call_id)
    if call is None:
        return
    call.output += _text(event)
    if len(call.output) > _KEPT:
        cut = len(call.output) - _KEPT
        call.dropped += call.output.count("\n", 0, cut)
        call.output = call.output[cut:]
    last, _ = tail(call.output[-400:], 1)
    view.busy(f"{call.name}: {one_line(last[0])}" if last else call.name)


def _text(event: ToolOutput) -> str:
    """Pictures are announced as files, and a table's markup is for the page."""
    if event.result is None:
        return event.text
    return f"{event.result.data}\n" if event.result.kind in _READABLE else ""
