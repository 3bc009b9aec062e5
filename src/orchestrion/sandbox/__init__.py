"""Isolated computers for the sessions.

The protocols are light; what makes sandboxes is loaded when `Sandboxes` is first asked for, so that a chat, which
needs no sandbox, never imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrion.sandbox.protocols import (
    Availability,
    CodeError,
    CodeResult,
    CommandResult,
    Limits,
    OnOutput,
    Output,
    Rich,
    Sandbox,
    SandboxProvider,
    SandboxSpec,
)

if TYPE_CHECKING:
    from orchestrion.sandbox.manager import Sandboxes

__all__ = [
    "Availability",
    "CodeError",
    "CodeResult",
    "CommandResult",
    "Limits",
    "OnOutput",
    "Output",
    "Rich",
    "Sandbox",
    "SandboxProvider",
    "SandboxSpec",
    "Sandboxes",
]


def __getattr__(name: str) -> object:
    if name == "Sandboxes":
        from orchestrion.sandbox.manager import Sandboxes

        return Sandboxes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
