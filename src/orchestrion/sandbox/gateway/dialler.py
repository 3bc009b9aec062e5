"""Connects to what the policy allows, at the very address that it has checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

from orchestrion.core.addresses import reach_of
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.policy import Permit, Policy, Reachable, Refusal
from orchestrion.sandbox.gateway.resolver import Resolve

_TRIED = 3


class Unreachable(Exception):
    """It may be reached, but it can't be; the message is one sentence."""


@dataclass(frozen=True)
class Line:
    """A connection to the outside, and what allowed it."""

    permit: Permit
    reached: Reachable
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Dialler:
    """Looks names up, once for each request, and connects.

    Args:
        resolve: Turns a name into addresses.
        limits: How long, and how many at once.
    """

    def __init__(self, resolve: Resolve, limits: GatewayLimits) -> None:
        self._resolve = resolve
        self._limits = limits
        self._lookups = asyncio.Semaphore(limits.lookups)

    async def dial(self, policy: Policy, permit: Permit) -> Line:
        """Connect.

        Raises:
            Refusal: One of its addresses must not be reached, or none may be.
            Unreachable: There is no such host, or it does not answer.
        """
        reachable = policy.addresses(permit, await self._addresses(permit))
        for choice in reachable[:_TRIED]:
            if reach_of(ipaddress.ip_address(choice.address)) == "public" and _is_ours(choice.address):
                raise Refusal(f"{permit.host} leads to the host's own machine.")
            try:
                async with asyncio.timeout(self._limits.connect_seconds):
                    reader, writer = await asyncio.open_connection(
                        choice.address, permit.port, limit=self._limits.head_bytes
                    )
            except (OSError, TimeoutError):
                continue
            return Line(permit, choice, reader, writer)
        raise Unreachable(f"{permit.host} does not answer on port {permit.port}.")

    async def _look_up(self, permit: Permit) -> asyncio.Future[list[str]]:
        """Begin to look a name up. Its place is taken until it ends, however long: what was given up goes on."""
        await self._lookups.acquire()
        looking = asyncio.ensure_future(self._resolve(permit.host, permit.port))

        def ended(done: asyncio.Future[list[str]]) -> None:
            self._lookups.release()
            if not done.cancelled():
                done.exception()

        looking.add_done_callback(ended)
        return looking

    async def _addresses(self, permit: Permit) -> list[str]:
        try:
            return [str(ipaddress.ip_address(permit.host))]
        except ValueError:
            pass
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                return await asyncio.shield(await self._look_up(permit))
        except (OSError, TimeoutError):
            raise Unreachable(f"There is no host called {permit.host}, or it can't be looked up.") from None


def _is_ours(address: str) -> bool:
    """Say whether this machine itself has the address: what listens on all of its addresses is behind no firewall."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
