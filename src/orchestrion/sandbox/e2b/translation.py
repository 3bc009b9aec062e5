"""What E2B calls things, and what we do."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.client.wire import checked, text_of, time_of
from orchestrion.sandbox.protocols import Capabilities, Network, SandboxInfo, SandboxSpec, Snapshot

_SESSION = "orchestrion-session"
_OWNER = "orchestrion-owner"
_IDLE = "orchestrion-idle-seconds"
_IDLE_SECONDS = 600
_EVERYTHING = "0.0.0.0/0"
_MIB = 1024 * 1024


def creation(spec: SandboxSpec) -> dict[str, object]:
    """Return the body of a create request."""
    return {
        "templateID": spec.template,
        "timeout": spec.idle_seconds,
        "metadata": _labels(spec),
        "envVars": dict(spec.env),
        "autoPause": False,
        **egress(spec.network),
    }


def _labels(spec: SandboxSpec) -> dict[str, str]:
    ours = {_SESSION: spec.session_id or "", _OWNER: spec.owner, _IDLE: str(spec.idle_seconds)}
    return {**spec.metadata, **{key: value for key, value in ours.items() if value}}


def egress(network: Network) -> dict[str, object]:
    """Return what a sandbox may reach, as E2B says it: `network` and `allow_internet_access`."""
    allowed = [*network.allow, *(_registries() if network.registries else ())]
    rules: dict[str, object] = {"allowPublicTraffic": network.public_ports}
    if "*" in allowed:
        rules["denyOut"] = list(network.deny)
    elif allowed:
        rules |= {"allowOut": allowed, "denyOut": [_EVERYTHING]}
    if network.mask_host:
        rules["maskRequestHost"] = network.mask_host
    if network.https_ports:
        rules["httpsPorts"] = list(network.https_ports)
    return {"network": rules, "allow_internet_access": bool(allowed)}


def _registries() -> tuple[str, ...]:
    from orchestrion.sandbox.gateway.registries import REGISTRIES  # the gateway is not needed otherwise

    return REGISTRIES


def info_of(value: object, *, root: bool) -> SandboxInfo:
    """Read a sandbox of a list, or its details.

    Args:
        value: What the API says of it.
        root: Whether code in sandboxes there can become root.

    Raises:
        SandboxError: It is none.
    """
    found = checked(value)
    labels = {key: text for key, text in checked(found.get("metadata") or {}).items() if isinstance(text, str)}
    return SandboxInfo(
        id=sandbox_id(found),
        provider="e2b",
        state="paused" if found.get("state") == "paused" else "running",
        created_at=time_of(found, "startedAt"),
        spec=SandboxSpec(
            session_id=labels.pop(_SESSION, None),
            owner=labels.pop(_OWNER, ""),
            template=text_of(found, "alias", "") or text_of(found, "templateID", ""),
            idle_seconds=_idle_of(labels.pop(_IDLE, "")),
            metadata=labels,
            root=root,
        ),
    )


def _idle_of(label: str) -> int:
    return int(label) if label.isascii() and label.isdigit() and len(label) < 9 else _IDLE_SECONDS


def time_left(value: object) -> float:
    """Return how many seconds a sandbox has left, by its details; 0 if they don't say."""
    with contextlib.suppress(SandboxError):
        return (time_of(checked(value), "endAt") - datetime.now(UTC)).total_seconds()
    return 0


def capabilities_of(value: object) -> Capabilities:
    """Read what an endpoint of ours says of the sandboxes behind it.

    Raises:
        SandboxError: It says no such thing.
    """
    try:
        return TypeAdapter(Capabilities).validate_python(value)
    except ValidationError as error:
        raise SandboxError("The endpoint does not say what its sandboxes can do.") from error


def sandbox_id(found: Mapping[str, Any]) -> str:
    """Return a sandbox's id, which becomes part of a host name.

    Raises:
        SandboxError: It is not fit for that.
    """
    value = text_of(dict(found), "sandboxID")
    if not (value.isascii() and value.isalnum() and len(value) <= 60):
        raise SandboxError("E2B's API sent a sandbox whose id is not fit for a host name.")
    return value


def snapshot_of(value: object, source: str = "") -> Snapshot:
    """Read a snapshot.

    Args:
        value: As the API has it.
        source: The sandbox it was taken of, if the API doesn't say.

    Raises:
        SandboxError: It is none.
    """
    found = checked(value)
    names = found.get("names") or []
    created = datetime.now(UTC)
    with contextlib.suppress(SandboxError):
        created = time_of(found, "createdAt")
    return Snapshot(
        id=text_of(found, "snapshotID"),
        names=tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (),
        sandbox_id=text_of(found, "sandboxID", source),
        created_at=created,
    )
