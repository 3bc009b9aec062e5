"""The host's side of the wire: one client for every sandbox that speaks E2B's protocol."""

from __future__ import annotations

from orchestrion.sandbox.client.edge import EdgeTransport
from orchestrion.sandbox.client.sandbox import GuestSandbox
from orchestrion.sandbox.client.transport import Transport
from orchestrion.sandbox.client.unix import UnixTransport, short_path

__all__ = ["EdgeTransport", "GuestSandbox", "Transport", "UnixTransport", "short_path"]
