"""The wire protocols of models from the provider's side: for the sandbox's model door, and for the test kit."""

from __future__ import annotations

from orchestrion.models.wire.anthropic import AnthropicDialect
from orchestrion.models.wire.openai import OpenAIDialect
from orchestrion.models.wire.terms import (
    Answer,
    BadRequest,
    Called,
    Dialect,
    Encoder,
    Piece,
    Stop,
    Tokens,
    mappings,
    sse,
)

__all__ = [
    "Answer",
    "AnthropicDialect",
    "BadRequest",
    "Called",
    "Dialect",
    "Encoder",
    "OpenAIDialect",
    "Piece",
    "Stop",
    "Tokens",
    "mappings",
    "sse",
]
