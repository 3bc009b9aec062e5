"""The moves of a job that uses tools: which calls were made, what came back, and how to make the next one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage


class Moves:
    """What has been done since the task was given.

    Args:
        messages: The whole conversation.
        start: Where in it the task stands.
        tools: Names of the tools at hand.
        steps: The plan's steps.
        stages: How many stages the job has; they are spread over the plan's steps.
    """

    def __init__(
        self, messages: Sequence[BaseMessage], start: int, tools: list[str], steps: list[str], stages: int
    ) -> None:
        self.tools = tools
        self._messages = messages[start + 1 :]
        self._conversation = [len(messages), *[message.id for message in messages]]
        self._steps = len(steps)
        self._stages = stages

    def calls(self, tool: str) -> list[ToolCall]:
        """Return every call of a tool, answered or not."""
        made = [call for message in self._messages if isinstance(message, AIMessage) for call in message.tool_calls]
        return [call for call in made if call["name"] == tool]

    def done(self, tool: str) -> list[tuple[ToolCall, str]]:
        """Return the calls of a tool that were answered, with the answers."""
        answers = {m.tool_call_id: m.text for m in self._messages if isinstance(m, ToolMessage)}
        return [(call, answers[call["id"]]) for call in self.calls(tool) if call["id"] in answers]

    def results(self, tool: str) -> list[str]:
        """Return what the calls of a tool gave back."""
        return [text for _, text in self.done(tool)]

    def call(self, stage: int, text: str, tool: str, **args: Any) -> AIMessage:
        """Call a tool; where that begins a stage, say so in the plan first."""
        active = self._step(stage)
        calls = [self._tool_call(tool, args)]
        if active and not self._shown(active):
            calls.insert(0, self._tool_call("update_plan", {"done": list(range(1, active)), "active": active}))
        return AIMessage(text, tool_calls=calls)

    def finish(self, text: str) -> AIMessage:
        """Tick off the whole plan, then answer."""
        everything = list(range(1, self._steps + 1))
        shown = [call["args"].get("done") for call in self.calls("update_plan")]
        if everything and "update_plan" in self.tools and everything not in shown:
            return AIMessage("", tool_calls=[self._tool_call("update_plan", {"done": everything, "active": None})])
        return AIMessage(text)

    def _step(self, stage: int) -> int:
        """Return the plan's step that a stage belongs to; 0 if there is no plan to keep."""
        if "update_plan" not in self.tools or not self._steps:
            return 0
        return max(1, math.ceil(stage * self._steps / self._stages))

    def _shown(self, active: int) -> bool:
        return any(call["args"].get("active") == active for call in self.calls("update_plan"))

    def _tool_call(self, name: str, args: dict[str, Any]) -> ToolCall:
        """Derive the id from the conversation, messages' own ids included: the same again only for the same run."""
        content = json.dumps([self._conversation, name, args], sort_keys=True, default=str)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return ToolCall(name=name, args=args, id=f"call_{digest[:20]}", type="tool_call")
