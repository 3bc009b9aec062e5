"""What becomes of sandboxes: time, quotas, pauses, crashes, two processes at once; over a provider in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrion.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OrchestrionError,
    QuotaExceeded,
    SandboxError,
    SandboxUnavailable,
    Unsupported,
)
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes
from orchestrion.sandbox.protocols import Availability, Sandbox, SandboxSpec
from orchestrion.testing import ScriptedProvider
from orchestrion.testing.scripted_sandbox import ABLE

SES = "ses_one"


class World:
    """A data directory, a provider and a clock that several processes share."""

    def __init__(self, home: Path) -> None:
        self.now = 1_800_000_000.0
        self.home = home
        self.settings = Settings(home=home, sandbox_mode="hybrid", sandbox_max=6, sandbox_max_per_owner=3)
        self.provider = ScriptedProvider(clock=self.clock)

    def clock(self) -> float:
        return self.now

    def process(self, **settings: object) -> Sandboxes:
        """What a process of its own would have."""
        chosen = self.settings.model_copy(update=settings)
        return Sandboxes(chosen, providers={self.provider.name: self.provider}, clock=self.clock)

    async def later(self, seconds: float, sandboxes: Sandboxes) -> None:
        """Let time pass and the keeper look."""
        self.now += seconds
        await sandboxes._keeper.look()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def boxes(world: World) -> Sandboxes:
    return world.process()


async def shown(sandbox: Sandbox, name: str) -> str | None:
    """A variable's value inside; None if there is no such variable."""
    result = await sandbox.run_code(name)
    return result.results[0].data if result.results else None


async def states(boxes: Sandboxes) -> dict[str, str]:
    return {held.info.id: held.info.state for held in await boxes.all()}


