"""Whatever is done to sandboxes in whatever order, by several processes: what must always hold, does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrion.core.errors import Conflict, NotFound, QuotaExceeded, SandboxGone
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes
from orchestrion.sandbox.protocols import SandboxSpec
from orchestrion.testing import ScriptedProvider
from orchestrion.testing.scripted_sandbox import ABLE

T = TypeVar("T")
SESSIONS = ("ses_a", "ses_b", "ses_c", "ses_d")
EACH = 3
PAUSE, IDLE = 120, 600

process = st.integers(0, 1)
session = st.sampled_from(SESSIONS)
which = st.integers(0, 9)
seconds = st.sampled_from([1, 60, 130, 500, 700])


class SandboxLives(RuleBasedStateMachine):
    """Two processes share a data directory, a provider and a clock.

    What a session should find is tracked beside them: `files` while there is a sandbox, `variables` while its
    processes have not died.
    """

    @initialize(frozen=st.booleans(), snapshots=st.booleans())
    def begin(self, frozen: bool, snapshots: bool) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.home = Path(self.directory.name)
        self.now = 1_800_000_000.0
        self.loop = asyncio.new_event_loop()
        able = replace(ABLE, pause_memory="frozen" if frozen else "none", snapshots=snapshots)
        self.provider = ScriptedProvider(able, lambda: self.now)
        self.frozen, self.snapshots = frozen, snapshots
        self.variables: dict[str, int] = {}
        self.files: dict[str, int] = {}
        self.count = 0
        self.processes = [self.start() for _ in range(2)]

    def start(self) -> Sandboxes:
        chosen = Settings(home=self.home, sandbox_mode="hybrid", sandbox_max_per_owner=EACH)
        return Sandboxes(chosen, providers={"scripted": self.provider}, clock=lambda: self.now)

    def wait(self, unit: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(unit, 20))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()
            self.directory.cleanup()

    @rule(who=process, session=session)
    def work(self, who: int, session: str) -> None:
        """A session works: it finds what it left, or is told that it is gone."""
        try:
            acquired = self.wait(self.processes[who].acquire(session, self.home, owner="ann"))
        except QuotaExceeded:
            assert not self.frozen or self.plain() >= 1
            return
        sandbox = acquired.sandbox
        result = self.wait(sandbox.run_code("x"))
        if acquired.how in {"reused", "resumed"}:
            assert result.results[0].data == str(self.variables[session])
        else:
            assert not result.results
        if acquired.how == "created":
            assert bool(acquired.lost) == (session in self.files)
        else:
            assert self.wait(sandbox.files.read_bytes("/f")) == str(self.files[session]).encode()
        self.count += 1
        self.wait(sandbox.run_code(f"x = {self.count}"))
        self.wait(sandbox.files.write("/f", str(self.count).encode()))
        self.variables[session] = self.files[session] = self.count

    def plain(self) -> int:
        """How many run that belong to no session."""
        return sum(one.info.spec.session_id is None for one in self.running())

    def running(self) -> list[Any]:
        return [one for one in self.provider.machines.values() if one.info.state == "running"]

    @rule(who=process, deadline=seconds, pause=st.booleans())
    def make(self, who: int, deadline: int, pause: bool) -> None:
        """Somebody makes a sandbox for itself."""
        terms: Any = "pause" if pause else "kill"
        try:
            self.wait(self.processes[who].create(SandboxSpec(owner="ann"), seconds=deadline, on_timeout=terms))
        except QuotaExceeded:
            assert len(self.running()) >= (self.plain() if self.frozen else EACH)

    @rule(who=process, passed=seconds)
    def time_passes(self, who: int, passed: int) -> None:
        """Time passes, and one process looks what is due."""
        self.now += passed
        self.wait(self.processes[who]._keeper.look())
        for held in self.wait(self.processes[who].all()):
            assert held.ends_at is None or held.ends_at.timestamp() > self.now

    @rule(which=which)
    @precondition(lambda self: self.provider.machines)
    def crash(self, which: int) -> None:
        """Something inside dies."""
        self.provider.crash(self.pick(which))

    def pick(self, which: int) -> str:
        ids = list(self.provider.machines)
        return ids[which % len(ids)]

    @rule(who=process, which=which, memory=st.booleans())
    @precondition(lambda self: self.provider.machines)
    def toggle(self, who: int, which: int, memory: bool) -> None:
        """Somebody pauses or resumes one."""
        sandbox_id = self.pick(which)
        state = self.provider.machines[sandbox_id].info.state
        boxes = self.processes[who]
        try:
            if state == "running":
                self.wait(boxes.pause(sandbox_id, memory=memory and self.frozen))
            else:
                self.wait(boxes.resume(sandbox_id, memory=memory))
                assert self.wait(self.wait(boxes.open(sandbox_id)).ping())
        except (QuotaExceeded, NotFound, Conflict, SandboxGone):
            return

    @rule(who=process, session=session)
    def delete(self, who: int, session: str) -> None:
        """A session is deleted."""
        self.wait(self.processes[who].close(session))
        self.variables.pop(session, None)
        self.files.pop(session, None)
        sessions = [one.info.spec.session_id for one in self.provider.machines.values()]
        assert session not in sessions

    @rule(who=process)
    def restart(self, who: int) -> None:
        """A process dies and another takes its place."""
        self.processes[who] = self.start()

    @invariant()
    def within_the_quota(self) -> None:
        if hasattr(self, "provider"):
            assert len(self.running()) <= EACH

    @invariant()
    def one_each(self) -> None:
        if hasattr(self, "provider"):
            sessions = [one.info.spec.session_id for one in self.provider.machines.values()]
            own = [one for one in sessions if one is not None]
            assert len(own) == len(set(own))


SandboxLives.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestSandboxLives = SandboxLives.TestCase
