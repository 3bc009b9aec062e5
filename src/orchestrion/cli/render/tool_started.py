"""`tool.started`: a tool call begins."""

from __future__ import annotations

import json
from typing import Any

from orchestrion.cli.render.view import ToolCall, View
from orchestrion.cli.text import one_line
from orchestrion.core.events import ToolStarted

# The one argument that says what a call is about, where a tool has several.
_TELLING = ("code", "command", "path", "url", "query", "source", "title")

# Tools whose work has an event of its own, which says it better.
TOLD_OTHERWISE = {"update_plan"}


def tool_started(view: View, event: ToolStarted) -> None:
    """Print the tool's name and the gist of its arguments."""
    view.calls[event.call_id] = ToolCall(event.name)
    if event.name in TOLD_OTHERWISE:
        return
    view.last_call = event.call_id
    room = max(view.screen.width - len(event.name) - 6, 20) if view.screen.live else 100
    gist = one_line(short_args(event.args), room)
    view.screen.line((f"{view.screen.symbol('tool')} ", "cyan"), (event.name, "cyan"), f" {gist}".rstrip())
    view.busy(event.name)


def short_args(args: dict[str, Any]) -> str:
    """Return the gist of a call's arguments on one line."""
    for name in _TELLING:
        if isinstance(args.get(name), str):
            return _gist(args[name])
    return ", ".join(f"{name}={_value(value)}" for name, value in args.items())


def _gist(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.lstrip().startswith(("#", "import ", "from "))] or lines or [""]
    return telling[0].strip() + (f"  ({len(lines)} lines)" if len(lines) > 1 else "")


def _value(value: object) -> str:
    if isinstance(value, (list, dict)) and len(value) > 6:
        return f"[{len(value)} items]"
    return one_line(json.dumps(value, ensure_ascii=False, default=str), 40)
