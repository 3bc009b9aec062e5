"""The gateway: one unix socket for each sandbox, its only way out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from orchestrion.core.errors import NotFound
from orchestrion.sandbox.gateway.dialler import Dialler
from orchestrion.sandbox.gateway.door import Door, Held
from orchestrion.sandbox.gateway.egress import EgressReport
from orchestrion.sandbox.gateway.grants import Grant
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.policy import Policy
from orchestrion.sandbox.gateway.resolver import Resolve, Resolver
from orchestrion.sandbox.protocols import Network


class Gateway:
    """Serves the sandboxes of this process.

    A sandbox reaches what its network allows, and has its model calls answered, while it holds a grant; a run's grant
    ends with the run, and with the last grant end all tunnels.

    Args:
        operator: Rules of the host's operator (`ORCHESTRION_SANDBOX_EGRESS`): only private addresses that these name
            can be reached at all.
        resolve: Turns a name into addresses; by default the host's own resolver.
        limits: The bounds for each sandbox.

    Raises:
        InvalidInput: A rule of the operator's is malformed.
    """

    def __init__(
        self,
        operator: Sequence[str] = (),
        *,
        resolve: Resolve | None = None,
        limits: GatewayLimits | None = None,
    ) -> None:
        Policy(Network(allow=tuple(operator)))
        self._operator = tuple(operator)
        self._own = Resolver()
        self._resolve = resolve or self._own
        self._limits = limits or GatewayLimits()
        self._doors: dict[str, Door] = {}
        self._grants: dict[str, list[Held]] = {}

    async def open(self, sandbox_id: str, socket_path: Path, network: Network) -> None:
        """Listen for a sandbox.

        Args:
            sandbox_id: Which.
            socket_path: Where; what is there is replaced. Anyone may connect, so guard the directory.
            network: What it may reach.

        Raises:
            InvalidInput: A rule is malformed.
            OSError: The socket can't be made.
        """
        policy = Policy(network, self._operator)
        await self.close(sandbox_id)
        grants = self._grants.setdefault(sandbox_id, [])
        door = Door(sandbox_id, policy, grants, Dialler(self._resolve, self._limits), self._limits)
        await door.listen(socket_path)
        self._doors[sandbox_id] = door

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change what a sandbox may reach; tunnels to what it may reach no more are cut.

        Raises:
            InvalidInput: A rule is malformed.
            NotFound: The sandbox has no socket here.
        """
        policy = Policy(network, self._operator)
        if sandbox_id not in self._doors:
            raise NotFound(f"The gateway serves no sandbox {sandbox_id}.")
        await self._doors[sandbox_id].set_policy(policy)

    async def close(self, sandbox_id: str) -> None:
        """Stop listening for a sandbox and end all it has open; runs' grants stay, standing ones end with it."""
        door = self._doors.pop(sandbox_id, None)
        if door is not None:
            await door.close()
        for held in [held for held in self._grants.get(sandbox_id, []) if held.grant.run_id is None]:
            await self.revoke(sandbox_id, held.grant)
        if not self._grants.get(sandbox_id):
            self._grants.pop(sandbox_id, None)

    def grant(self, sandbox_id: str, grant: Grant) -> None:
        """Let a sandbox use the gateway; of several grants the last answers its model calls and takes its events."""
        self._grants.setdefault(sandbox_id, []).append(Held(grant, EgressReport(sandbox_id, grant.emit)))

    async def revoke(self, sandbox_id: str, grant: Grant) -> None:
        """Take a grant back: end its model calls, and all else unless another is left; report what is unreported."""
        grants = self._grants.get(sandbox_id, [])
        door = self._doors.get(sandbox_id)
        for held in [held for held in grants if held.grant is grant]:
            grants.remove(held)
            if door is not None:
                await door.give_up(held)
            await held.report.close()
        if not grants and sandbox_id not in self._doors:
            self._grants.pop(sandbox_id, None)

    async def aclose(self) -> None:
        """Close everything."""
        await asyncio.gather(*(self.close(sandbox_id) for sandbox_id in list(self._doors)))
        for grants in self._grants.values():
            for held in grants:
                await held.report.close()
        self._grants.clear()
        self._own.close()
