"""Half-born sandboxes, each with a directory and a control group of its own: made when needed, or kept ready.

Everything here blocks.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.local import ownership
from orchestrion.sandbox.local.cgroups import Group
from orchestrion.sandbox.local.ground import Ground
from orchestrion.sandbox.local.nursery import Newborn
from orchestrion.sandbox.local.places import Place
from orchestrion.sandbox.local.plan import system_plan
from orchestrion.sandbox.local.records import Records, new_id
from orchestrion.sandbox.locks import shared


@dataclass(frozen=True)
class Cradle:
    """A sandbox whose system stands and that waits to hear what it is for.

    Attributes:
        id: Its identifier.
        base: The host's id of its root; None if its user is ourselves.
        boot_id: What names this boot of it.
        place: Its directory.
        group: Its control group, with its process in it.
        newborn: That process.
        claim: Tells those who sweep that the directory is wanted; released with `close`.
    """

    id: str
    base: int | None
    boot_id: str
    place: Place
    group: Group
    newborn: Newborn
    claim: contextlib.ExitStack

    def close(self) -> None:
        """End its process, unless it has been started; its directory stays."""
        self.newborn.close()
        self.claim.close()

    def give_up(self) -> None:
        """End its process and remove its control group; its directory stays."""
        self.close()
        self.group.remove()

    def abandon(self) -> None:
        """End it and leave nothing of it."""
        self.give_up()
        self.place.remove()


def base_of(sandbox_id: str, ground: Ground) -> int | None:
    """Return where a sandbox's ids begin on the host; None where all of them are ours."""
    return ownership.id_base(sandbox_id) if ground.mode == "root" else None


def make_cradle(records: Records, ground: Ground) -> Cradle:
    """Make a half-born sandbox, with a directory of its own.

    Raises:
        SandboxError: It could not be made; nothing of it is left.
    """
    sandbox_id = new_id()
    place = records.place(sandbox_id)
    try:
        place.make()
        return prepare(sandbox_id, base_of(sandbox_id, ground), records, ground)
    except BaseException:
        place.remove()
        raise


def prepare(sandbox_id: str, base: int | None, records: Records, ground: Ground) -> Cradle:
    """Put a sandbox's system together on the files in its directory.

    Raises:
        SandboxError: It could not be made; nothing of it runs.
    """
    place, group = records.place(sandbox_id), Group(ground.hierarchies, sandbox_id)
    with contextlib.ExitStack() as undo:
        try:
            claim = undo.enter_context(contextlib.ExitStack())
            claim.enter_context(shared(place.claim))
            place.make_layers(ground.layout, base)
            boot_id = place.new_boot()
            newborn = ground.nursery.fork()
            undo.callback(group.remove)
            undo.callback(newborn.close)
            group.make(newborn.pid)
            newborn.prepare(system_plan(place, ground.layout, base, ground.system))
        except OSError as error:
            raise SandboxError(f"The sandbox could not be made: {error}.") from error
        undo.pop_all()
        return Cradle(sandbox_id, base, boot_id, place, group, newborn, claim)


class Pool:
    """Half-born sandboxes that are kept ready.

    Args:
        size: How many.
        records: Where their directories are.
        ground: How they are made.
    """

    def __init__(self, size: int, records: Records, ground: Ground) -> None:
        self._size, self._records, self._ground = size, records, ground
        self._ready: deque[Cradle] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def ready(self) -> Cradle | None:
        """Return one that is ready, at once."""
        with contextlib.suppress(IndexError):
            return self._ready.popleft()
        return None

    def take(self) -> Cradle:
        """Return one; if none is ready it's made now.

        Raises:
            SandboxError: It could not be made.
        """
        return self.ready() or make_cradle(self._records, self._ground)

    def fill(self) -> None:
        """Make as many as are missing."""
        with self._lock:
            while len(self._ready) < self._size and not self._closed:
                self._ready.append(make_cradle(self._records, self._ground))

    def close(self) -> None:
        """End those that are left."""
        self._closed = True
        with self._lock:
            while self._ready:
                self._ready.popleft().abandon()
