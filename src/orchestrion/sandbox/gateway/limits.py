"""The bounds of what one sandbox may ask of the gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GatewayLimits:
    """Bounds for each sandbox.

    Attributes:
        connections: At once.
        head_bytes: Of a request's or a response's head.
        model_body_bytes: Of a model call.
        model_bytes: Of all model calls that wait or are under way, together.
        head_seconds: For a request's head, from its first byte; also for a TLS ClientHello.
        body_seconds: For the body of a model call.
        keep_seconds: A connection may wait this long for its next request.
        connect_seconds: For a look-up, and for each attempt to connect.
        idle_seconds: A tunnel or an answer in which nothing moves ends after this long.
        lookups: Names looked up at once.
    """

    connections: int = 256
    head_bytes: int = 64 * 1024
    model_body_bytes: int = 32 * 1024 * 1024
    model_bytes: int = 128 * 1024 * 1024
    head_seconds: float = 15
    body_seconds: float = 120
    keep_seconds: float = 120
    connect_seconds: float = 10
    idle_seconds: float = 300
    lookups: int = 4
