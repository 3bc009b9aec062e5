"""Sandboxes and snapshots as E2B's clients expect to see them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrion.sandbox.protocols import Metrics, Network, Sandbox, SandboxSpec, Snapshot
from orchestrion.sandbox.registry import Held
from orchestrion.server.e2b.answers import timestamp
from orchestrion.server.e2b.keys import Keys

# Clients take it for a list of abilities: it names the newest whose every feature is here.
ENVD_VERSION = "0.6.7"
_CLIENT = "orchestrion"


@dataclass(frozen=True)
class ListedSandbox:
    """A sandbox in a list."""

    held: Held

    @property
    def place(self) -> tuple[str, str]:
        """When it was made, and its id."""
        return self.held.info.created_at.astimezone(UTC).isoformat(timespec="microseconds"), self.held.info.id


@dataclass(frozen=True)
class ListedSnapshot:
    """A snapshot in a list."""

    snapshot: Snapshot

    @property
    def place(self) -> tuple[str, str]:
        """When it was taken, and its id."""
        return self.snapshot.created_at.astimezone(UTC).isoformat(timespec="microseconds"), self.snapshot.id


class Views:
    """Makes them.

    Args:
        keys: Make the tokens of private sandboxes.
        domain: With its port, as clients must use it for sandboxes.
    """

    def __init__(self, keys: Keys, domain: str) -> None:
        self._keys = keys
        self._domain = domain

    def made(self, sandbox: Sandbox, spec: SandboxSpec) -> dict[str, Any]:
        """Return a sandbox with all that is needed to talk to it."""
        private = not spec.network.public_ports
        return {
            **_named(sandbox.id, spec),
            "envdAccessToken": sandbox.access_token,
            "trafficAccessToken": self._keys.traffic_token(sandbox.id) if private else None,
            "domain": self._domain,
        }

    def listed(self, held: Held) -> dict[str, Any]:
        """Return a sandbox as it stands in a list."""
        info = held.info
        return {
            **_named(info.id, info.spec),
            "startedAt": timestamp(info.created_at),
            "endAt": timestamp(held.ends_at or datetime.now(UTC)),
            "cpuCount": os.cpu_count() or 1,
            "memoryMB": info.spec.limits.memory_mb,
            "diskSizeMB": info.spec.limits.disk_mb,
            "state": info.state,
            "metadata": dict(info.spec.metadata),
            "volumeMounts": [],
        }

    def detail(self, held: Held, access_token: str | None) -> dict[str, Any]:
        """Return all about a sandbox; the token only while it runs."""
        shown = {
            **self.listed(held),
            "domain": self._domain,
            "allowInternetAccess": "*" in held.info.spec.network.allow,
            "network": _network(held.info.spec.network),
            "lifecycle": {"autoResume": held.auto_resume, "onTimeout": held.on_timeout},
            "pauseMode": "full" if held.keep_memory else "filesystem",
        }
        return shown if access_token is None else {**shown, "envdAccessToken": access_token}


def _named(sandbox_id: str, spec: SandboxSpec) -> dict[str, Any]:
    return {
        "templateID": spec.template,
        "alias": spec.template,
        "sandboxID": sandbox_id,
        "clientID": _CLIENT,
        "envdVersion": ENVD_VERSION,
    }


def _network(network: Network) -> dict[str, Any]:
    return {
        "allowPublicTraffic": network.public_ports,
        "allowOut": [name for name in network.allow if name != "*"],
        "denyOut": [*network.deny, *(() if "*" in network.allow else ("0.0.0.0/0",))],
        "maskRequestHost": network.mask_host,
        "httpsPorts": list(network.https_ports),
    }


def snapshot(taken: Snapshot) -> dict[str, Any]:
    """Return a snapshot."""
    return {"snapshotID": taken.id, "names": list(taken.names)}


def sample(metrics: Metrics) -> dict[str, Any]:
    """Return what a sandbox used at one moment."""
    return {
        "timestamp": timestamp(metrics.at),
        "timestampUnix": int(metrics.at.timestamp()),
        "cpuCount": metrics.cpu_count,
        "cpuUsedPct": metrics.cpu_percent,
        "memUsed": metrics.memory_used,
        "memTotal": metrics.memory_total,
        "memCache": 0,
        "diskUsed": metrics.disk_used,
        "diskTotal": metrics.disk_total,
    }
