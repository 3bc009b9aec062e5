from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.core.errors import InvalidInput
from orchestrion.sandbox import Output, Sandbox, Sandboxes


async def value(sandbox: Sandbox, code: str) -> str:
    result = await sandbox.run_code(code)
    assert result.error is None, result.error
    return result.results[-1].data


async def test_a_cell_gives_its_output_and_its_last_value(sandbox: Sandbox) -> None:
    result = await sandbox.run_code("import sys\nprint('out', 'é😀')\nprint('err', file=sys.stderr)\n6 * 7")
    assert (result.stdout, result.stderr) == ("out é😀\n", "err\n")
    assert [(rich.kind, rich.data) for rich in result.results] == [("text", "42")]
    assert result.error is None
    assert not result.timed_out
    assert not result.restarted


async def test_variables_imports_and_functions_persist(sandbox: Sandbox) -> None:
    await sandbox.run_code("import math\nx = 2\ndef double(n):\n    return n * x")
    assert await value(sandbox, "double(math.floor(21.5))") == "42"


async def test_top_level_await_and_asyncio_run(sandbox: Sandbox) -> None:
    code = "import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n    return n\n"
    assert await value(sandbox, code + "await f(5)") == "5"
    assert await value(sandbox, "asyncio.run(f(6))") == "6"
    assert await value(sandbox, "y = await f(7)\ny") == "7"


async def test_tracebacks_show_the_users_code_alone(sandbox: Sandbox) -> None:
    result = await sandbox.run_code("def outer():\n    inner()\ndef inner():\n    raise ValueError('no')\nouter()")
    assert result.error is not None
    assert (result.error.name, result.error.message) == ("ValueError", "no")
    assert "raise ValueError('no')" in result.error.traceback
    assert "guestd" not in result.error.traceback
    broken = await sandbox.run_code("x = (1,\n")
    assert broken.error is not None
    assert broken.error.name == "SyntaxError"
    assert "guestd" not in broken.error.traceback


async def test_the_output_of_child_processes_is_there_too(sandbox: Sandbox) -> None:
    code = "import os, subprocess\nsubprocess.run(['echo', 'child'])\nos.system('echo shell >&2')\nprint('own')"
    result = await sandbox.run_code(code)
    assert sorted(result.stdout.split()) == ["child", "own"]
    assert result.stderr == "shell\n"


async def test_awkward_cells(sandbox: Sandbox) -> None:
    assert (await sandbox.run_code("")).error is None
    assert (await sandbox.run_code("5;")).results == []
    assert (await sandbox.run_code("import sys; sys.exit()")).error is None
    refused = await sandbox.run_code("import sys; sys.exit('bad')")
    assert refused.error is not None
    assert refused.error.name == "SystemExit"
    assert (await sandbox.run_code("print('\\ud800')")).stdout == "\\ud800\n"
    assert (await sandbox.run_code("input()")).error is not None
    unprintable = await sandbox.run_code("class A:\n    def __repr__(self): raise RuntimeError('x')\nA()")
    assert unprintable.error is not None
    null = await sandbox.run_code("x = 1\0")
    assert null.error is not None
    forked = await sandbox.run_code("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint(bool(pid))")
    assert sorted(forked.stdout.split()) == ["False", "True"]
    assert await value(sandbox, "1 + 1") == "2"


async def test_code_finds_the_toolkits_and_the_workspace(sandbox: Sandbox, workspace: Path) -> None:
    (workspace / "helper.py").write_text("answer = 42\n")
    (workspace / "random.py").write_text("raise SystemExit('an upload took the place of a module')\n")
    assert await value(sandbox, "import helper, random, guestd\nhelper.answer") == "42"
    assert await value(sandbox, "import os\nos.getcwd()") == "/workspace"


