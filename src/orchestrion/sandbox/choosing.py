"""Which provider makes a sandbox: the one that was asked for, or the strongest that works here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from orchestrion.core.errors import OrchestrionError, SandboxUnavailable
from orchestrion.core.settings import Settings
from orchestrion.sandbox.protocols import Availability, SandboxProvider

log = structlog.get_logger(__name__)

RENTED = frozenset({"e2b"})
"""Providers elsewhere: their account may hold sandboxes that are not ours, and may limit how long one lives."""

_NAMES = ("microvm", "e2b", "local")


class Providers:
    """The providers of one process, each made when first asked for.

    Args:
        settings: Where the local ones live, and the keys.
        pool: How many sandboxes the local provider keeps ready.
        given: Providers to use instead of these, by name.
    """

    def __init__(self, settings: Settings, pool: int, given: Mapping[str, SandboxProvider] | None = None) -> None:
        self._settings = settings
        self._pool = pool
        self._given = given
        self._made: dict[str, SandboxProvider] = dict(given or {})
        self._chosen: SandboxProvider | None = None
        self._passed_over = ""
        self._choosing = asyncio.Lock()

    def get(self, name: str) -> SandboxProvider:
        """Return the provider of this name.

        Raises:
            SandboxUnavailable: This version has none, or its key is missing.
        """
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> SandboxProvider:
        if name == "local" and self._given is None:
            from orchestrion.sandbox.local import LocalProvider

            return LocalProvider(self._settings.home, self._settings.sandbox_python, pool=self._pool)
        if name == "e2b" and self._given is None:
            return self._make_e2b()
        raise SandboxUnavailable(
            f"This version of Orchestrion has no sandbox provider `{name[:40]}`.",
            "Set SANDBOX_MODE to local, e2b or hybrid, or leave it unset.",
        )

    def _make_e2b(self) -> SandboxProvider:
        key = self._settings.e2b_api_key
        if key is None:
            raise SandboxUnavailable(
                "The sandbox provider `e2b` needs a key.", "Set E2B_API_KEY, or SANDBOX_MODE=local."
            )
        from orchestrion.sandbox.e2b import E2BProvider

        workspaces = self._settings.home / "workspaces"
        return E2BProvider(
            key.get_secret_value(), self._settings.e2b_domain, workspace_of=lambda session: workspaces / session
        )

    def made(self) -> list[SandboxProvider]:
        """Return those that this process has used so far."""
        return list(self._made.values())

    async def choose(self, mode: str) -> SandboxProvider:
        """Return the provider for new sandboxes.

        Args:
            mode: A provider's name, or `hybrid`.

        Raises:
            SandboxUnavailable: There is no such provider, or none works here.
        """
        if mode != "hybrid":
            return self.get(mode)
        found = await self._strongest()
        if self._chosen is None:
            raise SandboxUnavailable(found.detail, found.remedy)
        return self._chosen

    async def probe(self, mode: str) -> Availability:
        """Say whether sandboxes can be made in this mode, by making one."""
        if mode == "hybrid":
            return await self._strongest()
        return await self._probe(mode)

    async def _probe(self, name: str) -> Availability:
        try:
            return await self.get(name).probe()
        except OrchestrionError as error:
            return Availability(False, error.detail, error.remedy)

    async def _strongest(self) -> Availability:
        """Take the strongest that works, and stay with it as long as it does."""
        async with self._choosing:
            if self._chosen is not None:
                again = await self._probe(self._chosen.name)
                if again.ok:
                    return self._told(self._chosen.name, again)
                self._chosen = None
            return await self._look_through()

    async def _look_through(self) -> Availability:
        passed: list[str] = []
        first: Availability | None = None
        for name in await self._by_strength(passed):
            answer = await self._probe(name)
            if answer.ok:
                self._chosen, self._passed_over = self.get(name), " ".join(passed)
                return self._told(name, answer)
            log.warning("a sandbox provider does not work here", provider=name, detail=answer.detail)
            passed.append(f"`{name}` does not work here: {answer.detail}")
            first = answer  # the last is the weakest, whose remedy is the nearest at hand
        if first is None:
            return Availability(False, "There is no sandbox provider.", "Set SANDBOX_MODE=local.")
        return Availability(False, " ".join(passed), first.remedy)

    async def _by_strength(self, passed: list[str]) -> list[str]:
        """Return the names of those that this machine may use, the strongest first."""
        strengths: dict[str, int] = {}
        for name in self._made if self._given is not None else _NAMES:
            if name == "microvm" and self._given is None:
                passed.append("`microvm` is not in this version.")
                continue
            if name == "e2b" and self._given is None and self._settings.e2b_api_key is None:
                passed.append("`e2b` needs E2B_API_KEY.")
                continue
            try:
                strengths[name] = (await self.get(name).capabilities()).strength
            except OrchestrionError:
                strengths[name] = 0  # its probe says what is wrong
        return sorted(strengths, key=lambda name: -strengths[name])

    def _told(self, name: str, answer: Availability) -> Availability:
        text = f"hybrid takes `{name}`, the strongest that works here. {answer.detail} {self._passed_over}"
        return Availability(True, text.strip(), answer.remedy)

    async def aclose(self) -> None:
        """Let go of what they hold; sandboxes live on."""
        for provider in self._made.values():
            await provider.aclose()
