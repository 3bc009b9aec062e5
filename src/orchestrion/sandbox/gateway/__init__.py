"""The way out of a sandbox: an HTTP proxy with an allow-list, and model calls without a key, on one unix socket."""

from __future__ import annotations

from orchestrion.sandbox.gateway.gateway import Gateway
from orchestrion.sandbox.gateway.grants import Emit, Grant, ModelDoor, ModelReply
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.policy import Policy, Refusal
from orchestrion.sandbox.gateway.registries import REGISTRIES

__all__ = [
    "REGISTRIES",
    "Emit",
    "Gateway",
    "GatewayLimits",
    "Grant",
    "ModelDoor",
    "ModelReply",
    "Policy",
    "Refusal",
]
