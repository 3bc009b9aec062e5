"""What a request through the edge is for, how it must look there, and what is said where it can't go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrion.sandbox.protocols import ENVD_PORT, Network, PortAddress
from orchestrion.server.edge.answer import Header, forwarded

TRAFFIC_HEADER = "e2b-traffic-access-token"


@dataclass(frozen=True)
class Target:
    """A port of a sandbox."""

    sandbox_id: str
    port: int


class Unreachable(Exception):
    """A request that can't be passed on.

    Args:
        status: HTTP status.
        body: What is answered; SDKs look for its words.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(body["message"])
        self.status = status
        self.body = {**body, "code": status}


@dataclass(frozen=True)
class Way:
    """A port of a running sandbox, and how requests must look there."""

    target: Target
    address: PortAddress
    network: Network

    @property
    def tls(self) -> bool:
        """Whether the port speaks TLS."""
        return self.target.port in self.network.https_ports

    def headers(self, raw: list[Header]) -> list[Header]:
        """Return a request's headers as the port inside gets them, without those of the connection."""
        extra = {name.lower().encode(): value.encode() for name, value in self.address.headers.items()}
        host = next((value for name, value in raw if name == b"host"), b"")
        if self.network.mask_host and self.target.port != ENVD_PORT:
            host = self.network.mask_host.replace("${PORT}", str(self.target.port)).encode()
        hidden = frozenset((b"host", TRAFFIC_HEADER.encode(), *extra))
        extra.pop(b"host", None)
        return [(b"Host", host), *forwarded(raw, hidden), *extra.items()]


def not_found(target: Target) -> Unreachable:
    """Return the answer for a sandbox that does not run."""
    return Unreachable(502, {"sandboxId": target.sandbox_id, "message": "The sandbox was not found"})
