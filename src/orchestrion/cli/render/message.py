"""`message.delta` and `message.completed`: what a model says, as it says it."""

from __future__ import annotations

from orchestrion.cli.render.view import View
from orchestrion.core.events import MessageCompleted, MessageDelta

_ASIDE = {"plan", "execute", "report"}


def message_delta(view: View, event: MessageDelta) -> None:
    """Write the piece; what is said on the way to the answer is dim."""
    if view.streaming != event.message_id:
        view.screen.end_stream()
        view.streaming = event.message_id
    view.streamed.add(event.message_id)
    view.plan_streamed = view.plan_streamed or event.phase == "plan"
    view.screen.stream(event.text, dim=event.phase in _ASIDE)


def message_completed(view: View, event: MessageCompleted) -> None:
    """End the message, or write all of it if it was not streamed."""
    if event.message_id not in view.streamed and event.text:
        message_delta(view, MessageDelta(message_id=event.message_id, text=event.text, phase=event.phase))
    view.screen.end_stream()
    view.streaming = ""
    if event.phase not in _ASIDE:
        view.said = event.text


def drop_unfinished(view: View) -> None:
    """Say that the message which is just being written is void."""
    if view.streaming:
        view.screen.end_stream()
        view.screen.line(("(the unfinished text above is void)", "dim"))
        view.streamed.discard(view.streaming)
        view.streaming = ""
