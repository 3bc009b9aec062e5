"""Counts what a run has used, so that a budget can end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from orchestrion.core.errors import BudgetSpent
from orchestrion.core.events import Usage
from orchestrion.store.models import Budget


@dataclass
class Meter:
    """What a run has used so far.

    Attributes:
        budget: Its limits; None is no limit.
        usage: Tokens and money.
        steps: Model calls that count against the budget.
        granted: Usage that does not: from before the user had an ended run go on.
        started: When it began, on the monotonic clock, less what it had run before it was resumed.
    """

    budget: Budget
    usage: Usage = field(default_factory=Usage)
    steps: int = 0
    granted: Usage = field(default_factory=Usage)
    started: float = field(default_factory=monotonic)

    def add(self, call: Usage) -> None:
        """Count one answered model call."""
        known = [usd for usd in (self.usage.usd, call.usd) if usd is not None]
        self.usage = Usage(
            input_tokens=self.usage.input_tokens + call.input_tokens,
            output_tokens=self.usage.output_tokens + call.output_tokens,
            cache_read_tokens=self.usage.cache_read_tokens + call.cache_read_tokens,
            usd=sum(known) if known else None,
        )

    def seconds_left(self) -> float | None:
        """Return the wall time that is left; None without a limit."""
        return None if self.budget.seconds is None else self.budget.seconds - (monotonic() - self.started)

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """End what runs inside when the budget's seconds are over.

        Raises:
            BudgetSpent: They are.
        """
        timeout = asyncio.timeout(self.seconds_left())
        try:
            async with timeout:
                yield
        except TimeoutError:
            if timeout.expired():
                raise BudgetSpent("seconds", self.budget.seconds or 0) from None
            raise

    def check(self) -> None:
        """Raise if a limit is reached.

        Raises:
            BudgetSpent: With the kind and the limit.
        """
        left = self.seconds_left()
        tokens = self.usage.input_tokens + self.usage.output_tokens
        granted = self.granted.input_tokens + self.granted.output_tokens
        spent: list[tuple[str, float, float | None]] = [
            ("steps", self.steps, self.budget.steps),
            ("tokens", tokens - granted, self.budget.tokens),
            ("usd", (self.usage.usd or 0.0) - (self.granted.usd or 0.0), self.budget.usd),
        ]
        for kind, used, limit in spent:
            if limit is not None and used >= limit:
                raise BudgetSpent(kind, limit)
        if left is not None and left <= 0:
            raise BudgetSpent("seconds", self.budget.seconds or 0)
