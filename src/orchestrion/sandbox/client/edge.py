"""A sandbox elsewhere, reached with HTTPS through E2B's edge or a compatible one."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
import httpx

from orchestrion.core.errors import InvalidInput, SandboxError
from orchestrion.sandbox.client.transport import CONNECT_SECONDS, Body, Pool, Reply
from orchestrion.sandbox.protocols import ENVD_PORT, PortAddress

# Only under these does E2B serve envd on one shared host; see docs of its SDK, `sandbox.<domain>`.
_SHARED = ("e2b.app", "e2b.dev", "e2b.pro", "foxtrot-2.e2b.dev")
_HTTPS = 443
_DOMAIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,250})(?::([0-9]{1,5}))?")


class _Backend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections; names under `localhost` are this machine, which not every resolver knows."""

    def __init__(self) -> None:
        self._tcp: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()  # pyright: ignore[reportAttributeAccessIssue]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._tcp.connect_tcp(resolvable(host), port, timeout, local_address, socket_options)


class EdgeTransport:
    """Implements `Transport`.

    Args:
        domain: Where the edge is: `https://<port>-<id>.<domain>`; it may end with a port.
        sandbox_id: Whom to reach.
        headers: Sent with every request (a traffic token, say).
        ssl_context: What certificates are believed; by default those of the system's.

    Raises:
        InvalidInput: The domain is none.
    """

    ours = False

    def __init__(
        self,
        domain: str,
        sandbox_id: str,
        headers: Mapping[str, str] | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._domain, self._port = _parts(domain)
        self._id = sandbox_id
        self._extra = dict(headers or {})
        self._ssl = ssl_context or httpx.create_ssl_context()
        self._pool = Pool(_Backend(), self._unreachable, ssl_context=self._ssl)

    def address(self, port: int) -> PortAddress:
        """Say how a port is reached. A closed port is told by the edge's answer, not by `dial`."""
        host = self._host(port)
        suffix = "" if self._port == _HTTPS else f":{self._port}"
        return PortAddress(host + suffix, self._headers(port), lambda: self._dial(host), self._pool.lifecycle)

    async def send(
        self, port: int, method: str, target: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """Send a request to a port; see `Transport.send`."""
        host = self._host(port)
        url = httpcore.URL(scheme=b"https", host=host.encode(), port=self._port, target=target.encode("ascii"))
        suffix = "" if self._port == _HTTPS else f":{self._port}"
        return await self._pool.send(url, method, {"Host": host + suffix, **headers, **self._headers(port)}, body)

    async def aclose(self) -> None:
        """Break every connection."""
        await self._pool.aclose()

    def _host(self, port: int) -> str:
        if port == ENVD_PORT and self._domain in _SHARED:
            return f"sandbox.{self._domain}"
        return f"{port}-{self._id}.{self._domain}"

    def _headers(self, port: int) -> dict[str, str]:
        return {**self._extra, "E2b-Sandbox-Id": self._id, "E2b-Sandbox-Port": str(port)}

    async def _dial(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(
                    resolvable(host), self._port, ssl=self._ssl, server_hostname=host
                )
        except (OSError, TimeoutError):
            raise self._unreachable() from None

    def _unreachable(self) -> SandboxError:
        return SandboxError(f"Sandboxes at {self._domain} can't be reached.", "Check the network and the domain.")


def _parts(domain: str) -> tuple[str, int]:
    match = _DOMAIN.fullmatch(domain)
    if match is None:
        raise InvalidInput(f"{domain[:80]!r} is not a domain for sandboxes.", "Set E2B_DOMAIN to host or host:port.")
    return match[1], int(match[2] or _HTTPS)


def resolvable(host: str) -> str:
    """Return what to connect to for a host: names under `localhost` are always this machine."""
    return "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
