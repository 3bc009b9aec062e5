"""Tools for tests: a stand-in for the model's provider that speaks the real wire protocols over real sockets."""

from __future__ import annotations

from orchestrion.testing.playbook import PlaybookResponder
from orchestrion.testing.replies import Failure, Reply, Request, Responder, Script, ToolCall
from orchestrion.testing.scripted_sandbox import ScriptedProvider
from orchestrion.testing.stand_in import StandIn

__all__ = [
    "Failure",
    "PlaybookResponder",
    "Reply",
    "Request",
    "Responder",
    "Script",
    "ScriptedProvider",
    "StandIn",
    "ToolCall",
]
