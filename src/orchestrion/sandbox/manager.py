"""The sandboxes of one data directory: made, found again, paused, woken and ended, whichever process asks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

import structlog

from orchestrion.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OrchestrionError,
    SandboxError,
    SandboxGone,
    SandboxUnavailable,
)
from orchestrion.core.settings import Settings
from orchestrion.sandbox.choosing import RENTED, Providers
from orchestrion.sandbox.doors import Doors
from orchestrion.sandbox.keeper import Keeper
from orchestrion.sandbox.lifecycle import Lifecycle
from orchestrion.sandbox.protocols import (
    Availability,
    Capabilities,
    Limits,
    Network,
    Sandbox,
    SandboxInfo,
    SandboxProvider,
    SandboxSpec,
    Snapshot,
)
from orchestrion.sandbox.registry import Held, Lease, OnTimeout, Registry

if TYPE_CHECKING:
    from orchestrion.sandbox.gateway import Gateway

log = structlog.get_logger(__name__)

How = Literal["created", "reused", "resumed", "restored"]
_WOKEN_SECONDS = 300.0
_LONGEST = 86_400
_GRACE = 60
_MOST_FORKS = 64


@dataclass(frozen=True)
class Acquired:
    """A session's sandbox, and how it was come by.

    Attributes:
        sandbox: It answers.
        how: `created` anew, `reused` as it ran, `resumed` from a pause with its live variables, or `restored` on its
            files alone.
        lost: Why the session's earlier sandbox is gone with its files; empty if nothing is lost.
        caveats: For a new one: what of the settings its provider does not keep.
    """

    sandbox: Sandbox
    how: How
    lost: str = ""
    caveats: str = ""


@runtime_checkable
class _Warming(Protocol):
    """A provider that can be made ready beforehand."""

    async def warm(self) -> None: ...


class Sandboxes:
    """The sandboxes of all sessions in one data directory, and those that were made for themselves.

    A long-lived process uses it as a context manager: then it also pauses what is unused and ends what is over. Every
    method that names a sandbox raises `NotFound` if there is none of that id.

    Args:
        settings: Where they live, which provider makes them and what they may use.
        providers: Providers to use instead of those that the settings name.
        clock: Returns the time, seconds since the epoch.
        pool: How many sandboxes to keep ready, if the settings don't say.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        providers: Mapping[str, SandboxProvider] | None = None,
        clock: Callable[[], float] = time.time,
        pool: int = 0,
    ) -> None:
        self._settings = settings
        self._clock = clock
        ready = pool if settings.sandbox_pool is None else settings.sandbox_pool
        self._providers = Providers(settings, ready, providers)
        self._registry = Registry(settings.home / "held", clock)
        self._doors = Doors(settings.home / "sandboxes", tuple(settings.sandbox_egress))
        self._lifecycle = Lifecycle(settings, self._registry, self._providers, self._doors, clock)
        self._keeper = Keeper(self._registry, self._lifecycle, clock)
        self._open: dict[str, tuple[int, Sandbox]] = {}

    async def __aenter__(self) -> Self:
        """Begin to keep time; what was over while no process did is settled first."""
        self._keeper.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop keeping time and let go of everything; the sandboxes live on."""
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of what this process holds; the sandboxes live on."""
        await self._keeper.stop()
        await self._doors.aclose()
        await self._providers.aclose()

    @property
    def gateway(self) -> Gateway:
        """This process's gateway, for grants."""
        return self._doors.gateway

    # A session's sandbox

    async def acquire(
        self, session_id: str, workspace: Path, provider: str | None = None, *, owner: str = ""
    ) -> Acquired:
        """Return the session's sandbox; a living one is used, also one that another process of ours made.

        Args:
            session_id: The session.
            workspace: The session's directory on the host.
            provider: `local`, `microvm`, `e2b` or `hybrid`; by default the one in the settings. If the session has a
                sandbox of another one, that is ended.
            owner: Whose quota it counts against.

        Raises:
            SandboxUnavailable: None can be made here; the remedy says how to change that.
            SandboxError: This one could not be made.
            QuotaExceeded: As many as may run at once do.
        """
        _refuse_path(session_id)
        if (warm := await self._warm(session_id, provider)) is not None:
            return warm
        async with self._registry.locked("session", session_id):
            lease = await self._registry.of_session(session_id)
            lost = await self._registry.why_gone(session_id)
            if lease is not None and provider in {None, "hybrid", lease.provider}:
                found = await self._take_up(lease)
                if isinstance(found, Acquired):
                    return found
                lost = found
            elif lease is not None:
                await self.remove(lease.id)
            spec = self._spec(session_id, workspace, owner)
            chosen = await self._choose(provider)
            sandbox = await self._lifecycle.make(spec, chosen, auto_resume=True)
            lease = await self._remember(sandbox)
            await self._lifecycle.serve_gateway(lease, take_over=True)
            return Acquired(sandbox, "created", lost, (await chosen.capabilities()).caveats)

    async def _warm(self, session_id: str, provider: str | None) -> Acquired | None:
        """Return the session's sandbox if this process knows it and it answers; nothing is locked."""
        lease = await self._registry.of_session(session_id)
        if lease is None or lease.paused or lease.fresh or provider not in {None, "hybrid", lease.provider}:
            return None
        epoch, sandbox = self._open.get(lease.id, (-1, None))
        if sandbox is None or epoch != lease.epoch or not await sandbox.ping():
            return None
        await self._lifecycle.give_files(lease)
        self._registry.touch(lease.id)
        await self._lifecycle.serve_gateway(lease, take_over=True)
        return Acquired(sandbox, "reused")

    async def _take_up(self, lease: Lease) -> Acquired | str:
        """Return the session's sandbox as it is or woken; if that is not possible, why it is lost."""
        was_running = not lease.paused
        try:
            sandbox = await self._lifecycle.wake(lease)
            current = await self._remember(sandbox)
        except NotFound:
            return "Its provider has it no more." if was_running else "What was kept of it is gone."
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            log.warning("a sandbox could not be brought back", sandbox_id=lease.id, error=error.detail)
            return f"It could not be brought back: {error.detail} What is left of it is kept as {lease.id}."
        await self._lifecycle.give_files(current)
        await self._lifecycle.serve_gateway(current, take_over=True)
        if current.fresh:
            await self._lifecycle.tell(current)
            return Acquired(sandbox, "restored")
        return Acquired(sandbox, "reused" if current.epoch == lease.epoch else "resumed")

    async def _remember(self, sandbox: Sandbox) -> Lease:
        lease = await self._registry.get(sandbox.id)
        self._open[sandbox.id] = lease.epoch, sandbox
        self._registry.touch(sandbox.id)
        return lease

    @property
    def limits(self) -> Limits:
        """What the settings let a sandbox use."""
        return Limits(memory_mb=self._settings.sandbox_memory_mb, processes=self._settings.sandbox_processes)

    def _spec(self, session_id: str, workspace: Path, owner: str) -> SandboxSpec:
        settings = self._settings
        return SandboxSpec(
            session_id=session_id,
            owner=owner,
            workspace=workspace,
            template="code-interpreter-v1",
            limits=self.limits,
            idle_seconds=settings.sandbox_idle_seconds,
            network=Network(allow=tuple(settings.sandbox_egress), registries=settings.sandbox_registries),
        )

    async def find(self, session_id: str) -> Sandbox | None:
        """Return the session's sandbox if it runs and answers; nothing is woken or made."""
        lease = await self._registry.of_session(session_id)
        if lease is None or lease.paused:
            return None
        try:
            sandbox = await self.open(lease.id)
        except (NotFound, Conflict, SandboxGone):
            return None
        return sandbox if await sandbox.ping() else None

    def hold(self, sandbox_id: str) -> AbstractContextManager[None]:
        """Say, as long as this lasts, that a sandbox is in use: it is not paused for want of use."""
        return self._registry.using(sandbox_id)

    async def close(self, session_id: str) -> None:
        """End the session's sandbox, if it has one, and what is left of earlier ones."""
        _refuse_path(session_id)
        async with self._registry.locked("session", session_id):
            for lease in await self._registry.all():
                if lease.session_id == session_id:
                    await self._end_or_forget(lease)
            await self._registry.why_gone(session_id)

    async def _end_or_forget(self, lease: Lease) -> None:
        """End a sandbox; one whose provider can't be asked any more is left to end by itself."""
        try:
            await self.remove(lease.id)
        except SandboxUnavailable as error:
            log.warning("a sandbox is left to its provider", sandbox_id=lease.id, why=error.detail)
            await self._registry.forget(lease)

    async def close_all(self) -> None:
        """End every sandbox of this data directory, also those that other processes made."""
        leases = await self._registry.all()
        ended = await asyncio.gather(*(self.remove(lease.id) for lease in leases), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, NotFound):
                log.warning("a sandbox could not be ended", error=str(error))

    # Any sandbox

    async def create(
        self,
        spec: SandboxSpec,
        *,
        provider: str | None = None,
        seconds: float | None = None,
        on_timeout: OnTimeout = "kill",
        auto_resume: bool = False,
        keep_memory: bool = True,
    ) -> Sandbox:
        """Make a sandbox that belongs to no session.

        Args:
            spec: What is wanted.
            provider: As in `acquire`.
            seconds: How long it may live; None for no limit but the spec's `idle_seconds`.
            on_timeout: What happens then.
            auto_resume: Traffic wakes it from a pause.
            keep_memory: A pause at the end of its time keeps its processes.

        Raises:
            NotFound: There is no such template, or it is another owner's snapshot.
            SandboxUnavailable: None can be made here.
            SandboxError: This one could not be made.
            QuotaExceeded: As many as may run at once do.
        """
        await self._check_template(spec)
        chosen = await self._choose(provider)
        if seconds is not None:  # then the lease ends it; what watches for idleness is for those that nobody keeps
            longest = math.ceil(seconds) if chosen.name in RENTED else _LONGEST
            longest += _GRACE if on_timeout == "pause" else 0  # else it might be ended over there before we pause it
            spec = replace(spec, idle_seconds=max(spec.idle_seconds, longest))
        sandbox = await self._lifecycle.make(
            spec,
            chosen,
            seconds=seconds,
            on_timeout=on_timeout,
            auto_resume=auto_resume,
            keep_memory=keep_memory,
        )
        await self._remember(sandbox)
        return sandbox

    async def _choose(self, provider: str | None) -> SandboxProvider:
        return await self._providers.choose(provider or self._settings.sandbox_mode)

    async def _check_template(self, spec: SandboxSpec) -> None:
        for name in (spec.template, f"{spec.template}:default"):
            whose = await self._registry.snapshot_owner(name)
            if whose is not None and whose != spec.owner:
                raise NotFound(f"There is no template {spec.template[:80]}.")

    async def open(self, sandbox_id: str, *, traffic: bool = False) -> Sandbox:
        """Return a running sandbox.

        Args:
            sandbox_id: Which.
            traffic: This is for a request to one of its ports: a paused one whose traffic wakes it is resumed.

        Raises:
            Conflict: It is paused.
            SandboxGone: It died.
        """
        lease = await self._current(sandbox_id)
        if lease.paused:
            if not (traffic and lease.auto_resume and lease.memory):
                raise Conflict(f"The sandbox {sandbox_id} is paused.", "Resume it first.")
            seconds = None if lease.seconds is None else max(lease.seconds, _WOKEN_SECONDS)
            return await self.resume(sandbox_id, seconds=seconds)
        self._registry.touch(sandbox_id)
        epoch, sandbox = self._open.get(sandbox_id, (-1, None))
        if sandbox is None or epoch != lease.epoch:
            sandbox = await self._providers.get(lease.provider).open(sandbox_id)
            self._open[sandbox_id] = lease.epoch, sandbox
        await self._lifecycle.serve_gateway(lease)
        return sandbox

    async def _current(self, sandbox_id: str) -> Lease:
        """Return a sandbox's lease; if its time is over, that is settled first."""
        lease = await self._registry.get(sandbox_id)
        if self._lifecycle.due(lease):
            await self._lifecycle.settle(lease)
            lease = await self._registry.get(sandbox_id)
        return lease

    async def held(self, sandbox_id: str) -> Held:
        """Describe a sandbox."""
        lease = await self._current(sandbox_id)
        return Held.of(lease, await self._providers.get(lease.provider).info(sandbox_id))

    async def all(self, owner: str | None = None) -> list[Held]:
        """Describe an owner's sandboxes, or everybody's; the oldest first."""
        leases = [lease for lease in await self._registry.all() if owner in {None, lease.owner}]
        for lease in leases:
            await self._settle_if_due(lease)
        known: dict[str, SandboxInfo] = {}
        for name in {lease.provider for lease in leases}:
            try:
                known |= {info.id: info for info in await self._providers.get(name).known()}
            except OrchestrionError as error:
                log.warning("some sandboxes can't be listed", provider=name, error=error.detail)
        return [Held.of(lease, known[lease.id]) for lease in leases if lease.id in known]

    async def _settle_if_due(self, lease: Lease) -> None:
        """End or pause a sandbox whose time is over; what hinders that does not hinder who just looks."""
        if not self._lifecycle.due(lease):
            return
        try:
            await self._lifecycle.settle(lease)
        except NotFound:
            log.debug("another was quicker to end it", sandbox_id=lease.id)
        except OrchestrionError as error:
            log.warning("a sandbox whose time is over lives on", sandbox_id=lease.id, error=error.detail)

    async def pause(self, sandbox_id: str, memory: bool = True) -> None:
        """Stop a sandbox; when this returns it answers nobody. Raises as `SandboxProvider.pause`."""
        await self._lifecycle.pause(await self._current(sandbox_id), memory=memory)

    async def resume(self, sandbox_id: str, *, memory: bool = True, seconds: float | None = None) -> Sandbox:
        """Let a paused sandbox go on; one that runs already just gets its time.

        Args:
            sandbox_id: Which.
            memory: With its processes if a pause has kept them; else it starts anew on its files.
            seconds: How long it may live from now on; by default as long as it was given last.

        Raises:
            QuotaExceeded: As many as may run at once do.
        """
        sandbox = await self._lifecycle.wake(await self._current(sandbox_id), memory=memory, seconds=seconds)
        await self._remember(sandbox)
        return sandbox

    async def fork(
        self, sandbox_id: str, *, seconds: float | None = None, count: int = 1
    ) -> list[Sandbox | OrchestrionError]:
        """Make copies of a sandbox that belong to no session; a copy that could not be made is its error.

        Args:
            sandbox_id: Of which; it goes on.
            seconds: How long each may live.
            count: How many, up to 64.
        """
        if not 1 <= count <= _MOST_FORKS:
            raise InvalidInput(f"{count} copies were asked for.", f"Ask for 1 to {_MOST_FORKS}.")
        lease = await self._current(sandbox_id)
        return [await self._fork(lease, seconds) for _ in range(count)]

    async def _fork(self, lease: Lease, seconds: float | None) -> Sandbox | OrchestrionError:
        try:
            sandbox = await self._lifecycle.copy(lease, seconds)
            await self._remember(sandbox)
        except OrchestrionError as error:
            return error
        return sandbox

    async def remove(self, sandbox_id: str) -> None:
        """End a sandbox and forget it, running or paused."""
        self._open.pop(sandbox_id, None)
        await self._lifecycle.end(await self._registry.get(sandbox_id))

    async def set_deadline(self, sandbox_id: str, seconds: float, *, only_extend: bool = False) -> None:
        """Give a running sandbox another time from now on.

        Args:
            sandbox_id: Which.
            seconds: How long it may live; 0 ends it now.
            only_extend: Leave it as it is if it has longer than that already.

        Raises:
            Conflict: It is paused: its time does not run.
        """
        await self._current(sandbox_id)
        async with self._registry.locked("sandbox", sandbox_id):
            lease = await self._registry.get(sandbox_id)
            if lease.paused:
                raise Conflict(f"The sandbox {sandbox_id} is paused; its time does not run.", "Resume it first.")
            ends_at = self._clock() + seconds
            if only_extend and (lease.ends_at is None or lease.ends_at >= ends_at):
                return
            await self._registry.keep(replace(lease, seconds=seconds, ends_at=ends_at))
            await self._lifecycle.set_clock(lease, seconds)
        if seconds <= 0:
            await self._lifecycle.settle(await self._registry.get(sandbox_id))

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change what a sandbox may reach, from now on."""
        lease = await self._current(sandbox_id)
        await self._providers.get(lease.provider).set_network(sandbox_id, network)
        await self._doors.set_network(sandbox_id, network)

    # Snapshots

    async def snapshot(self, sandbox_id: str, name: str | None = None) -> Snapshot:
        """Keep a sandbox's file system as a template of its owner's.

        Raises:
            Conflict: The name is another owner's.
            Unsupported: Its provider can't.
        """
        lease = await self._current(sandbox_id)
        full = f"{name}:default" if name and ":" not in name else name or ""
        if await self._registry.snapshot_owner(full) not in {None, lease.owner}:
            raise Conflict(f"The name {full[:80]} is taken.", "Choose another.")
        async with self._registry.locked("sandbox", sandbox_id):
            kept = await self._providers.get(lease.provider).snapshot(sandbox_id, name)
        await self._registry.own_snapshot(kept.id, lease.owner)
        return kept

    async def snapshots(self, owner: str | None = None) -> list[Snapshot]:
        """Return an owner's snapshots, or everybody's; the newest first."""
        found: list[Snapshot] = []
        for provider in await self._with_snapshots():
            found += await provider.snapshots()
        if owner is not None:
            found = [kept for kept in found if await self._owner(kept) == owner]
        return sorted(found, key=lambda kept: kept.created_at, reverse=True)

    async def _owner(self, kept: Snapshot) -> str | None:
        return await self._registry.snapshot_owner(kept.id) if kept.owner is None else kept.owner

    async def remove_snapshot(self, snapshot_id: str, owner: str | None = None) -> None:
        """Forget a snapshot; sandboxes made of it live on. Raises `NotFound`, also if it is another owner's."""
        for kept in await self.snapshots(owner):
            if snapshot_id in {kept.id, *kept.names}:
                for provider in await self._with_snapshots():
                    if any(other.id == kept.id for other in await provider.snapshots()):
                        await provider.remove_snapshot(kept.id)
                return await self._registry.forget_snapshot(kept.id)
        raise NotFound(f"There is no snapshot {snapshot_id[:80]}.")

    async def _with_snapshots(self) -> list[SandboxProvider]:
        """Return the providers that may have some of ours."""
        await self._choose(None)
        able = [(provider, await provider.capabilities()) for provider in self._providers.made()]
        return [provider for provider, capabilities in able if capabilities.snapshots]

    # Health

    async def warm(self) -> None:
        """Keep ready what the first sandbox needs. Raises `SandboxUnavailable`."""
        provider = await self._choose(None)
        if isinstance(provider, _Warming):
            await provider.warm()

    async def capabilities(self, provider: str | None = None) -> Capabilities:
        """Say what new sandboxes can do here. Raises `SandboxUnavailable`."""
        return await (await self._choose(provider)).capabilities()

    async def probe(self, provider: str | None = None) -> Availability:
        """Say whether sandboxes can be made here, by making one, and in `hybrid` mode which."""
        return await self._providers.probe(provider or self._settings.sandbox_mode)


def _refuse_path(session_id: str) -> None:
    if not session_id or "/" in session_id or session_id.startswith("."):
        raise InvalidInput("That is not a session's id.")