async def test_the_first_call_makes_it_and_the_next_finds_it(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    assert made.how == "created"
    await made.sandbox.run_code("x = 1")
    again = await boxes.acquire(SES, world.home)
    assert (again.how, again.sandbox.id, again.lost) == ("reused", made.sandbox.id, "")


async def test_another_process_finds_it(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    await made.sandbox.run_code("x = 1")
    found = await world.process().acquire(SES, world.home)
    assert (found.how, await shown(found.sandbox, "x")) == ("reused", "1")
    elsewhere = await world.process().find(SES)
    assert elsewhere is not None
    assert elsewhere.id == made.sandbox.id


async def test_two_processes_at_once_make_one(world: World) -> None:
    acquired = await asyncio.gather(*(world.process().acquire(SES, world.home) for _ in range(4)))
    assert len({one.sandbox.id for one in acquired}) == 1
    assert sorted(one.how for one in acquired) == ["created", "reused", "reused", "reused"]
    assert len(world.provider.machines) == 1


async def test_an_unused_one_is_paused_and_comes_back_with_its_variables(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    await made.sandbox.run_code("x = 41")
    await world.later(119, boxes)
    assert await states(boxes) == {made.sandbox.id: "running"}
    await world.later(1, boxes)
    assert await states(boxes) == {made.sandbox.id: "paused"}
    assert await boxes.find(SES) is None
    again = await boxes.acquire(SES, world.home)
    assert (again.how, await shown(again.sandbox, "x")) == ("resumed", "41")


async def test_one_in_use_is_not_paused_whichever_process_uses_it(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    with boxes.hold(made.sandbox.id):
        await world.later(10_000, world.process())
        assert await states(boxes) == {made.sandbox.id: "running"}
    await world.later(119, boxes)  # the end of the use counts, not its beginning
    assert await states(boxes) == {made.sandbox.id: "running"}
    await world.later(1, boxes)
    assert await states(boxes) == {made.sandbox.id: "paused"}


async def test_long_unused_only_its_files_are_kept(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    await made.sandbox.files.write("/home/user/a", b"kept")
    await made.sandbox.run_code("x = 1")
    await world.later(200, boxes)
    await world.later(400, boxes)
    again = await boxes.acquire(SES, world.home)
    assert (again.how, again.sandbox.id) == ("restored", made.sandbox.id)
    assert await again.sandbox.files.read_bytes("/home/user/a") == b"kept"
    assert await shown(again.sandbox, "x") is None


async def test_without_snapshots_a_long_unused_one_is_gone_and_that_is_said(world: World) -> None:
    world.provider = ScriptedProvider(replace(ABLE, snapshots=False), world.clock)
    boxes = world.process()
    await boxes.acquire(SES, world.home)
    await world.later(600, boxes)
    assert world.provider.machines == {}
    again = await boxes.acquire(SES, world.home)
    assert again.how == "created"
    assert "not used for 600 s" in again.lost
    assert (await boxes.acquire(SES, world.home)).lost == ""


async def test_what_cannot_be_frozen_is_not_paused_early(world: World) -> None:
    world.provider = ScriptedProvider(replace(ABLE, pause_memory="none"), world.clock)
    boxes = world.process()
    made = await boxes.acquire(SES, world.home)
    await world.later(300, boxes)
    assert await states(boxes) == {made.sandbox.id: "running"}
    with pytest.raises(Unsupported):
        await boxes.pause(made.sandbox.id)
    await world.later(300, boxes)
    assert (await boxes.acquire(SES, world.home)).how == "restored"


@pytest.mark.parametrize("noticed", [True, False])
async def test_after_a_crash_it_is_restored_on_its_files(boxes: Sandboxes, world: World, noticed: bool) -> None:
    made = await boxes.acquire(SES, world.home)
    await made.sandbox.files.write("/a", b"1")
    (world.provider.crash if noticed else world.provider.hang)(made.sandbox.id)
    again = await boxes.acquire(SES, world.home)
    assert (again.how, again.sandbox.id) == ("restored", made.sandbox.id)
    assert await again.sandbox.files.read_bytes("/a") == b"1"


async def test_one_frozen_before_a_reboot_is_restored(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    await boxes.pause(made.sandbox.id)
    world.provider.crash(made.sandbox.id)
    assert (await world.process().acquire(SES, world.home)).how == "restored"


async def test_one_that_is_gone_altogether_is_made_anew_and_that_is_said(boxes: Sandboxes, world: World) -> None:
    await boxes.acquire(SES, world.home)
    world.provider.machines.clear()
    again = await boxes.acquire(SES, world.home)
    assert (again.how, again.lost) == ("created", "Its provider has it no more.")


async def test_one_that_does_not_come_back_is_replaced_and_kept_aside(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    await boxes.pause(made.sandbox.id)
    world.provider.failures = [SandboxError("Its disk is broken.")]
    again = await boxes.acquire(SES, world.home)
    assert again.how == "created"
    assert "Its disk is broken." in again.lost
    assert list(world.provider.machines) == [made.sandbox.id, again.sandbox.id]
    assert (await boxes.acquire(SES, world.home)).sandbox.id == again.sandbox.id
    assert await (await boxes.resume(made.sandbox.id)).ping()
    await boxes.close(SES)
    assert world.provider.machines == {}


async def test_another_provider_that_is_asked_for_replaces_it(world: World) -> None:
    other = ScriptedProvider(name="other", clock=world.clock)
    boxes = Sandboxes(world.settings, providers={"scripted": world.provider, "other": other}, clock=world.clock)
    await boxes.acquire(SES, world.home, "scripted")
    taken = await boxes.acquire(SES, world.home, "other")
    assert (taken.how, taken.sandbox.provider) == ("created", "other")
    assert world.provider.machines == {}
    assert (await boxes.acquire(SES, world.home)).how == "reused"


async def test_a_session_that_ends_takes_its_sandbox_along(boxes: Sandboxes, world: World) -> None:
    await boxes.acquire(SES, world.home)
    await boxes.close(SES)
    await boxes.close(SES)
    assert world.provider.machines == {}
    assert await boxes.all() == []
    assert (await boxes.acquire(SES, world.home)).lost == ""


async def test_a_session_ends_also_if_its_provider_cannot_be_asked(boxes: Sandboxes, world: World) -> None:
    await boxes.acquire(SES, world.home)
    without = Sandboxes(world.settings, providers={}, clock=world.clock)
    await without.close(SES)
    assert (await boxes.acquire(SES, world.home)).how == "created"


@pytest.mark.parametrize("session", ["", "../x", "a/b", ".hidden"])
async def test_a_sessions_name_is_no_path(boxes: Sandboxes, world: World, session: str) -> None:
    with pytest.raises(InvalidInput):
        await boxes.acquire(session, world.home)


# Time


async def test_its_time_is_kept_by_whichever_process_lives(boxes: Sandboxes, world: World) -> None:
    made = await boxes.create(SandboxSpec(), seconds=50)
    await world.later(49, boxes)
    assert await states(boxes) == {made.id: "running"}
    await world.later(1, world.process())
    assert world.provider.machines == {}
    with pytest.raises(NotFound):
        await boxes.open(made.id)


async def test_what_is_over_is_settled_when_somebody_looks(boxes: Sandboxes, world: World) -> None:
    killed = await boxes.create(SandboxSpec(), seconds=50)
    paused = await boxes.create(SandboxSpec(), seconds=50, on_timeout="pause")
    world.now += 51
    with pytest.raises(NotFound):
        await world.process().held(killed.id)
    held = await world.process().held(paused.id)
    assert (held.info.state, held.ends_at) == ("paused", None)


async def test_a_deadline_is_settled_once(world: World) -> None:
    boxes = [world.process() for _ in range(3)]
    made = await boxes[0].create(SandboxSpec(), seconds=5, on_timeout="pause")
    world.now += 6
    await asyncio.gather(*(one._keeper.look() for one in boxes))
    assert await states(boxes[0]) == {made.id: "paused"}


async def test_a_deadline_is_moved(boxes: Sandboxes, world: World) -> None:
    made = await boxes.create(SandboxSpec(), seconds=50)
    await boxes.set_deadline(made.id, 10, only_extend=True)
    await world.later(40, boxes)
    await boxes.set_deadline(made.id, 100, only_extend=True)
    await world.later(99, boxes)
    assert await states(boxes) == {made.id: "running"}
    await boxes.set_deadline(made.id, 0)
    assert world.provider.machines == {}


async def test_a_pauses_end_gives_as_much_time_as_before(boxes: Sandboxes, world: World) -> None:
    made = await boxes.create(SandboxSpec(), seconds=50, on_timeout="pause")
    await world.later(50, boxes)
    await world.later(1000, boxes)
    with pytest.raises(Conflict):
        await boxes.set_deadline(made.id, 10)
    await boxes.resume(made.id)
    held = await boxes.held(made.id)
    assert held.ends_at is not None
    assert held.ends_at.timestamp() == world.now + 50
    await boxes.resume(made.id, seconds=7)
    await world.later(7, boxes)
    assert await states(boxes) == {made.id: "paused"}


class Elsewhere(ScriptedProvider):
    """One that is rented: it has a clock of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(replace(ABLE, caveats="Its limits are its own."), clock, "e2b")
        self.told: list[tuple[str, float]] = []
        self.prolonged = 0

    async def set_time(self, sandbox_id: str, seconds: float) -> None:
        self.told.append((sandbox_id, seconds))

    async def prolong(self, sandbox_id: str) -> None:
        self.prolonged += 1


async def test_a_clock_elsewhere_is_told_of_every_change(world: World) -> None:
    world.provider = provider = Elsewhere(world.clock)
    boxes = world.process()
    made = await boxes.create(SandboxSpec(), seconds=3600, on_timeout="pause")
    assert (await provider.info(made.id)).spec.idle_seconds > 3600, "it must not end before it can be paused"
    await boxes.set_deadline(made.id, 7200)
    await boxes.pause(made.id)
    await boxes.resume(made.id, seconds=30)
    assert provider.told == [(made.id, 7200), (made.id, 30)]


async def test_one_elsewhere_that_is_in_use_is_kept_though_nothing_is_asked_of_it(world: World) -> None:
    world.provider = provider = Elsewhere(world.clock)
    boxes = world.process()
    acquired = await boxes.acquire(SES, world.home)
    assert acquired.caveats == "Its limits are its own."
    await world.later(10, boxes)
    assert provider.prolonged == 0
    with boxes.hold(acquired.sandbox.id):
        await world.later(10_000, boxes)
    assert provider.prolonged == 1


async def test_if_processes_cannot_be_kept_at_the_end_files_are(world: World) -> None:
    world.provider = ScriptedProvider(replace(ABLE, pause_memory="none"), world.clock)
    boxes = world.process()
    made = await boxes.create(SandboxSpec(), seconds=50, on_timeout="pause")
    await made.files.write("/a", b"1")
    await world.later(50, boxes)
    assert not (await boxes.held(made.id)).info.memory
    assert await (await boxes.resume(made.id)).files.read_bytes("/a") == b"1"


async def test_trouble_with_one_keeps_no_other_waiting(boxes: Sandboxes, world: World) -> None:
    for _ in range(2):
        await boxes.create(SandboxSpec(), seconds=5)
    world.provider.failures = [SandboxError("It does not stop.")]
    await world.later(6, boxes)
    assert len(world.provider.machines) == 1


# Traffic


async def test_traffic_wakes_what_is_to_be_woken(boxes: Sandboxes, world: World) -> None:
    made = await boxes.create(SandboxSpec(), seconds=60, on_timeout="pause", auto_resume=True)
    await made.run_code("x = 1")
    await world.later(60, boxes)
    with pytest.raises(Conflict):
        await boxes.open(made.id)
    assert await shown(await boxes.open(made.id, traffic=True), "x") == "1"
    held = await boxes.held(made.id)
    assert held.ends_at is not None
    assert held.ends_at.timestamp() == world.now + 300


async def test_traffic_wakes_nothing_else(boxes: Sandboxes, world: World) -> None:
    plain = await boxes.create(SandboxSpec())
    cold = await boxes.create(SandboxSpec(), auto_resume=True)
    await boxes.pause(plain.id)
    await boxes.pause(cold.id, memory=False)
    for sandbox in (plain, cold):
        with pytest.raises(Conflict):
            await boxes.open(sandbox.id, traffic=True)


async def test_a_sandbox_of_an_earlier_life_is_not_handed_out(boxes: Sandboxes, world: World) -> None:
    made = await boxes.create(SandboxSpec())
    other = world.process()
    assert await other.open(made.id) is await other.open(made.id)
    known = await other.open(made.id)
    await boxes.pause(made.id)
    await boxes.resume(made.id)
    assert await other.open(made.id) is not known


# Quotas


async def test_at_the_limit_the_longest_idle_session_makes_room(boxes: Sandboxes, world: World) -> None:
    ids = []
    for number in range(3):
        ids.append((await boxes.acquire(f"ses_{number}", world.home, owner="ann")).sandbox.id)
        world.now += 1
    boxes_of_another = world.process()
    with boxes.hold(ids[0]):
        await boxes_of_another.acquire("ses_3", world.home, owner="ann")
    found = await states(boxes)
    assert [found[one] for one in ids] == ["running", "paused", "running"]
    assert (await boxes.acquire("ses_1", world.home, owner="ann")).how == "resumed"
    assert list((await states(boxes)).values()).count("running") == 3


async def test_what_would_not_come_back_makes_no_room(boxes: Sandboxes, world: World) -> None:
    for _ in range(3):
        await boxes.create(SandboxSpec(owner="ann"))
    with pytest.raises(QuotaExceeded, match="3 sandboxes of yours"):
        await boxes.create(SandboxSpec(owner="ann"))
    await boxes.create(SandboxSpec(owner="bob"))
    assert len(await boxes.all("ann")) == 3
    assert len(await boxes.all("bob")) == 1


async def test_all_owners_together_have_a_limit(boxes: Sandboxes) -> None:
    for owner in ("ann", "bob") * 3:
        await boxes.create(SandboxSpec(owner=owner))
    with pytest.raises(QuotaExceeded, match="6 sandboxes run"):
        await boxes.create(SandboxSpec(owner="eve"))


async def test_a_paused_one_does_not_count_until_it_comes_back(boxes: Sandboxes) -> None:
    made = [await boxes.create(SandboxSpec(owner="ann")) for _ in range(3)]
    await boxes.pause(made[0].id)
    await boxes.create(SandboxSpec(owner="ann"))
    with pytest.raises(QuotaExceeded):
        await boxes.resume(made[0].id)
    assert (await boxes.held(made[0].id)).info.state == "paused"


async def test_many_at_once_keep_within_the_limit(world: World) -> None:
    async def one() -> Sandbox | OrchestrionError:
        try:
            return await world.process().create(SandboxSpec(owner="ann"))
        except QuotaExceeded as error:
            return error

    made = await asyncio.gather(*(one() for _ in range(8)))
    assert sum(isinstance(sandbox, QuotaExceeded) for sandbox in made) == 5
    assert len(world.provider.machines) == 3


async def test_a_failed_start_keeps_no_place(boxes: Sandboxes, world: World) -> None:
    for _ in range(4):
        world.provider.failures = [SandboxError("No.")]
        with pytest.raises(SandboxError):
            await boxes.create(SandboxSpec(owner="ann"))
    for _ in range(3):
        await boxes.create(SandboxSpec(owner="ann"))


async def test_a_place_whose_process_died_is_free(boxes: Sandboxes, world: World) -> None:
    coming = world.home / "held" / "coming"
    coming.mkdir(parents=True)
    for number in range(3):
        (coming / str(number)).write_text("ann")
    for _ in range(3):
        await boxes.create(SandboxSpec(owner="ann"))
    assert list(coming.iterdir()) == []


async def test_the_dead_are_not_counted(boxes: Sandboxes, world: World) -> None:
    made = [await boxes.create(SandboxSpec(owner="ann")) for _ in range(3)]
    world.provider.crash(made[0].id)
    del world.provider.machines[made[1].id]
    for _ in range(2):
        await boxes.create(SandboxSpec(owner="ann"))
    assert sorted((await states(boxes)).values()) == ["paused", "running", "running", "running"]


# Copies and snapshots


async def test_forks_are_copies_of_the_files_within_the_quota(boxes: Sandboxes, world: World) -> None:
    made = await boxes.create(SandboxSpec(owner="ann", session_id=None), seconds=60)
    await made.files.write("/a", b"1")
    copies = await boxes.fork(made.id, seconds=15, count=3)
    assert [isinstance(one, QuotaExceeded) for one in copies] == [False, False, True]
    copy = copies[0]
    assert not isinstance(copy, OrchestrionError)
    assert await copy.files.read_bytes("/a") == b"1"
    await world.later(15, boxes)
    assert list(world.provider.machines) == [made.id]


async def test_a_sessions_fork_is_not_the_sessions(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home, owner="ann")
    [copy] = await boxes.fork(made.sandbox.id)
    assert not isinstance(copy, OrchestrionError)
    assert (await boxes.held(copy.id)).info.spec.session_id is None
    assert (await boxes.acquire(SES, world.home, owner="ann")).sandbox.id == made.sandbox.id


async def test_snapshots_are_their_owners(boxes: Sandboxes) -> None:
    made = await boxes.create(SandboxSpec(owner="ann"))
    await made.files.write("/a", b"1")
    kept = await boxes.snapshot(made.id, "mine")
    assert [one.id for one in await boxes.snapshots("ann")] == [kept.id]
    assert await boxes.snapshots("bob") == []
    with pytest.raises(NotFound):
        await boxes.create(SandboxSpec(owner="bob", template="mine"))
    with pytest.raises(NotFound):
        await boxes.remove_snapshot(kept.id, "bob")
    copy = await boxes.create(SandboxSpec(owner="ann", template="mine"))
    assert await copy.files.read_bytes("/a") == b"1"
    await boxes.remove_snapshot(kept.id, "ann")
    assert await boxes.snapshots() == []


async def test_a_name_that_another_owner_has_is_refused(boxes: Sandboxes) -> None:
    first = await boxes.create(SandboxSpec(owner="ann"))
    second = await boxes.create(SandboxSpec(owner="bob"))
    await boxes.snapshot(first.id, "mine")
    with pytest.raises(Conflict):
        await boxes.snapshot(second.id, "mine")


# Order


async def test_a_sandbox_of_nobody_is_swept_when_it_is_old_enough(boxes: Sandboxes, world: World) -> None:
    await boxes.probe()
    await world.provider.create(SandboxSpec())
    await boxes._lifecycle.sweep()
    assert len(world.provider.machines) == 1  # somebody may just be making it
    world.now += 61
    await boxes._lifecycle.sweep()
    assert world.provider.machines == {}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": 1}', b"\xff\xfe"])
async def test_a_lease_that_cannot_be_read_ends_nothing_else(world: World, damage: bytes) -> None:
    boxes = world.process()
    broken = await boxes.acquire("ses_broken", world.home)
    whole = await boxes.acquire(SES, world.home)
    (world.home / "held" / f"{broken.sandbox.id}.json").write_bytes(damage)
    other = world.process()
    assert [held.info.id for held in await other.all()] == [whole.sandbox.id]
    await other._keeper.look()
    assert (await other.acquire("ses_broken", world.home)).how == "created"


async def test_a_lease_says_nothing_secret(boxes: Sandboxes, world: World) -> None:
    made = await boxes.acquire(SES, world.home)
    lease = (world.home / "held" / f"{made.sandbox.id}.json").read_text()
    assert made.sandbox.access_token not in lease
    assert json.loads(lease)["session_id"] == SES


async def test_the_keeper_of_a_process_ends_what_is_over(world: World) -> None:
    async with world.process() as boxes:
        await boxes.create(SandboxSpec(), seconds=60)
        world.now += 61
        async with asyncio.timeout(20):
            while world.provider.machines:
                await asyncio.sleep(0.01)
    assert boxes._keeper._task is not None
    assert boxes._keeper._task.done()


# Choice


def choosing(world: World, *providers: ScriptedProvider, mode: str = "hybrid") -> Sandboxes:
    settings = world.settings.model_copy(update={"sandbox_mode": mode})
    return Sandboxes(settings, providers={one.name: one for one in providers}, clock=world.clock)


def named(name: str, strength: int, *, ok: bool = True) -> ScriptedProvider:
    provider = ScriptedProvider(replace(ABLE, strength=strength), name=name)
    provider.available = Availability(ok, f"{name} says so.", "" if ok else f"Mend {name}.")
    return provider


async def test_hybrid_takes_the_strongest_that_works_and_says_so(world: World) -> None:
    boxes = choosing(world, named("weak", 1), named("strong", 2), named("broken", 3, ok=False))
    found = await boxes.probe()
    assert found.ok
    assert "hybrid takes `strong`" in found.detail
    assert "`broken` does not work here: broken says so." in found.detail
    assert (await boxes.acquire(SES, world.home)).sandbox.provider == "strong"


async def test_hybrid_without_any_says_why(world: World) -> None:
    boxes = choosing(world, named("weak", 1, ok=False), named("strong", 2, ok=False))
    with pytest.raises(SandboxUnavailable, match="weak says so") as refused:
        await boxes.acquire(SES, world.home)
    assert refused.value.remedy == "Mend weak."


async def test_what_is_asked_for_is_never_replaced(world: World) -> None:
    boxes = choosing(world, named("weak", 1), named("broken", 3, ok=False), mode="e2b")
    found = await boxes.probe()
    assert not found.ok
    for provider in (None, "microvm", "nonsense"):
        with pytest.raises(SandboxUnavailable):
            await boxes.acquire(SES, world.home, provider)


async def test_what_is_not_in_this_version_is_said(tmp_path: Path) -> None:
    boxes = Sandboxes(Settings(home=tmp_path))
    assert "no sandbox provider `microvm`" in (await boxes.probe("microvm")).detail
    assert "E2B_API_KEY" in (await boxes.probe("e2b")).remedy


async def test_one_whose_time_is_over_can_be_listed_by_several_at_once(boxes: Sandboxes, world: World) -> None:
    for _ in range(3):
        await boxes.create(SandboxSpec(), seconds=10)
    world.now += 11
    assert await asyncio.gather(*(world.process().all() for _ in range(4))) == [[]] * 4
