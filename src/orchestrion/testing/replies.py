"""What a stand-in is asked, and what it answers: the same terms for both wire protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from orchestrion.core.ids import new_id

Api: TypeAlias = Literal["anthropic", "openai"]


@dataclass(frozen=True)
class Request:
    """A model call as it came over the wire.

    Attributes:
        api: Whose protocol it speaks.
        model: The model it names.
        system: The system prompt as plain text.
        messages: The other messages, as on the wire.
        tools: The tools offered, as on the wire.
        stream: Whether a stream was asked for.
        raw: The whole body.
        headers: HTTP headers, names in lower case.
    """

    api: Api
    model: str
    system: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    stream: bool
    raw: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def tool_names(self) -> list[str]:
        """The names of the tools offered."""
        return [str(tool.get("name") or tool.get("function", {}).get("name", "")) for tool in self.tools]

    @property
    def last_text(self) -> str:
        """The text of the last message."""
        return flat(self.messages[-1].get("content")) if self.messages else ""


@dataclass(frozen=True)
class ToolCall:
    """A tool the stand-in calls."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: new_id("call"))


@dataclass(frozen=True)
class Failure:
    """An error as the provider words it.

    Attributes:
        status: The HTTP status, or the one that the error stands for inside a stream.
        message: The provider's message.
        retry_after: Seconds for the `Retry-After` header.
        after_chunks: None for a plain HTTP error; else it comes inside the stream after this many pieces.
    """

    status: int
    message: str = "scripted"
    retry_after: float | None = None
    after_chunks: int | None = None


@dataclass(frozen=True)
class Reply:
    """What the stand-in answers.

    Attributes:
        text: The answer.
        tool_calls: Tools to call, after the text.
        error: Fails instead of, or in the middle of, the answer.
        delay: Seconds before each piece but the first.
        first_token_delay: Seconds before anything is answered.
        drop_after: Breaks the connection off after this many pieces.
        chunk_size: Characters in a piece of text; arguments come in pieces of two thirds of that.
        input_tokens: As reported; None counts a quarter of the request's characters.
        output_tokens: As reported; None counts a quarter of the answer's characters.
        cache_read_tokens: The part of the prompt reported as read from the cache.
        truncated: Ends as if the limit of output tokens had been reached.
    """

    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    error: Failure | None = None
    delay: float = 0.0
    first_token_delay: float = 0.0
    drop_after: int | None = None
    chunk_size: int = 24
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    truncated: bool = False

    def pieces(self) -> list[str]:
        """Return the text cut into pieces."""
        return [self.text[at : at + self.chunk_size] for at in range(0, len(self.text), self.chunk_size)]

    def argument_pieces(self, arguments: str) -> list[str]:
        """Return a tool call's JSON cut into pieces."""
        size = max(1, self.chunk_size * 2 // 3)
        return [arguments[at : at + size] for at in range(0, len(arguments), size)]

    def tokens(self, request: Request) -> tuple[int, int]:
        """Return input and output tokens, as set or counted."""
        said = len(self.text) + sum(len(str(call.args)) for call in self.tool_calls)
        prompt = len(str(request.raw)) // 4 if self.input_tokens is None else self.input_tokens
        return prompt, max(1, said // 4) if self.output_tokens is None else self.output_tokens


Responder: TypeAlias = Callable[[Request], Reply | Awaitable[Reply]]


class Script:
    """A responder that plays replies in order; once they are used up, it refuses."""

    def __init__(self, replies: list[Reply]) -> None:
        self._replies = list(replies)

    @property
    def left(self) -> int:
        """How many replies are still to come."""
        return len(self._replies)

    def __call__(self, request: Request) -> Reply:
        """Return the next reply."""
        if not self._replies:
            return Reply(error=Failure(400, "The script has no reply left."))
        return self._replies.pop(0)


def flat(content: object) -> str:
    """Return a wire message's content as plain text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block for block in content if isinstance(block, dict)]
    return "\n".join(str(block.get("text") or flat(block.get("content"))) for block in blocks)
