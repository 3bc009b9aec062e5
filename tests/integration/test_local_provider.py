"""The `local` provider: what it makes, pauses, copies, finds again and leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrion.core.errors import Conflict, NotFound, SandboxGone, SandboxUnavailable, Unsupported
from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.local.interpreter import default_python
from orchestrion.sandbox.local.records import Record, Records
from orchestrion.sandbox.protocols import Limits, Sandbox, SandboxSpec


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
async def provider(home: Path) -> AsyncIterator[LocalProvider]:
    made = LocalProvider(home, pool=1)
    state = await made.probe()
    if not state.ok:
        pytest.skip(f"{state.detail} {state.remedy}")
    yield made
    for info in await made.known():
        await made.remove(info.id)
    await made.aclose()
    assert left_in(home) == []


def left_in(home: Path) -> list[str]:
    """Return what sandboxes have left on disk, in control groups and among the mounts."""
    directories = [path.name for path in (home / "sandboxes").glob("*") if path.name != "locks"]
    groups = [str(path) for name in directories for path in Path("/sys/fs/cgroup").glob(f"*/orchestrion/{name}")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(home) in line]
    return directories + groups + mounts


def record_of(home: Path, sandbox: Sandbox) -> Record:
    return Records(home / "sandboxes").read(sandbox.id)


async def output(sandbox: Sandbox, command: str, user: str | None = None) -> str:
    result = await sandbox.run_command(command, user=user)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


async def needs_root(provider: LocalProvider) -> None:
    if not (await provider.capabilities()).root:
        pytest.skip("code can't become root in sandboxes here")


async def test_who_and_where_code_is(provider: LocalProvider, home: Path) -> None:
    sandbox = await provider.create(SandboxSpec(env={"MINE": "yes"}))
    assert await output(sandbox, "id -un; id -u; pwd; hostname; echo $MINE; echo $HOME") == (
        "user\n1000\n/home/user\nsandbox\nyes\n/home/user"
    )
    assert "/opt/python/bin" in await output(sandbox, "bash -lc 'echo $PATH'")
    assert await output(sandbox, "python -c 'import pandas; print(pandas.__file__)'") == (
        f"/opt/python/lib/python3.{sys.version_info.minor}/site-packages/pandas/__init__.py"
    )
    for place in ("~", "/tmp", "/var/tmp", "/workspace", "/dev/shm"):
        assert await output(sandbox, f"cd {place} && touch x && cat x && df . > /dev/null") == ""
    assert (await sandbox.run_command("touch /etc/x")).exit_code != 0
    assert (await sandbox.run_command("sudo -n true")).exit_code != 0
    assert str(home) not in await output(sandbox, "cat /proc/*/cmdline /proc/mounts | tr '\\0' ' '")


async def test_the_hosts_devices_are_for_use_only(provider: LocalProvider) -> None:
    sandbox = await provider.create(SandboxSpec())
    assert await output(sandbox, "echo x > /dev/null; head -c 3 /dev/zero | wc -c") == "3"
    result = await sandbox.run_command("chmod 600 /dev/null /proc/kmsg")
    assert result.stderr.count("Read-only file system") == 2


_IN_A_CONTAINER = """
import asyncio, sys
from pathlib import Path
from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.protocols import SandboxSpec

async def main():
    provider = LocalProvider(Path(sys.argv[1]), Path(sys.argv[2]), pool=0)
    state = await provider.probe()
    print(state.ok, state.detail, state.remedy)
    if state.ok:
        sandbox = await provider.create(SandboxSpec())
        print((await sandbox.run_command("id -u; grep CapBnd /proc/self/status")).stdout)
        await sandbox.close()
    await provider.aclose()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do with less")
