"""What becomes of a sandbox: made, paused, woken, ended; each step once, whichever process takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol, runtime_checkable

import structlog

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, SandboxGone, Unsupported
from orchestrion.core.settings import Settings
from orchestrion.sandbox.choosing import RENTED, Providers
from orchestrion.sandbox.doors import Doors
from orchestrion.sandbox.protocols import Sandbox, SandboxInfo, SandboxProvider, SandboxSpec
from orchestrion.sandbox.quotas import Place, Quotas
from orchestrion.sandbox.registry import Clock, Lease, OnTimeout, Registry

log = structlog.get_logger(__name__)

_YOUNG = 60.0
_ALIVE = 5.0


@runtime_checkable
class _Adopting(Protocol):
    """A provider that mounts workspaces under another user than ours."""

    async def adopt(self, sandbox_id: str) -> None: ...


@runtime_checkable
class _Clocked(Protocol):
    """A provider elsewhere, whose own clock ends sandboxes that nobody talks to."""

    async def set_time(self, sandbox_id: str, seconds: float) -> None: ...

    async def prolong(self, sandbox_id: str) -> None: ...


class Lifecycle:
    """The steps in a sandbox's life.

    Args:
        settings: Quotas, and how long an unused one is kept.
        registry: The leases.
        providers: Who makes sandboxes.
        doors: The gateway's sockets.
        clock: Returns the time, seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, registry: Registry, providers: Providers, doors: Doors, clock: Clock
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._providers = providers
        self._doors = doors
        self._clock = clock
        self._quotas = Quotas(
            registry, settings.sandbox_max, settings.sandbox_max_per_owner, self._yield_place, self.sweep
        )

    # Beginning

    async def make(
        self,
        spec: SandboxSpec,
        provider: SandboxProvider,
        *,
        seconds: float | None = None,
        on_timeout: OnTimeout = "kill",
        auto_resume: bool = False,
        keep_memory: bool = True,
    ) -> Sandbox:
        """Make a sandbox and its lease. Raises as `SandboxProvider.create`, and `QuotaExceeded`."""
        async with self._quotas.place(spec.owner) as place:
            sandbox = await provider.create(spec)
            terms = Lease(
                id="",
                provider=provider.name,
                session_id=spec.session_id,
                owner=spec.owner,
                created_at=0,
                seconds=seconds,
                on_timeout=on_timeout,
                auto_resume=auto_resume,
                keep_memory=keep_memory,
            )
            await self._move_in(sandbox, spec, terms, place)
        return sandbox

    async def copy(self, lease: Lease, seconds: float | None) -> Sandbox:
        """Make a copy of a sandbox, on the same terms but for its time. Raises as `SandboxProvider.fork`."""
        provider = self._providers.get(lease.provider)
        async with self._quotas.place(lease.owner) as place:
            async with self._registry.locked("sandbox", lease.id):
                source = await provider.info(lease.id)
                spec = replace(source.spec, session_id=None, workspace=None)
                sandbox = await provider.fork(lease.id, spec)
            await self._move_in(sandbox, spec, replace(lease, session_id=None, seconds=seconds, epoch=0), place)
        return sandbox

    async def _move_in(self, sandbox: Sandbox, spec: SandboxSpec, terms: Lease, place: Place) -> None:
        now = self._clock()
        lease = replace(terms, id=sandbox.id, created_at=now, ends_at=_end(now, terms.seconds), paused=False)
        try:
            await place.take(lease)
            self._registry.touch(lease.id)
            await self._open_door(lease, spec, take_over=True)
        except BaseException:
            await self.end(lease)  # nobody would know that it is there
            raise

    async def serve_gateway(self, lease: Lease, *, take_over: bool = False) -> None:
        """See to it that a running sandbox has its gateway, if its provider uses ours."""
        if not self._doors.has(lease.id):
            await self._open_door(lease, None, take_over=take_over)

    async def _open_door(self, lease: Lease, spec: SandboxSpec | None, *, take_over: bool) -> None:
        provider = self._providers.get(lease.provider)
        if (await provider.capabilities()).gateway:
            spec = spec or (await provider.info(lease.id)).spec
            await self._doors.open(lease.id, spec, take_over=take_over)

    async def give_files(self, lease: Lease) -> None:
        """Let the sandbox's user have what the host has put into its workspace while nobody used it."""
        provider = self._providers.get(lease.provider)
        if isinstance(provider, _Adopting) and not self._registry.in_use(lease.id):
            await provider.adopt(lease.id)

    # Waking

    async def wake(self, lease: Lease, *, memory: bool = True, seconds: float | None = None) -> Sandbox:
        """Let a sandbox go on; one that runs already just gets its time.

        Args:
            lease: Whose.
            memory: With its processes, if they are there; else it starts anew on its files.
            seconds: The time it is given; by default as much as it had been given before.

        Raises:
            NotFound: It is gone, with its files.
            QuotaExceeded: Too many run already.
        """
        provider = self._providers.get(lease.provider)
        async with self._quotas.place(lease.owner) as place, self._changing(lease) as current:
            info = await self._look(current, provider)
            time = current.seconds if seconds is None else seconds
            awake = replace(current, paused=False, memory=True, seconds=time, ends_at=_end(self._clock(), time))
            if info.state == "running" and (sandbox := await self._answering(provider, lease.id)):
                await self._registry.keep(awake)
                await self.set_clock(lease, time)
                return sandbox
            kept = memory and info.state == "paused" and info.memory
            sandbox, kept = await self._start_again(provider, info, kept)
            await place.take(replace(awake, epoch=current.epoch + 1, fresh=current.fresh or not kept))
            self._registry.touch(lease.id)
            await self.set_clock(lease, time)
        await self.serve_gateway(lease)
        return sandbox

    async def set_clock(self, lease: Lease, seconds: float | None) -> None:
        """Let a provider's own clock leave a sandbox at least so much time from now on."""
        provider = self._providers.get(lease.provider)
        if isinstance(provider, _Clocked) and seconds:
            await provider.set_time(lease.id, seconds)

    async def tell(self, lease: Lease) -> None:
        """Note that a session has heard that its sandbox was started anew."""
        async with self._changing(lease) as current:
            await self._registry.keep(replace(current, fresh=False))

    async def _answering(self, provider: SandboxProvider, sandbox_id: str) -> Sandbox | None:
        """Return a sandbox that is said to run, if it does."""
        try:
            sandbox = await provider.open(sandbox_id)
        except SandboxGone:
            return None
        return sandbox if await sandbox.ping(_ALIVE) else None

    async def _start_again(self, provider: SandboxProvider, info: SandboxInfo, kept: bool) -> tuple[Sandbox, bool]:
        if info.state == "running":  # it is said to run but does not answer: what is left of it is in the way
            await _clear_away(provider, info.id)
        try:
            sandbox = await provider.resume(info.id, memory=kept)
            if not kept or await sandbox.ping(_ALIVE):
                return sandbox, kept
        except SandboxGone:
            if not kept:
                raise
        log.warning("a paused sandbox had lost its processes", sandbox_id=info.id)
        await _clear_away(provider, info.id)
        return await provider.resume(info.id, memory=False), False

    # Pausing and ending

    async def pause(self, lease: Lease, *, memory: bool = True, idle: bool = False) -> bool:
        """Pause a sandbox; with `idle`, only if nobody uses it. Says whether it was done. Raises as the provider."""
        provider = self._providers.get(lease.provider)
        async with self._changing(lease) as current:
            if idle and (current.paused or self._registry.in_use(lease.id)):
                return False
            await provider.pause(lease.id, memory=memory)
            await self._registry.keep(replace(current, paused=True, memory=memory, ends_at=None))
            await self._doors.close(lease.id)
        return True

    async def _yield_place(self, lease: Lease) -> bool:
        """Pause a sandbox to make room for another, if that loses nothing."""
        try:
            capabilities = await self._providers.get(lease.provider).capabilities()
            return capabilities.pause_memory != "none" and await self.pause(lease, idle=True)
        except OrchestrionError as error:
            log.warning("a sandbox could not be paused to make room", sandbox_id=lease.id, error=error.detail)
            return False

    async def end(self, lease: Lease, why: str = "") -> None:
        """End a sandbox and forget it; `why` is what its session is told. Raises as the provider, but `NotFound`."""
        provider = self._providers.get(lease.provider)
        async with self._registry.locked("sandbox", lease.id):
            await self._end(provider, lease, why)

    async def _end(self, provider: SandboxProvider, lease: Lease, why: str) -> None:
        await self._doors.close(lease.id)
        try:
            await provider.remove(lease.id)
        except NotFound:
            log.debug("the sandbox was gone already", sandbox_id=lease.id)
        await self._registry.forget(lease, why)

    # Time

    def due(self, lease: Lease) -> bool:
        """Say whether a sandbox's time is over."""
        return lease.ends_at is not None and not lease.paused and lease.ends_at <= self._clock()

    async def settle(self, lease: Lease) -> None:
        """Do what was agreed for the end of a sandbox's time, unless that is done or it was given more."""
        provider = self._providers.get(lease.provider)
        async with self._changing(lease) as current:
            if not self.due(current):
                return
            if current.on_timeout == "kill":
                return await self._end(provider, current, "")
            memory = await self._pause_as_agreed(provider, current)
            await self._registry.keep(replace(current, paused=True, memory=memory, ends_at=None))
            await self._doors.close(lease.id)

    async def _pause_as_agreed(self, provider: SandboxProvider, lease: Lease) -> bool:
        try:
            await provider.pause(lease.id, memory=lease.keep_memory)
        except Unsupported as error:
            if not lease.keep_memory:
                raise
            log.warning("only the files of a sandbox are kept", sandbox_id=lease.id, why=error.detail)
            await provider.pause(lease.id, memory=False)
            return False
        except Conflict:
            return (await provider.info(lease.id)).memory
        return lease.keep_memory

    async def rest(self, lease: Lease) -> None:
        """Pause a session's sandbox that nobody has used for a while; after longer, keep only its files."""
        if not lease.paused and self._registry.in_use(lease.id):
            return await self._prolong(lease)
        idle = self._clock() - self._registry.used_at(lease)
        over = idle >= self._settings.sandbox_idle_seconds
        if lease.session_id is None or not (over or self._tired(lease, idle)) or self._registry.in_use(lease.id):
            return
        capabilities = await self._providers.get(lease.provider).capabilities()
        if over and lease.memory:
            await self._retire(lease, capabilities.snapshots)
        elif not over and capabilities.pause_memory != "none":  # else it would forget its variables too soon
            await self.pause(lease, idle=True)

    async def _prolong(self, lease: Lease) -> None:
        """Keep a provider's own clock from ending a sandbox that is in use, though nothing is asked of it."""
        provider = self._providers.get(lease.provider)
        if isinstance(provider, _Clocked):
            await provider.prolong(lease.id)

    def _tired(self, lease: Lease, idle: float) -> bool:
        return not lease.paused and idle >= self._settings.sandbox_pause_seconds

    async def _retire(self, lease: Lease, files: bool) -> None:
        seconds = self._settings.sandbox_idle_seconds
        if not files:
            why = f"It was not used for {seconds} s, and its provider keeps no files of an ended one."
            return await self.end(lease, why)
        provider = self._providers.get(lease.provider)
        async with self._changing(lease) as current:
            if not current.memory or self._registry.in_use(lease.id) or self._used_since(lease):
                return
            await _drop_memory(provider, await self._look(current, provider))
            await self._registry.keep(replace(current, paused=True, memory=False, ends_at=None))
            await self._doors.close(lease.id)

    def _used_since(self, lease: Lease) -> bool:
        return self._clock() - self._registry.used_at(lease) < self._settings.sandbox_idle_seconds

    # Order

    async def sweep(self) -> None:
        """Bring the leases in line with what the providers know; remove sandboxes that belong to nobody."""
        leases = {lease.id: lease for lease in await self._registry.all()}
        for provider in await asyncio.to_thread(self._sweepable, leases):
            try:
                await self._sweep(provider, leases)
            except OrchestrionError as error:
                log.warning("sandboxes could not be looked through", provider=provider.name, error=error.detail)

    def _sweepable(self, leases: dict[str, Lease]) -> list[SandboxProvider]:
        found = {provider.name: provider for provider in self._providers.made()}
        places = self._settings.home / "sandboxes"
        local = {"local"} if places.is_dir() and any(places.iterdir()) else set()
        for name in (local | {lease.provider for lease in leases.values()}) - found.keys():
            try:
                found[name] = self._providers.get(name)
            except OrchestrionError as error:
                log.warning("the provider of some sandboxes is not available", provider=name, error=error.detail)
        return list(found.values())

    async def _sweep(self, provider: SandboxProvider, leases: dict[str, Lease]) -> None:
        known = {info.id: info for info in await provider.known()}
        for lease in [lease for lease in leases.values() if lease.provider == provider.name]:
            info = known.get(lease.id)
            if info is None or (info.state == "paused", info.memory) != (lease.paused, lease.memory):
                await self._reconcile(provider, lease)
        if provider.name in RENTED:
            return
        for info in known.values():
            if info.id not in leases and self._clock() - info.created_at.timestamp() > _YOUNG:
                await self._remove_orphan(provider, info)

    async def _reconcile(self, provider: SandboxProvider, lease: Lease) -> None:
        """Make a lease say what its sandbox is; drop it if there is none."""
        try:
            async with self._changing(lease) as current:
                await self._look(current, provider)
        except NotFound:
            log.info("a sandbox is gone", sandbox_id=lease.id)

    async def _remove_orphan(self, provider: SandboxProvider, info: SandboxInfo) -> None:
        """Remove a sandbox whose maker died before it had a lease, unless it has got one meanwhile."""
        async with self._registry.locked("sandbox", info.id):
            try:
                await self._registry.get(info.id)
            except NotFound:
                log.info("removing a sandbox that belongs to nobody", sandbox_id=info.id)
                await provider.remove(info.id)

    async def _look(self, lease: Lease, provider: SandboxProvider) -> SandboxInfo:
        """Describe a sandbox whose lock is held; its lease then says the same.

        Raises:
            NotFound: It is gone, and now its lease too.
        """
        try:
            info = await provider.info(lease.id)
        except NotFound:
            await self._doors.close(lease.id)
            await self._registry.forget(lease, "Its provider has it no more." if lease.session_id else "")
            raise
        paused = info.state == "paused"
        if (paused, info.memory) != (lease.paused, lease.memory):
            ends_at = None if paused else lease.ends_at
            await self._registry.keep(replace(lease, paused=paused, memory=info.memory, ends_at=ends_at))
        return info

    @asynccontextmanager
    async def _changing(self, lease: Lease) -> AsyncIterator[Lease]:
        """Hold a sandbox's lock; what is yielded is its lease as it stands. Raises `NotFound`."""
        async with self._registry.locked("sandbox", lease.id):
            yield await self._registry.get(lease.id)


async def _clear_away(provider: SandboxProvider, sandbox_id: str) -> None:
    """End what is left of a sandbox's processes; its files stay."""
    with suppress(Conflict):  # nothing was left
        await provider.pause(sandbox_id, memory=False)


async def _drop_memory(provider: SandboxProvider, info: SandboxInfo) -> None:
    if info.memory:
        await provider.pause(info.id, memory=False)


def _end(now: float, seconds: float | None) -> float | None:
    return None if seconds is None else now + seconds
