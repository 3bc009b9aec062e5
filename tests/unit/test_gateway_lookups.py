"""A sandbox that asks for names which are slow to look up holds up itself alone."""

from __future__ import annotations

import asyncio

import pytest

from orchestrion.sandbox.gateway.dialler import Dialler, Unreachable
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.policy import Policy
from orchestrion.sandbox.protocols import Network


class _Slow:
    """Answers when it is let; as a thread, it goes on when nobody waits for it any more."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.let = asyncio.Event()

    async def __call__(self, host: str, port: int) -> list[str]:
        return await asyncio.shield(asyncio.ensure_future(self._answer()))

    async def _answer(self) -> list[str]:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.let.wait()
        self.running -= 1
        raise OSError("no such name")


async def test_look_ups_that_were_given_up_keep_their_places() -> None:
    slow, policy = _Slow(), Policy(Network(allow=("*",)))
    dialler = Dialler(slow, GatewayLimits(connect_seconds=0.01, lookups=3))

    async def ask(number: int) -> None:
        with pytest.raises(Unreachable):
            await dialler.dial(policy, policy.permit(f"n{number}.example", 443))

    for round_ in range(4):
        await asyncio.gather(*(ask(10 * round_ + number) for number in range(5)))
    assert slow.most == 3
    slow.let.set()
    await asyncio.gather(*(ask(number) for number in range(5)))
    assert slow.running == 0
