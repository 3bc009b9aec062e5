"""Whether a provider's answer came to its end: a stream that just stops looks like a short answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrion.core.errors import ModelUnavailable

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage


def broken_off(message: AIMessage) -> bool:
    """Say whether the stream ended before the provider said why it stops.

    Anthropic's protocol always names a `stop_reason`. Some OpenAI-compatible servers never name a `finish_reason`, so
    there only an answer with nothing in it counts.
    """
    meta = message.response_metadata
    if meta.get("model_provider") == "anthropic":
        return not meta.get("stop_reason")
    if meta.get("model_provider") == "openai":
        said = message.content or message.tool_calls or message.invalid_tool_calls
        return not (said or meta.get("finish_reason") or meta.get("status"))
    return False


def require_end(message: AIMessage) -> None:
    """Refuse an answer that broke off.

    Raises:
        ModelUnavailable: It did.
    """
    if broken_off(message):
        raise ModelUnavailable(
            "The model's provider broke its answer off before the end.",
            "Check the network and whatever stands between here and the base URL, then try again.",
        )
