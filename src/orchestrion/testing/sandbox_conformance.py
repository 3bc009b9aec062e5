"""What every sandbox provider must pass.

Subclass `SandboxProviderContract` in a test module, give it a fixture `provider`, and pytest runs it all::

    import pytest

    pytest.register_assert_rewrite("orchestrion.testing.sandbox_conformance")
    from orchestrion.testing.sandbox_conformance import SandboxProviderContract


    class TestMine(SandboxProviderContract):
        @pytest.fixture
        async def provider(self, tmp_path):
            provider = MyProvider(tmp_path)
            yield provider
            await provider.aclose()

It needs `pytest` and `pytest-asyncio` in its `auto` mode. A provider is held to its own `Capabilities`: what they
offer must work, and what they don't must be refused with `Unsupported`. Sandboxes that a test makes through the
fixture `make` are removed after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from orchestrion.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OrchestrionError,
    SandboxError,
    SandboxGone,
    Unsupported,
)
from orchestrion.sandbox.protocols import Network, Sandbox, SandboxProvider, SandboxSpec
from orchestrion.testing.sandbox_contract import SandboxContract

__all__ = ["SandboxContract", "SandboxProviderContract"]

Make: TypeAlias = Callable[..., Awaitable[Sandbox]]

_NOBODY = "nobody0nobody0nobody"
_KEEP = "echo kept > kept.txt && sync"


class SandboxProviderContract(SandboxContract):
    """The tests of a provider, and by its sandboxes those of a sandbox."""

    @pytest.fixture
    async def provider(self) -> SandboxProvider:
        """Give the provider under test; to be overridden."""
        raise NotImplementedError("Give your test class a fixture `provider`.")

    @pytest.fixture
    async def make(self, provider: SandboxProvider) -> AsyncIterator[Make]:
        """Make sandboxes that are removed after the test."""
        made: list[str] = []

        async def make(spec: SandboxSpec | None = None) -> Sandbox:
            sandbox = await provider.create(spec or SandboxSpec())
            made.append(sandbox.id)
            return sandbox

        yield make
        for sandbox_id in made:
            await _forget(provider, sandbox_id)

    @pytest.fixture
    async def sandbox(self, make: Make) -> Sandbox:
        """Give a new sandbox."""
        return await make()

    async def test_it_can_tell_what_it_can(self, provider: SandboxProvider) -> None:
        """`probe` says yes where the suite runs, and `capabilities` have a sentence."""
        availability = await provider.probe()
        assert availability.ok, availability
        assert availability.detail
        capabilities = await provider.capabilities()
        assert capabilities.isolation
        assert provider.name

    async def test_a_sandbox_is_known_by_its_id(self, provider: SandboxProvider, make: Make) -> None:
        """The id fits a host name; `info` and `known` say what was asked for; `open` gives the same sandbox."""
        spec = SandboxSpec(session_id="ses_contract", owner="somebody", metadata={"color": "grün & blue"})
        sandbox = await make(spec)
        assert sandbox.id.isalnum()
        assert sandbox.id == sandbox.id.lower()
        assert sandbox.provider == provider.name
        info = await provider.info(sandbox.id)
        assert (info.id, info.state, info.provider) == (sandbox.id, "running", provider.name)
        assert (info.spec.session_id, info.spec.owner) == ("ses_contract", "somebody")
        assert info.spec.metadata == {"color": "grün & blue"}
        assert sandbox.id in [known.id for known in await provider.known()]
        again = await provider.open(sandbox.id)
        await sandbox.files.write("mark.txt", b"same")
        assert await again.files.read_bytes("mark.txt") == b"same"

    async def test_known_is_in_order_of_age(self, provider: SandboxProvider, make: Make) -> None:
        """The oldest comes first."""
        ids = [(await make()).id, (await make()).id]
        found = [info.id for info in await provider.known() if info.id in ids]
        assert found == ids

    async def test_variables_of_the_spec_are_everywhere(self, make: Make) -> None:
        """Commands, cells and processes see them."""
        sandbox = await make(SandboxSpec(env={"CONTRACT": "grün $x"}))
        assert (await sandbox.run_command('printf %s "$CONTRACT"')).stdout == "grün $x"
        cell = await sandbox.run_code("import os; print(os.environ['CONTRACT'])")
        assert cell.stdout == "grün $x\n"

    async def test_a_directory_to_start_in_is_kept_or_refused(self, make: Make) -> None:
        """What names no directory starts where the spec says, or there is no such sandbox."""
        try:
            sandbox = await make(SandboxSpec(workdir="/var"))
        except Unsupported:
            return
        assert (await sandbox.run_command("pwd")).stdout == "/var\n"
        assert (await sandbox.run_code("import os; print(os.getcwd())")).stdout == "/var\n"

    async def test_the_workspace_is_there_and_back(self, make: Make, tmp_path: Path) -> None:
        """What is in the workspace is at /workspace, and what code does there is done to it."""
        workspace = tmp_path / "space"
        (workspace / "sub").mkdir(parents=True)
        workspace.chmod(0o777)
        (workspace / "in.txt").write_text("from outside")
        (workspace / "sub" / "old.txt").write_text("to be removed")
        for path in (workspace / "in.txt", workspace / "sub", workspace / "sub" / "old.txt"):
            path.chmod(0o777)
        sandbox = await make(SandboxSpec(session_id="ses_space", workspace=workspace))
        result = await sandbox.run_command("pwd; cat in.txt; echo inside > out.txt; rm sub/old.txt")
        assert result.stdout == "/workspace\nfrom outside", result
        assert (workspace / "out.txt").read_text() == "inside\n"
        assert not (workspace / "sub" / "old.txt").exists()
        (workspace / "later.txt").write_text("later")
        cell = await sandbox.run_code(
            "print(open('/workspace/later.txt').read()); open('/workspace/c', 'w').write('c')"
        )
        assert cell.stdout == "later\n", cell
        assert (workspace / "c").read_text() == "c"

    async def test_an_unknown_template_is_not_found(self, make: Make) -> None:
        """Nothing else is made instead."""
        with pytest.raises((NotFound, InvalidInput)):
            await make(SandboxSpec(template="no-such-template-anywhere"))

    async def test_root_is_as_the_capabilities_say(self, provider: SandboxProvider, make: Make) -> None:
        """Who asks for root gets it where that is possible, else `Unsupported`."""
        spec = SandboxSpec(root=True)
        if not (await provider.capabilities()).root:
            with pytest.raises(Unsupported):
                await make(spec)
            return
        sandbox = await make(spec)
        assert (await sandbox.run_command("id -u", user="root")).stdout.strip() == "0"
        assert (await sandbox.run_command("id -u")).stdout.strip() != "0"

    async def test_nobody_is_not_found(self, provider: SandboxProvider) -> None:
        """Every method that names a sandbox says so of an unknown one."""
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: provider.info(_NOBODY),
            lambda: provider.open(_NOBODY),
            lambda: provider.pause(_NOBODY),
            lambda: provider.resume(_NOBODY),
            lambda: provider.fork(_NOBODY),
            lambda: provider.snapshot(_NOBODY),
            lambda: provider.set_network(_NOBODY, Network()),
            lambda: provider.remove(_NOBODY),
            lambda: provider.info("../../etc"),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                await call()

    async def test_a_removed_sandbox_is_gone(self, provider: SandboxProvider, make: Make) -> None:
        """It answers nobody, its handle says `SandboxGone`, and it is not known any more."""
        sandbox = await make()
        await provider.remove(sandbox.id)
        assert not await sandbox.ping()
        with pytest.raises(SandboxGone):
            await sandbox.run_command("true")
        with pytest.raises(NotFound):
            await provider.info(sandbox.id)
        with pytest.raises(NotFound):
            await provider.remove(sandbox.id)

    async def test_closing_ends_it_and_may_be_done_twice(self, provider: SandboxProvider, make: Make) -> None:
        """`close` never raises."""
        sandbox = await make()
        await sandbox.close()
        await sandbox.close()
        assert not await sandbox.ping()
        with pytest.raises(SandboxGone):
            await sandbox.files.stat("/")
        assert sandbox.id not in [info.id for info in await provider.known()]

    async def test_a_call_that_runs_as_it_ends_is_told(self, provider: SandboxProvider, make: Make) -> None:
        """A sandbox that is removed in the middle of a call is `SandboxGone`, not a failed command."""
        sandbox = await make()
        task = asyncio.create_task(sandbox.run_command("sleep 60"))
        await asyncio.sleep(0.5)
        await provider.remove(sandbox.id)
        with pytest.raises(SandboxGone):
            async with asyncio.timeout(20):
                await task

    async def test_pause_and_resume_with_memory(self, provider: SandboxProvider, make: Make) -> None:
        """Processes and variables live on, where they can."""
        sandbox = await make()
        await sandbox.run_code("x = 42")
        await sandbox.run_command(_KEEP)
        if (await provider.capabilities()).pause_memory == "none":
            with pytest.raises(Unsupported):
                await provider.pause(sandbox.id, memory=True)
            assert await sandbox.ping()
            return
        await provider.pause(sandbox.id)
        await self._is_paused(provider, sandbox)
        resumed = await provider.resume(sandbox.id)
        assert resumed.id == sandbox.id
        assert (await resumed.run_code("print(x)")).stdout == "42\n"
        assert (await resumed.run_command("cat kept.txt")).stdout == "kept\n"
        assert (await provider.info(sandbox.id)).state == "running"

    async def test_pause_and_resume_without_memory(self, provider: SandboxProvider, make: Make) -> None:
        """Files live on, variables don't, and the sandbox's variables and token are as they were."""
        sandbox = await make(SandboxSpec(env={"CONTRACT": "1"}))
        await sandbox.run_code("x = 42")
        await sandbox.run_command(_KEEP)
        await provider.pause(sandbox.id, memory=False)
        await self._is_paused(provider, sandbox)
        resumed = await provider.resume(sandbox.id)
        assert (await resumed.run_command("cat kept.txt; printf %s $CONTRACT")).stdout == "kept\n1"
        again = await resumed.run_code("x")
        assert again.error is not None
        assert again.error.name == "NameError"

    async def _is_paused(self, provider: SandboxProvider, sandbox: Sandbox) -> None:
        assert (await provider.info(sandbox.id)).state == "paused"
        assert not await sandbox.ping()
        with pytest.raises(Conflict):
            await provider.open(sandbox.id)
        with pytest.raises(Conflict):
            await provider.pause(sandbox.id)

    async def test_a_paused_sandbox_can_be_removed(self, provider: SandboxProvider, make: Make) -> None:
        """It need not be resumed first."""
        sandbox = await make()
        await provider.pause(sandbox.id, memory=False)
        await provider.remove(sandbox.id)
        with pytest.raises(NotFound):
            await provider.resume(sandbox.id)

    async def test_a_fork_is_a_copy_of_its_own(self, provider: SandboxProvider, make: Make) -> None:
        """Both have the files, neither sees what the other does then, and processes are as the capabilities say."""
        sandbox = await make()
        await sandbox.run_code("x = 42")
        await sandbox.run_command(_KEEP)
        copy = await provider.fork(sandbox.id)
        try:
            assert copy.id != sandbox.id
            assert (await copy.run_command("cat kept.txt")).stdout == "kept\n"
            await copy.run_command("echo changed > kept.txt")
            assert (await sandbox.run_command("cat kept.txt")).stdout == "kept\n"
            assert (await sandbox.run_code("print(x)")).stdout == "42\n"
            if (await provider.capabilities()).fork_processes:
                assert (await copy.run_code("print(x)")).stdout == "42\n"
        finally:
            await _forget(provider, copy.id)

    async def test_a_fork_may_have_settings_of_its_own(self, provider: SandboxProvider, make: Make) -> None:
        """Another session, other variables, the same files."""
        sandbox = await make(SandboxSpec(session_id="ses_one"))
        await sandbox.run_command(_KEEP)
        spec = replace((await provider.info(sandbox.id)).spec, session_id="ses_two", env={"NEW": "1"})
        copy = await provider.fork(sandbox.id, spec)
        try:
            assert (await copy.run_command("cat ~/kept.txt; printf %s $NEW")).stdout == "kept\n1"
            assert (await provider.info(copy.id)).spec.session_id == "ses_two"
        finally:
            await _forget(provider, copy.id)

    async def test_a_snapshot_is_a_template(self, provider: SandboxProvider, make: Make) -> None:
        """Sandboxes can be made of it, also when what it was taken of is gone."""
        sandbox = await make()
        await sandbox.run_command(_KEEP)
        if not (await provider.capabilities()).snapshots:
            with pytest.raises(Unsupported):
                await provider.snapshot(sandbox.id)
            return
        kept = await provider.snapshot(sandbox.id, "contract")
        try:
            assert kept.id in [found.id for found in await provider.snapshots()]
            await provider.remove(sandbox.id)
            made = await make(SandboxSpec(template=kept.id))
            assert (await made.run_command("cat kept.txt")).stdout == "kept\n"
        finally:
            await provider.remove_snapshot(kept.id)
        assert kept.id not in [found.id for found in await provider.snapshots()]
        with pytest.raises(NotFound):
            await provider.remove_snapshot(kept.id)
        assert (await made.run_command("cat kept.txt")).stdout == "kept\n"

    async def test_the_network_can_be_changed(self, provider: SandboxProvider, make: Make) -> None:
        """The sandbox takes it while it runs, and nothing gets out by default."""
        sandbox = await make()
        await provider.set_network(sandbox.id, Network(allow=("example.com", "*.example.org"), deny=("10.0.0.0/8",)))
        await provider.set_network(sandbox.id, Network())
        code = "import socket; s = socket.socket(); s.settimeout(3); print(s.connect_ex(('1.1.1.1', 80)) != 0)"
        assert (await sandbox.run_code(code)).stdout == "True\n"

    async def test_many_at_once(self, provider: SandboxProvider, make: Make) -> None:
        """They are made and used side by side, and know nothing of each other."""
        made = await asyncio.gather(*(make() for _ in range(4)))
        assert len({sandbox.id for sandbox in made}) == 4
        await asyncio.gather(*(box.files.write("own.txt", box.id.encode()) for box in made))
        found = await asyncio.gather(*(box.run_command("cat own.txt") for box in made))
        assert [result.stdout for result in found] == [box.id for box in made]


async def _forget(provider: SandboxProvider, sandbox_id: str) -> None:
    try:
        await provider.remove(sandbox_id)
    except (NotFound, SandboxError):
        return
    except OrchestrionError as error:
        pytest.fail(f"The sandbox {sandbox_id} could not be removed: {error}")