@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ("-sys_admin", ["True", "As root, without rights of one", "\n1000\n", "CapBnd:\t0000000000000000"]),
        (
            "-all",
            ["False", "namespaces that the sandbox is made of are forbidden here", "In a container, allow them"],
        ),
    ],
)
async def test_root_with_less_rights_makes_what_it_can_or_nothing(home: Path, dropped: str, said: list[str]) -> None:
    program: list[str | Path] = ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped]
    arguments: list[str | Path] = ["-c", _IN_A_CONTAINER, home, default_python()]
    process = await asyncio.create_subprocess_exec(
        *program, sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    shown = (await asyncio.wait_for(process.communicate(), 60))[0].decode()
    assert [part for part in said if part not in shown] == [], shown


async def test_root_inside(provider: LocalProvider, home: Path) -> None:
    await needs_root(provider)
    workspace = home / "w"
    workspace.mkdir()
    sandbox = await provider.create(SandboxSpec(root=True, workspace=workspace))
    assert await output(sandbox, "sudo id -un; touch mine; sudo touch /etc/made /usr/local/bin/made roots") == "root"
    assert await output(sandbox, "id -u; stat -c %U /etc/passwd mine roots", user="root") == "0\nroot\nuser\nroot"
    await output(sandbox, "useradd -m other && su other -c 'id -un' && chown other /workspace/mine", user="root")
    assert min(path.stat().st_uid for path in workspace.iterdir()) >= 2**20


async def test_root_is_refused_where_it_can_not_be(provider: LocalProvider) -> None:
    sandbox = await provider.create(SandboxSpec())
    with pytest.raises(Exception, match="root"):
        await sandbox.run_command("id", user="root")
    if not (await provider.capabilities()).root:
        with pytest.raises(Unsupported):
            await provider.create(SandboxSpec(root=True))


async def test_the_workspace_is_one_inside_and_outside(provider: LocalProvider, home: Path) -> None:
    workspace = home / "with space, comma:colon ü"
    workspace.mkdir()
    (workspace / "in").write_text("from the host")
    sandbox = await provider.create(SandboxSpec(session_id="ses_1", workspace=workspace))
    assert await output(sandbox, "pwd; cat in; echo back > out; echo more >> in") == "/workspace\nfrom the host"
    assert (workspace / "out").read_text() == "back\n"
    (workspace / "later").mkdir()
    (workspace / "link").symlink_to("/etc/passwd")
    await provider.adopt(sandbox.id)
    await output(sandbox, "touch later/x")
    assert os.stat("/etc/passwd").st_uid == 0


async def test_paused_with_its_processes(provider: LocalProvider, home: Path) -> None:
    sandbox = await provider.create(SandboxSpec())
    await sandbox.run_code("kept = 41")
    await sandbox.run_command("i=0; while true; do i=$((i+1)); echo $i > ~/count; sleep 0.01; done &")
    await provider.pause(sandbox.id)
    info = await provider.info(sandbox.id)
    assert (info.state, info.memory) == ("paused", True)
    assert not await sandbox.ping()
    for call in (provider.open(sandbox.id), provider.pause(sandbox.id)):
        with pytest.raises(Conflict):
            await call
    again = await provider.resume(sandbox.id)
    assert (await again.run_code("kept + 1")).results[-1].data == "42"
    assert (await provider.open(sandbox.id)) is again
    assert record_of(home, again).alive()


async def test_nothing_runs_while_it_is_paused(provider: LocalProvider, home: Path) -> None:
    workspace = home / "w"
    workspace.mkdir()
    sandbox = await provider.create(SandboxSpec(workspace=workspace))
    await sandbox.run_command("while true; do date +%N > /workspace/now; done &")
    await provider.pause(sandbox.id)
    seen = {(workspace / "now").read_text() for _ in range(20) if not time.sleep(0.01)}
    assert len(seen) == 1


async def test_paused_without_its_processes(provider: LocalProvider, home: Path) -> None:
    sandbox = await provider.create(SandboxSpec())
    first = await output(sandbox, "echo kept > ~/file; cat /proc/sys/kernel/random/boot_id")
    await provider.pause(sandbox.id, memory=False)
    assert not record_of(home, sandbox).alive()
    info = await provider.info(sandbox.id)
    assert (info.state, info.memory) == ("paused", False)
    again = await provider.resume(sandbox.id)
    assert await output(again, "cat ~/file") == "kept"
    assert await output(again, "cat /proc/sys/kernel/random/boot_id") != first
    await provider.pause(sandbox.id)
    await provider.pause(sandbox.id, memory=False)
    assert not (await provider.info(sandbox.id)).memory


async def test_a_crash_leaves_the_files(provider: LocalProvider, home: Path) -> None:
    sandbox = await provider.create(SandboxSpec())
    await output(sandbox, "echo kept > ~/file; setsid sleep 7123 > /dev/null 2>&1 &")
    os.kill(record_of(home, sandbox).pid, signal.SIGKILL)
    with pytest.raises(SandboxGone):
        await sandbox.run_command("true")
    with pytest.raises(SandboxGone):
        await provider.open(sandbox.id)
    assert [(info.id, info.state, info.memory) for info in await provider.known()] == [(sandbox.id, "paused", False)]
    again = await provider.resume(sandbox.id)
    assert await output(again, "cat ~/file") == "kept"


async def test_a_fork_has_the_files_and_goes_its_own_way(provider: LocalProvider, home: Path) -> None:
    workspace = home / "w"
    workspace.mkdir()
    (workspace / "shared").write_text("work")
    source = await provider.create(SandboxSpec(session_id="ses_1", workspace=workspace))
    await output(source, "echo one > ~/file; chmod 600 ~/file; ln -s file ~/link")
    await source.run_code("alive = True")
    copy = await provider.fork(source.id)
    assert await output(copy, "cat ~/file ~/link; stat -c '%U %a' ~/file; cat /workspace/shared") == (
        "one\none\nuser 600\nwork"
    )
    await output(copy, "echo two > ~/file; echo two > /workspace/shared")
    assert await output(source, "cat ~/file shared") == "one\nwork"
    assert (await source.run_code("alive")).results[-1].data == "True"
    if record_of(home, source).base is not None:
        assert record_of(home, source).base != record_of(home, copy).base


async def test_a_fork_has_what_its_user_took_his_own_right_to_read_from(provider: LocalProvider) -> None:
    source = await provider.create(SandboxSpec())
    await output(source, "mkdir -p ~/own/in && echo kept > ~/own/in/file && chmod 000 ~/own/in/file ~/own/in ~/own")
    copy = await provider.fork(source.id)
    assert await output(copy, "stat -c %a ~/own; chmod -R u+rwX ~/own; cat ~/own/in/file") == "0\nkept"


async def test_a_snapshot_is_a_template(provider: LocalProvider) -> None:
    source = await provider.create(SandboxSpec())
    await output(source, "echo one > ~/file")
    taken = await provider.snapshot(source.id, "mine")
    await output(source, "echo two > ~/file")
    await source.close()
    assert (taken.id, taken.names, taken.sandbox_id) == ("mine:default", ("mine",), source.id)
    assert taken.size > 0
    for template in ("mine", "mine:default"):
        assert await output(await provider.create(SandboxSpec(template=template)), "cat ~/file") == "one"
    assert [snapshot.id for snapshot in await provider.snapshots()] == ["mine:default"]
    await provider.remove_snapshot("mine:default")
    assert await provider.snapshots() == []
    with pytest.raises(NotFound, match="mine"):
        await provider.create(SandboxSpec(template="mine"))


async def test_changes_of_root_are_in_a_fork(provider: LocalProvider) -> None:
    await needs_root(provider)
    source = await provider.create(SandboxSpec(root=True))
    await output(source, "rm /etc/shells && rm -r /etc/alternatives && mkdir /etc/alternatives", user="root")
    await output(source, "cp /usr/bin/id /usr/local/bin/me && chmod 4755 /usr/local/bin/me", user="root")
    copy = await provider.fork(source.id)
    assert await output(copy, "ls /etc/shells /etc/alternatives 2>&1 || true") != ""
    assert await output(copy, "ls -A /etc/alternatives") == ""
    assert await output(copy, "/usr/local/bin/me -u; stat -c '%U %a' /usr/local/bin/me") == "0\nroot 4755"


async def test_another_process_finds_it(provider: LocalProvider, home: Path) -> None:
    sandbox = await provider.create(SandboxSpec())
    await sandbox.run_code("kept = 41")
    program = """
import asyncio, pathlib, sys
from orchestrion.sandbox.local import LocalProvider
async def main():
    provider = LocalProvider(pathlib.Path(sys.argv[1]))
    info, = await provider.known()
    sandbox = await provider.open(info.id)
    print((await sandbox.run_code("kept + 1")).results[-1].data)
    made = await provider.create(info.spec)
    print(made.id)
    await provider.aclose()
asyncio.run(main())
"""
    argv = [sys.executable, "-c", program, str(home)]
    answer = await asyncio.to_thread(subprocess.check_output, argv, text=True, timeout=100)
    value, made = answer.split()
    assert value == "42"
    assert await output(await provider.open(made), "echo ok") == "ok"


async def test_a_host_process_that_is_killed_leaves_nothing_unrecorded(home: Path, tmp_path: Path) -> None:
    program = """
import asyncio, os, pathlib, signal, sys
from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.protocols import SandboxSpec
async def main():
    provider = LocalProvider(pathlib.Path(sys.argv[1]), pool=2)
    await provider.create(SandboxSpec())
    await provider.warm()
    for _ in range(3):
        asyncio.ensure_future(provider.create(SandboxSpec()))
    await asyncio.sleep(float(sys.argv[2]))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    for seconds in ("0", "0.003", "0.01", "0.03"):
        argv = [sys.executable, "-c", program, str(home), seconds]
        await asyncio.to_thread(subprocess.run, argv, timeout=100, check=False)
    async with asyncio.timeout(30):
        while running_in(home) - {record.pid for record in Records(home / "sandboxes").all()}:
            await asyncio.sleep(0.05)
    provider = LocalProvider(home, pool=0)
    for info in await provider.known():
        await provider.remove(info.id)
    for path in (home / "sandboxes").iterdir():
        os.utime(path, (0, 0))
    assert await provider.known() == []
    await provider.aclose()
    assert left_in(home) == []


def running_in(home: Path) -> set[int]:
    """Return the processes 1 of sandboxes, as the host sees them, whose system lies in a data directory."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            status = (path.parent / "status").read_text()
            if (
                f"{home}/sandboxes/" in path.read_text()
                and status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
            ):
                found.add(int(path.parent.name))
        except (OSError, IndexError):
            continue
    return found


async def test_a_zygote_that_is_killed_is_replaced(provider: LocalProvider) -> None:
    first = await provider.create(SandboxSpec())
    await provider.warm()
    ground = await provider._explored()
    assert ground.nursery._process is not None
    ground.nursery._process.kill()
    made = [await provider.create(SandboxSpec()) for _ in range(3)]
    assert [await output(sandbox, "echo ok") for sandbox in (first, *made)] == ["ok"] * 4


async def test_many_at_once(provider: LocalProvider) -> None:
    made = await asyncio.gather(*(provider.create(SandboxSpec()) for _ in range(6)))
    assert len({sandbox.id for sandbox in made}) == 6
    await asyncio.gather(*(provider.pause(sandbox.id) for sandbox in made))
    assert {info.state for info in await provider.known()} == {"paused"}
    await asyncio.gather(*(provider.remove(sandbox.id) for sandbox in made))
    assert await provider.known() == []


async def test_a_cancelled_making_leaves_nothing(provider: LocalProvider, home: Path) -> None:
    for seconds in (0.001, 0.004, 0.01):
        task = asyncio.create_task(provider.create(SandboxSpec()))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            await (await task).close()
    assert await provider.known() == []


async def test_its_files_go_whatever_is_in_them(provider: LocalProvider, home: Path) -> None:
    sandbox = await provider.create(SandboxSpec())
    deep = "import os\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')"
    await output(sandbox, f'python -c "{deep}"; mkdir -p ~/no/entry; chmod 0 ~/no; ln -s /etc ~/etc')
    await sandbox.close()
    await sandbox.close()
    assert not (home / "sandboxes" / sandbox.id).exists()
    with pytest.raises(NotFound):
        await provider.remove(sandbox.id)
    assert Path("/etc/passwd").exists()


async def test_limits_hold_for_all_its_processes_together(provider: LocalProvider) -> None:
    sandbox = await provider.create(SandboxSpec(limits=Limits(memory_mb=256, processes=40, tmp_mb=8)))
    hungry = await sandbox.run_command("python -c 'x = bytearray(10**9)'")
    assert hungry.exit_code != 0
    full = await sandbox.run_command("head -c 20M /dev/zero > /dev/shm/x")
    assert "No space" in full.stderr
    bomb = await sandbox.run_command("for i in $(seq 100); do sleep 5 & done; wait", timeout=20)
    assert "fork" in bomb.stderr.lower()
    assert await sandbox.ping(5)


async def test_a_python_that_is_missing_is_named(home: Path) -> None:
    provider = LocalProvider(home, home / "nothing")
    state = await provider.probe()
    assert not state.ok
    assert str(home / "nothing") in state.detail
    with pytest.raises(SandboxUnavailable):
        await provider.create(SandboxSpec())
    await provider.aclose()


async def test_a_home_with_a_long_path(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path / ("x" * 120) / "y, z:ü", pool=0)
    if not (await provider.probe()).ok:
        pytest.skip("no sandbox here")
    sandbox = await provider.create(SandboxSpec())
    assert await output(sandbox, "echo ok") == "ok"
    await sandbox.close()
    await provider.aclose()


async def test_one_that_ends_for_want_of_use_keeps_a_sessions_files(provider: LocalProvider) -> None:
    alone = await provider.create(SandboxSpec(idle_seconds=1))
    sessions = await provider.create(SandboxSpec(session_id="ses_idle", idle_seconds=1))
    await sessions.files.write("kept", b"kept")
    async with asyncio.timeout(60):
        while {info.state for info in await provider.known()} != {"paused"}:
            await asyncio.sleep(0.2)
    (left,) = await provider.known()
    assert (left.id, left.memory) == (sessions.id, False)
    with pytest.raises(NotFound):
        await provider.info(alone.id)
    again = await provider.resume(sessions.id)
    assert await again.files.read_bytes("kept") == b"kept"


async def test_a_machine_without_its_tools_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state = await LocalProvider(home).probe()
    assert not state.ok
    assert "'rm'" in state.detail
    assert state.remedy
