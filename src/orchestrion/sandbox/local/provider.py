"""The `local` provider."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import replace
from pathlib import Path

from orchestrion.core.errors import Conflict, NotFound, SandboxError, SandboxGone, SandboxUnavailable, Unsupported
from orchestrion.sandbox.client import GuestSandbox, UnixTransport
from orchestrion.sandbox.local import boot, cgroups, freezing, images
from orchestrion.sandbox.local.cgroups import Group
from orchestrion.sandbox.local.cradle import Cradle, Pool, base_of, prepare
from orchestrion.sandbox.local.freezing import Still
from orchestrion.sandbox.local.ground import Ground, explore
from orchestrion.sandbox.local.images import Image, Images
from orchestrion.sandbox.local.plan import home_of
from orchestrion.sandbox.local.records import Record, Records, new_id
from orchestrion.sandbox.local.threads import in_full, soon
from orchestrion.sandbox.locks import Locks, shared
from orchestrion.sandbox.protocols import Availability, Capabilities, Network, SandboxInfo, SandboxSpec, Snapshot

_STRENGTH = 50


class LocalProvider:
    """Makes sandboxes out of namespaces of this machine's own kernel.

    Args:
        home: The data directory; `sandboxes/` in it holds what is known of them, `snapshots/` what is kept of them.
        python: The Python inside; by default the one `make setup` made.
        pool: How many half-born sandboxes to keep ready once the first was made.
    """

    name = "local"

    def __init__(self, home: Path, python: Path | None = None, *, pool: int = 2) -> None:
        self._home = home.absolute()
        self._user_home = Path("~").expanduser()
        self._python = None if python is None else python.absolute()
        self._size = pool
        self._pool: Pool | None = None
        self._records = Records(self._home / "sandboxes")
        self._images = Images(self._home / "snapshots")
        self._locks = Locks(self._records.root / "locks")
        self._groups = cgroups.find()
        self._ground: Ground | None = None
        self._exploring = asyncio.Lock()
        self._open: dict[str, tuple[int, GuestSandbox, UnixTransport]] = {}
        self._filling: asyncio.Task[None] | None = None

    # What it can do

    async def capabilities(self) -> Capabilities:
        """Say what it can do on this machine."""
        ground = await self._explored()
        return Capabilities(
            isolation=ground.offer(),
            strength=_STRENGTH,
            mounts_workspace=True,
            pause_memory="frozen",
            fork_processes=False,
            snapshots=True,
            root=ground.mode == "root" and ground.layout == "overlay",
            gateway=True,
        )

    async def probe(self) -> Availability:
        """Find out, by making one, whether a sandbox can be made here."""
        try:
            ground = await self._explored()
            return Availability(True, ground.offer(), ground.remedy())
        except SandboxUnavailable as error:
            return Availability(False, error.detail, error.remedy)

    async def _explored(self) -> Ground:
        async with self._exploring:
            if self._ground is None:
                self._ground = await in_full(explore, self._home, self._user_home, self._python)
                self._pool = Pool(self._size, self._records, self._ground)
            return self._ground

    async def warm(self) -> None:
        """Fill the pool; a sandbox is then made in a few milliseconds."""
        await self._explored()
        if self._pool is not None:
            await in_full(self._pool.fill)

    # Making and ending

    async def create(self, spec: SandboxSpec) -> GuestSandbox:
        """Make a sandbox; it answers when this returns.

        Raises:
            SandboxUnavailable: None can be made here; the remedy says why.
            NotFound: There is no such template.
            SandboxError: This one could not be made.
        """
        ground = await self._explored()
        _require_root(spec, ground)
        image = None
        if spec.template not in images.BUILT_IN:
            image = await asyncio.to_thread(self._images.find, spec.template, spec.owner)
        try:
            if image is not None:
                return await self._make_of(image, spec, ground)
            cradle = None if self._pool is None else self._pool.ready()
            if cradle is None:
                cradle = await in_full(self._take, abandoned=Cradle.abandon)
            return await self._start(self._new_record(spec, ground, cradle.id), cradle, ground)
        finally:
            self._refill()

    def _take(self) -> Cradle:
        if self._pool is None:
            raise SandboxUnavailable("The provider is closed.", "Make another one.")
        return self._pool.take()

    async def _make_of(self, image: Image, spec: SandboxSpec, ground: Ground) -> GuestSandbox:
        if image.layout != ground.layout:
            raise Unsupported(
                f"The snapshot {image.id} was made with other rights than Orchestrion has now.",
                "Run Orchestrion as whoever made it, or take a new one.",
            )
        spec = replace(spec, user=spec.user or image.user, workdir=spec.workdir or image.workdir)
        return await self._make_with(self._images.rw(image), image.base, None, spec, ground)

    async def _make_with(
        self, files: Path, base: int | None, workspace: Path | None, spec: SandboxSpec, ground: Ground
    ) -> GuestSandbox:
        """Make a sandbox with copies of another one's files, whose ids begin at `base`."""
        record = self._new_record(spec, ground, new_id())
        place = self._records.place(record.id)
        own = record.spec.workspace is not None
        try:
            await in_full(place.make)
            with shared(place.claim):
                await images.copy(files, place.rw, (base or 0, record.base or 0), None if own else workspace)
                return await self._boot(record, ground)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._forget, record.id))
            raise

    def _new_record(self, spec: SandboxSpec, ground: Ground, sandbox_id: str) -> Record:
        if spec.workspace is not None:
            spec = replace(spec, workspace=spec.workspace.resolve())
        base, token = base_of(sandbox_id, ground), secrets.token_hex(20)
        return Record(sandbox_id, spec, ground.mode, ground.layout, base, token, time.time())

    async def _boot(self, record: Record, ground: Ground) -> GuestSandbox:
        """Start a sandbox on its files."""
        cradle = await in_full(prepare, record.id, record.base, self._records, ground, abandoned=Cradle.give_up)
        return await self._start(record, cradle, ground, keep=True)

    async def _start(self, record: Record, cradle: Cradle, ground: Ground, *, keep: bool = False) -> GuestSandbox:
        """Start a half-born sandbox; if that fails, only with `keep` its files stay."""
        try:
            record = await in_full(boot.boot, record, cradle, self._records, ground)
            return self._sandbox(record)
        except BaseException:
            undo = self._stop if keep else self._forget
            await asyncio.shield(asyncio.to_thread(undo, record.id))
            await self._drop(record.id)
            raise

    def _stop(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFound):
            boot.end(self._records.read(sandbox_id), self._groups)

    def _refill(self) -> None:
        if self._size and self._pool is not None and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(soon(self._pool.fill))

    def _forget(self, sandbox_id: str) -> None:
        """End a sandbox, if it runs, and remove all that there is of it."""
        with contextlib.suppress(NotFound):
            if not boot.end(self._records.read(sandbox_id), self._groups):
                raise SandboxError(f"The sandbox {sandbox_id} could not be ended; its processes do not die.")
        self._records.place(sandbox_id).remove()

    async def remove(self, sandbox_id: str) -> None:
        """End it and forget it, running or paused."""
        async with self._locks.held("sandbox", sandbox_id):
            await self._read(sandbox_id)
            await in_full(self._forget, sandbox_id)
            await self._drop(sandbox_id)

    # Finding

    async def known(self) -> list[SandboxInfo]:
        """Return all there are, also those that other processes made, oldest first; sweep away the dead."""
        return [record.info() for record in await in_full(self._swept)]

    def _swept(self) -> list[Record]:
        living: list[Record] = []
        for record in self._records.all():
            if self._has_ended_for_good(record):
                self._forget(record.id)
            else:
                living.append(record)
        for name in self._records.unrecorded():
            self._records.place(name).remove()
        self._records.sweep()
        self._images.sweep()
        cgroups.tidy(self._groups)
        return living

    def _has_ended_for_good(self, record: Record) -> bool:
        """Say whether a sandbox ended because nobody talked to it. A session's files are kept until it is deleted."""
        if record.spec.session_id is not None or record.state != "running" or record.alive():
            return False
        return self._records.place(record.id).ended_by_itself()

    async def info(self, sandbox_id: str) -> SandboxInfo:
        """Describe one."""
        return (await self._read(sandbox_id)).info()

    async def open(self, sandbox_id: str) -> GuestSandbox:
        """Return a running one. Raises `SandboxGone` if it died, `Conflict` if it is paused."""
        record = await self._read(sandbox_id)
        if record.state == "paused":
            raise Conflict(f"The sandbox {sandbox_id} is paused.", "Resume it first.")
        if not record.alive():
            raise SandboxGone(f"The sandbox {sandbox_id} has ended.", "Resume it to start it anew on its files.")
        return self._sandbox(record)

    async def _read(self, sandbox_id: str) -> Record:
        return await asyncio.to_thread(self._records.read, sandbox_id)

    def _sandbox(self, record: Record) -> GuestSandbox:
        """Return the one object for this life of a sandbox, so that its connections are shared."""
        known = self._open.get(record.id)
        if known is not None and known[0] == record.lifecycle:
            return known[1]

        transport = UnixTransport(self._records.place(record.id).socket)
        sandbox = GuestSandbox(
            record.id,
            self.name,
            transport,
            access_token=record.token,
            default_cwd=home_of(record.spec),
            on_close=lambda: self._end_life(record),
            alive=record.alive,
            on_trouble=lambda: self._kill(record),
        )
        self._open[record.id] = record.lifecycle, sandbox, transport
        return sandbox

    async def _end_life(self, life: Record) -> None:
        """Remove a sandbox, unless it was paused or began another life meanwhile, or crashed: then files are kept."""
        with contextlib.suppress(NotFound):
            record = await self._read(life.id)
            if record.lifecycle == life.lifecycle and record.alive():
                await self.remove(life.id)

    async def _kill(self, life: Record) -> None:
        """End a sandbox that heeds nobody, unless it began another life meanwhile; its files can be resumed."""
        with contextlib.suppress(NotFound):
            if (await self._read(life.id)).lifecycle == life.lifecycle:
                await in_full(self._stop, life.id)

    async def _drop(self, sandbox_id: str) -> None:
        """Break our connections to a sandbox that was paused or has ended."""
        known = self._open.pop(sandbox_id, None)
        if known is not None:
            await known[2].aclose()

    async def adopt(self, sandbox_id: str) -> None:
        """Give files that the host put into the workspace meanwhile to the sandbox's user."""
        await asyncio.to_thread(boot.give_workspace, await self._read(sandbox_id))

    # Pausing

    async def pause(self, sandbox_id: str, *, memory: bool = True) -> None:
        """Stop it; when this returns it answers nobody. See `SandboxProvider.pause`."""
        async with self._locks.held("sandbox", sandbox_id):
            record = await self._read(sandbox_id)
            if record.state == "paused" and (memory or not record.alive()):
                raise Conflict(f"The sandbox {sandbox_id} is paused already.", "Resume it to use it.")
            await in_full(self._pause, record, memory and record.alive())
            await self._drop(sandbox_id)

    def _pause(self, record: Record, memory: bool) -> None:
        place = self._records.place(record.id)
        # Out of sight, so that nobody connects and waits for an answer that doesn't come.
        with contextlib.suppress(FileNotFoundError):
            place.socket.rename(place.hidden_socket)
        paused = replace(record, state="paused", memory=memory, lifecycle=record.lifecycle + 1)
        if memory:
            group = Group(self._groups, record.id)
            if not freezing.freeze(record.pid, group):
                freezing.thaw(record.pid, group)
                place.hidden_socket.rename(place.socket)
                raise SandboxError(f"The sandbox {record.id} could not be stopped: a process does not stand still.")
            self._records.write(paused)
            return
        self._records.write(paused)
        if not boot.end(record, self._groups):
            raise SandboxError(f"The sandbox {record.id} could not be ended; its processes do not die.")

    async def resume(self, sandbox_id: str, *, memory: bool = True) -> GuestSandbox:
        """Let it go on, or start it anew on its files. See `SandboxProvider.resume`."""
        async with self._locks.held("sandbox", sandbox_id):
            record = await self._read(sandbox_id)
            if record.state == "running" and record.alive():
                return self._sandbox(record)
            await self._drop(sandbox_id)
            if memory and record.memory and record.alive():
                return self._sandbox(await in_full(self._thaw, record))
            if not await in_full(boot.end, record, self._groups):
                raise SandboxError(f"The sandbox {sandbox_id} could not be ended; its processes do not die.")
            return await self._boot(record, await self._explored())

    def _thaw(self, record: Record) -> Record:
        place = self._records.place(record.id)
        running = replace(record, state="running", lifecycle=record.lifecycle + 1)
        self._records.write(running)
        freezing.thaw(record.pid, Group(self._groups, record.id))
        with contextlib.suppress(FileNotFoundError):
            place.hidden_socket.rename(place.socket)
        return running

    # Copies

    async def fork(self, sandbox_id: str, spec: SandboxSpec | None = None) -> GuestSandbox:
        """Make a copy of it, files only; the source goes on."""
        ground = await self._explored()
        async with self._locks.held("sandbox", sandbox_id):
            source = await self._read(sandbox_id)
            wanted = spec or replace(source.spec, session_id=None, workspace=None)
            _require_root(wanted, ground)
            if ground.layout != source.layout:
                raise Unsupported("A sandbox that was made in another way can't be copied here.")
            async with self._still(source):
                files = self._records.place(source.id).rw
                return await self._make_with(files, source.base, source.spec.workspace, wanted, ground)

    def _still(self, record: Record) -> Still:
        return Still(record, Group(self._groups, record.id))

    async def snapshot(self, sandbox_id: str, name: str | None = None) -> Snapshot:
        """Keep its file system as a template. Taking a name again moves that name."""
        names = (images.full_name(name),) if name else ()
        async with self._locks.held("sandbox", sandbox_id):
            record = await self._read(sandbox_id)
            key = await asyncio.to_thread(self._images.start)
            try:
                async with self._still(record):
                    files, ids = self._records.place(record.id).rw, (record.base or 0, record.base or 0)
                    await images.copy(files, self._images.path(key), ids, record.spec.workspace)
                spec, at = record.spec, time.time()
                image = Image(key, names, record.id, at, record.layout, record.base, 0, spec.user, spec.workdir)
                image = replace(image, owner=record.spec.owner)
                return (await in_full(self._images.finish, image)).described()
            except BaseException:
                await asyncio.shield(asyncio.to_thread(self._images.remove, key))
                raise

    async def snapshots(self) -> list[Snapshot]:
        """Return those that are kept, newest first."""
        return [image.described() for image in await asyncio.to_thread(self._images.all)]

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget one; sandboxes made of it live on."""
        image = await asyncio.to_thread(self._images.find, snapshot_id)
        if image is None:
            raise NotFound(f"`{snapshot_id}` is a built-in template, not a snapshot.")
        await in_full(self._images.remove, image.key)

    # The rest

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change what it may reach, from now on; the gateway has to be told as well."""
        async with self._locks.held("sandbox", sandbox_id):
            record = await self._read(sandbox_id)
            changed = replace(record, spec=replace(record.spec, network=network))
            await asyncio.to_thread(self._records.write, changed)

    async def aclose(self) -> None:
        """Let go of what this process holds: the zygote, connections. Sandboxes live on."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait({self._filling})
        for sandbox_id in list(self._open):
            await self._drop(sandbox_id)
        if self._pool is not None and self._ground is not None:
            await in_full(self._pool.close)
            await in_full(self._ground.nursery.close)
        self._pool = self._ground = None


def _require_root(spec: SandboxSpec, ground: Ground) -> None:
    if spec.root and not (ground.mode == "root" and ground.layout == "overlay"):
        raise Unsupported(
            "Code can't become root in sandboxes here.", "Run Orchestrion as root, or leave `root` off."
        )
