"""Which sandbox and port a request is for: told by the host name or, under shared names, by two headers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from orchestrion.server.e2b.answers import Refusal
from orchestrion.server.edge.way import Target
from orchestrion.server.security import host_name

_LABEL = re.compile(r"^(\d{1,5})-([a-z0-9]{1,64})(?:-.*)?$")
_ID = re.compile(r"^[a-z0-9]{1,64}$")


class Domain:
    """The name under which clients reach us.

    Args:
        name: As clients are given it in `E2B_DOMAIN`, with the port if that is not 443.
    """

    def __init__(self, name: str) -> None:
        self.name = name.lower().rstrip(".")
        self.host = host_name(self.name)

    def target(self, headers: Mapping[str, str]) -> Target | None:
        """Return what a request is for; None for the control plane.

        Args:
            headers: By lower-case name.

        Raises:
            Refusal: Only one of the two headers is there, or one is malformed.
        """
        host = host_name(headers.get("host", ""))
        label, _, rest = host.partition(".")
        if rest == self.host and (match := _LABEL.match(label)):
            return _target(match[2], match[1])
        return self._by_headers(headers) if self._is_shared(host) else None

    def _is_shared(self, host: str) -> bool:
        """Say whether the headers count under this name; elsewhere they could lead another host's traffic astray."""
        if host in {"localhost", f"sandbox.{self.host}"}:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    @staticmethod
    def _by_headers(headers: Mapping[str, str]) -> Target | None:
        sandbox_id, port = headers.get("e2b-sandbox-id"), headers.get("e2b-sandbox-port")
        if sandbox_id is None and port is None:
            return None
        if not sandbox_id or not port:
            raise Refusal(400, "missing header")
        return _target(sandbox_id, port)


def _target(sandbox_id: str, port: str) -> Target:
    if not (_ID.match(sandbox_id) and re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise Refusal(400, f"{port[:20]}-{sandbox_id[:80]} does not name a port of a sandbox.")
    return Target(sandbox_id, int(port))
