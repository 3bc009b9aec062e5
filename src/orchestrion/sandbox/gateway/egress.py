"""Reports what a sandbox reaches: the first of each kind at once, then sums, ever more seldom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, NamedTuple

import structlog

from orchestrion.core.events import SandboxEgress
from orchestrion.sandbox.gateway.grants import Emit

log = structlog.get_logger(__name__)

_KINDS = 64  # that are told apart; code inside that tries hosts at random fills no journal
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_EMIT_SECONDS = 10.0


class Kind(NamedTuple):
    """What is counted together."""

    host: str
    port: int
    verdict: Literal["allowed", "denied"]
    rule: str = ""
    reason: str = ""


@dataclass
class _Sums:
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class EgressReport:
    """What one grant's sandbox reached.

    Args:
        sandbox_id: Which.
        emit: Takes the events; errors of it are logged.
        first_wait: Seconds before sums are reported for the first time; each wait is twice the one before.
    """

    def __init__(self, sandbox_id: str, emit: Emit | None, first_wait: float = _FIRST_WAIT) -> None:
        self._sandbox_id = sandbox_id
        self._emit = emit
        self._wait = first_wait
        self._seen: set[Kind] = set()
        self._pending: dict[Kind, _Sums] = {}
        self._flusher: asyncio.Task[None] | None = None

    async def add(self, kind: Kind, *, requests: int = 1, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Count; the first of a kind is reported before this returns."""
        if self._emit is None:
            return
        if kind not in self._seen and len(self._seen) >= _KINDS:
            kind = Kind("…", 0, kind.verdict, reason="Further hosts are counted together.")
        fresh = kind not in self._seen
        self._seen.add(kind)
        if fresh:
            await self._send(kind, _Sums(requests, bytes_in, bytes_out))
            return
        sums = self._pending.setdefault(kind, _Sums())
        sums.requests += requests
        sums.bytes_in += bytes_in
        sums.bytes_out += bytes_out
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_later())

    async def close(self) -> None:
        """Report what is left."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._flush()

    async def _flush_later(self) -> None:
        wait, self._wait = self._wait, min(self._wait * 2, _LONGEST_WAIT)
        await asyncio.sleep(wait)
        # What is being reported when the report is closed is reported to its end.
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        for kind, sums in pending.items():
            await self._send(kind, sums)

    async def _send(self, kind: Kind, sums: _Sums) -> None:
        event = SandboxEgress(
            sandbox_id=self._sandbox_id,
            host=kind.host[:255],
            port=kind.port,
            verdict=kind.verdict,
            rule=kind.rule,
            reason=kind.reason,
            requests=sums.requests,
            bytes_in=sums.bytes_in,
            bytes_out=sums.bytes_out,
        )
        if self._emit is None:
            return
        try:
            async with asyncio.timeout(_EMIT_SECONDS):
                await self._emit(event)
        except Exception as error:
            log.warning("egress could not be reported", sandbox=self._sandbox_id, error=str(error))
