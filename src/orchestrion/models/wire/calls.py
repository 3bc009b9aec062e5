"""A model call as code in a sandbox makes it, in our own terms; and the reading of untrusted JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage

from orchestrion.models.wire.terms import BadRequest

T = TypeVar("T")
_PARTS = 1_000_000


@dataclass(frozen=True)
class ModelCall:
    """One call.

    Attributes:
        model: The name that the caller gives.
        messages: The conversation, its system prompt first.
        tools: What the model may call: `{"type": "function", "function": {name, description, parameters}}`.
        tool_choice: `auto`, `any`, `none` or a tool's name; None for the provider's default.
        one_call: At most one tool call in an answer.
        parameters: `max_tokens`, `temperature`, `top_p`, as far as they were given.
        stop: Texts that end the answer.
        stream: Whether a stream is wanted.
        usage: Whether the stream is to tell the tokens.
    """

    model: str
    messages: list[BaseMessage]
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | None = None
    one_call: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    stop: list[str] = field(default_factory=list)
    stream: bool = False
    usage: bool = True


def parse_body(content: bytes) -> dict[str, Any]:
    """Read a request's body.

    Raises:
        BadRequest: It is not a JSON object.
    """
    # A few bytes of JSON make an object of many, so what is built is bounded too.
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > _PARTS:
        raise BadRequest("The request body has too many parts")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequest("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("The request body is not a JSON object")
    return body


def want(value: object, kind: type[T], name: str) -> T:
    """Return `value` if it is of this kind.

    Raises:
        BadRequest: It is not, or missing.
    """
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise BadRequest(f"{name}: Field required" if value is None else f"{name}: Input should be of another type")


def refuse_unsupported(body: Mapping[str, Any], harmless: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse what would change the answer and can't be passed on to every provider.

    Args:
        body: The request.
        harmless: Fields that are not supported, with the values that ask for nothing.

    Raises:
        BadRequest: One of them asks for something.
    """
    for name, nothing in harmless.items():
        value = body.get(name)
        if value is not None and value not in nothing:
            raise BadRequest(f"{name}: Not supported by this gateway; leave it out")


def numbers(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the number fields that are given.

    Raises:
        BadRequest: One is something else.
    """
    given = {name: body[name] for name in names if body.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(f"{name}: Input should be a valid number")
    return given
