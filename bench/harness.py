"""Register benches, run them, print figure, yardstick and ratio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: The number.
        unit: Its unit.
        yardstick: What it is held against, in the same unit; None where there is nothing to compare with.
        yardstick_name: What the yardstick is.
        at_most: A promise: the value must not exceed it.
        at_least: A promise: the value must not fall below it.
    """

    name: str
    value: float
    unit: str
    yardstick: float | None = None
    yardstick_name: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the promise, if there is one, is kept."""
        too_high = self.at_most is not None and self.value > self.at_most
        too_low = self.at_least is not None and self.value < self.at_least
        return not (too_high or too_low)


Bench = Callable[[], Awaitable[list[Figure]]]
_benches: dict[str, Bench] = {}


def bench(name: str) -> Callable[[Bench], Bench]:
    """Register an async function that measures figures under `name`."""

    def register(function: Bench) -> Bench:
        _benches[name] = function
        return function

    return register


def names() -> list[str]:
    """Return the names of all benches."""
    return sorted(_benches)


def _line(figure: Figure) -> str:
    value = f"{figure.value:,.2f} {figure.unit}"
    against = ratio = promise = ""
    if figure.yardstick is not None:
        against = f"{figure.yardstick:,.2f} {figure.unit} ({figure.yardstick_name})"
        ratio = f"×{figure.value / figure.yardstick:.2f}" if figure.yardstick else "–"
    limits = [("≤", figure.at_most), ("≥", figure.at_least)]
    for sign, limit in limits:
        if limit is not None:
            promise = f"{sign} {limit:g} {figure.unit}: {'kept' if figure.kept else 'BROKEN'}"
    return f"  {figure.name:<52} {value:>14}  {against:<38} {ratio:<8} {promise}".rstrip()


def run(chosen: list[str]) -> bool:
    """Run the chosen benches and print their figures; say whether every promise was kept."""
    kept = True
    if busy := _busy():
        print(busy, flush=True)
    for name in chosen:
        print(f"{name}", flush=True)
        for figure in asyncio.run(_measure(name)):
            print(_line(figure), flush=True)
            kept = kept and figure.kept
    return kept


def _busy() -> str:
    """Return a warning if other work on this machine would spoil the figures."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < cores / 2:
        return ""
    return f"This machine is busy (load {load:.1f} on {cores} cores): times will read too high."


async def _measure(name: str) -> list[Figure]:
    return await _benches[name]()