async def test_a_command_gives_output_and_exit_code(sandbox: Sandbox) -> None:
    result = await sandbox.run_command("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert not result.timed_out
    assert (await sandbox.run_command("kill -TERM $$")).exit_code == 128 + 15
    assert (await sandbox.run_command("no-such-program")).exit_code == 127
    assert (await sandbox.run_command("pwd", cwd="/tmp")).stdout == "/tmp\n"
    with pytest.raises(InvalidInput, match="/missing"):
        await sandbox.run_command("true", cwd="/missing")
    assert (await sandbox.run_command(r"printf 'a\377b'")).stdout == "a\ufffdb"
    assert (await sandbox.run_command("cat")).exit_code == 0


async def test_output_is_streamed_while_it_runs(sandbox: Sandbox) -> None:
    seen: list[Output] = []
    first = asyncio.Event()

    async def on_output(output: Output) -> None:
        seen.append(output)
        first.set()

    call = asyncio.create_task(
        sandbox.run_command("echo one; while [ ! -e go ]; do sleep 0.05; done; echo two", on_output=on_output)
    )
    await asyncio.wait_for(first.wait(), 20)
    assert not call.done()
    assert (await sandbox.run_command("touch go")).exit_code == 0
    assert (await call).stdout == "one\ntwo\n"
    assert "".join(output.text for output in seen) == "one\ntwo\n"


async def test_cells_stream_too(sandbox: Sandbox) -> None:
    first = asyncio.Event()

    async def on_output(output: Output) -> None:
        first.set()

    code = "import os, time\nprint('one')\nwhile not os.path.exists('go'): time.sleep(0.05)"
    call = asyncio.create_task(sandbox.run_code(code, on_output=on_output))
    await asyncio.wait_for(first.wait(), 20)
    await sandbox.run_command("touch go")
    assert (await call).stdout == "one\n"


async def test_a_failing_listener_ends_the_command(sandbox: Sandbox) -> None:
    async def on_output(output: Output) -> None:
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        await sandbox.run_command("echo; exec sleep 4321", on_output=on_output)
    assert "4321" not in await processes(sandbox)


async def processes(sandbox: Sandbox) -> str:
    listing = await sandbox.run_command("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    return listing.stdout.replace("cat /proc", "")


async def test_a_background_process_lives_on(sandbox: Sandbox) -> None:
    result = await sandbox.run_command("(sleep 1234 &) ; sleep 2345 & echo started")
    assert result.stdout == "started\n"
    running = await processes(sandbox)
    assert "sleep 1234" in running
    assert "sleep 2345" in running


async def test_parallel_commands(sandbox: Sandbox) -> None:
    results = await asyncio.gather(*(sandbox.run_command(f"echo {number}") for number in range(40)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(40)]


async def test_files_are_shared_through_the_workspace(sandbox: Sandbox, workspace: Path) -> None:
    (workspace / "in.txt").write_text("from the host")
    await sandbox.run_code("open('out.txt', 'w').write(open('/workspace/in.txt').read().upper())")
    assert (workspace / "out.txt").read_text() == "FROM THE HOST"


async def test_what_is_uploaded_later_is_writable_after_acquire(
    sandboxes: Sandboxes, sandbox: Sandbox, workspace: Path
) -> None:
    (workspace / "charts").mkdir()
    (workspace / "link").symlink_to("/etc/passwd")
    acquired = await sandboxes.acquire("ses_test", workspace)
    again = acquired.sandbox
    assert (again.id, acquired.how) == (sandbox.id, "reused")
    assert (await again.run_command("touch charts/x.png")).exit_code == 0
    assert os.stat("/etc/passwd").st_uid == 0


async def test_there_is_no_network(sandbox: Sandbox) -> None:
    code = "import socket\nsocket.create_connection(('{}', {}), 3)"
    for host, port in (("1.1.1.1", 53), ("example.com", 80)):
        result = await sandbox.run_code(code.format(host, port))
        assert result.error is not None
    devices = await sandbox.run_command("tail -n +3 /proc/net/dev | cut -d: -f1")
    assert devices.stdout.split() == ["lo"]


async def test_nothing_of_the_host_is_visible(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    assert (await sandbox.run_command(f"cat {secret}")).exit_code != 0
    assert (await sandbox.run_command("ls -A /var/log /sys /mnt | grep -v :")).stdout.strip() == ""
    assert (await sandbox.run_command("ls /boot; cat /etc/shadow")).stdout == ""
    home = await sandbox.run_command("ls -A /home")
    assert home.stdout.split() == ["user"]
    names = await sandbox.run_command("cut -d: -f1 /etc/passwd; hostname")
    assert names.stdout.split() == ["root", "user", "nobody", "sandbox"]
    count = await sandbox.run_command("ls -d /proc/[0-9]* | wc -l")
    assert int(count.stdout) < 20


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


async def test_the_system_is_read_only_and_private_places_are_bounded(sandbox: Sandbox) -> None:
    for place in ("/", "/usr", "/etc", "/opt", "/opt/orchestrion", "/opt/python", "/dev", "/root", "/var"):
        refused = await sandbox.run_command(f"touch {place}/x")
        assert refused.exit_code != 0, place
    for place in ("/tmp", "/home/user", "/dev/shm", "/var/tmp", "/workspace"):
        assert (await sandbox.run_command(f"touch {place}/x")).exit_code == 0, place
    full = await sandbox.run_command("head -c 600M /dev/zero > /dev/shm/big")
    assert "No space left" in full.stderr


async def test_it_has_no_privileges(sandbox: Sandbox) -> None:
    status = await sandbox.run_command("grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs)' /proc/self/status; id -u")
    words = status.stdout.split()
    assert words[1] == words[3] == words[5] == "0000000000000000"
    assert words[7] == "1"
    assert words[8] != "0"
    assert (await sandbox.run_command("mount -t tmpfs none /tmp")).exit_code != 0


async def test_no_new_namespace_can_be_made(sandbox: Sandbox) -> None:
    assert "not permitted" in (await sandbox.run_command("unshare --user true")).stderr
    clone = "import ctypes\nctypes.CDLL(None).syscall(56, 0x10000000 | 17, 0, 0, 0, 0)"
    if os.uname().machine == "x86_64":
        assert await value(sandbox, clone) == "-1"


async def test_threads_and_processes_work(sandbox: Sandbox) -> None:
    code = """
import multiprocessing, threading
def square(n): return n * n
thread = threading.Thread(target=square, args=(1,)); thread.start(); thread.join()
with multiprocessing.Pool(2) as pool: squares = pool.map(square, range(4))
squares"""
    assert await value(sandbox, code) == "[0, 1, 4, 9]"


async def test_a_second_process_finds_the_variables(sandboxes: Sandboxes, workspace: Path, tmp_path: Path) -> None:
    program = """
import asyncio, pathlib, sys
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes
async def main():
    sandboxes = Sandboxes(Settings(home=pathlib.Path(sys.argv[1])))
    acquired = await sandboxes.acquire("ses_test", pathlib.Path(sys.argv[2]))
    print(acquired.how, (await acquired.sandbox.run_code(sys.argv[3])).results)
asyncio.run(main())
"""
    out = []
    for cell in ("kept = 40; kept", "kept + 2"):
        argv = [sys.executable, "-c", program, str(tmp_path / "home"), str(workspace), cell]
        out.append(await asyncio.to_thread(subprocess.check_output, argv, text=True, timeout=60))
    assert out[0].startswith("created")
    assert "data='40'" in out[0]
    assert out[1].startswith("reused")
    assert "data='42'" in out[1]
    found = await sandboxes.find("ses_test")
    assert found is not None


async def test_acquire_at_once_makes_one(sandboxes: Sandboxes, workspace: Path) -> None:
    got = await asyncio.gather(*(sandboxes.acquire("ses_test", workspace) for _ in range(8)))
    assert len({acquired.sandbox.id for acquired in got}) == 1
    assert sorted(acquired.how for acquired in got) == ["created", *["reused"] * 7]


def _command_lines() -> set[bytes]:
    """Every process's command line; a bare machine has no `ps`."""
    found: set[bytes] = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.add(entry.read_bytes())
    return found


async def test_close_ends_everything(sandboxes: Sandboxes, sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.run_command("setsid sleep 3456 &")
    await sandboxes.close("ses_test")
    assert not await sandbox.ping()
    assert await sandboxes.find("ses_test") is None
    assert list((tmp_path / "home" / "sandboxes").glob("?" * 20)) == []
    assert b"sleep\x003456\x00" not in _command_lines()
    await sandbox.close()
