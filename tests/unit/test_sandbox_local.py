from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import SandboxError, SandboxGone, SandboxUnavailable
from orchestrion.sandbox.guest.guestd.seccomp import build_filter
from orchestrion.sandbox.local.argv import Mode, Plan, bwrap_argv, daemon_command, environment, etc_files
from orchestrion.sandbox.local.capture import Capture
from orchestrion.sandbox.local.interpreter import Interpreter, locate, refuse_exposing
from orchestrion.sandbox.local.ownership import give_tree, sandbox_uid
from orchestrion.sandbox.local.probe import diagnose
from orchestrion.sandbox.local.records import Record, Records, boot_id, start_time
from orchestrion.sandbox.local.sandbox import _GRACE, LocalSandbox, _Collector
from orchestrion.sandbox.local.wire import Connection, parse, text_of
from orchestrion.sandbox.protocols import Limits


def plan(mode: Mode = "user", disable_userns: bool = True) -> Plan:
    python = Interpreter(
        "/opt/python/bin/python", ((Path("/data/venv"), "/opt/python"), (Path("/root/py"), "/root/py"))
    )
    return Plan(mode, 1000, python, Path("/data/w"), Path("/data/etc"), Limits(tmp_mb=3), disable_userns)


def pairs(argv: list[str], option: str, count: int) -> list[tuple[str, ...]]:
    return [tuple(argv[i + 1 : i + 1 + count]) for i, word in enumerate(argv) if word == option]


@pytest.mark.parametrize("mode", ["root", "user"])
def test_every_namespace_is_its_own(mode: Mode) -> None:
    argv = bwrap_argv(plan(mode), ["true"])
    for name in ("pid", "net", "ipc", "uts", "cgroup-try"):
        assert f"--unshare-{name}" in argv
    assert {"--new-session", "--as-pid-1", "--clearenv"} <= set(argv)
    assert "--share-net" not in argv
    assert "--die-with-parent" not in argv


def test_only_the_workspace_is_writable() -> None:
    argv = bwrap_argv(plan(), ["true"])
    assert pairs(argv, "--bind", 2) == [("/data/w", "/workspace")]
    assert not {"--bind-try", "--dev-bind", "--dev-bind-try", "--overlay"} & set(argv)
    assert argv[argv.index("--clearenv") - 2 : argv.index("--clearenv")] == ["--remount-ro", "/"]


def test_every_tmpfs_has_a_size() -> None:
    argv = bwrap_argv(plan(), ["true"])
    places = [index for index, word in enumerate(argv) if word == "--tmpfs"]
    assert {argv[index + 1] for index in places} == {"/tmp", "/home/user", "/run", "/dev/shm"}
    assert all(argv[index - 2] == "--size" for index in places)
    assert pairs(argv, "--size", 1).count((str(3 * 1024 * 1024),)) == 3


def test_of_etc_only_harmless_parts_are_the_hosts() -> None:
    argv = bwrap_argv(plan(), ["true"])
    host = {source for source, _ in pairs(argv, "--ro-bind", 2) + pairs(argv, "--ro-bind-try", 2)}
    assert {path for path in host if path.startswith("/etc")} == {
        "/etc/ld.so.cache",
        "/etc/alternatives",
        "/etc/fonts",
        "/etc/ssl/certs",
        "/etc/localtime",
        "/etc/mime.types",
    }
    assert not {"/", "/root", "/home", "/etc", "/var", "/data"} & host


def test_as_root_setpriv_drops_to_the_sandbox_user() -> None:
    argv = bwrap_argv(plan("root"), ["python", "x"])
    assert "--unshare-user" not in argv
    command = argv[argv.index("--") + 1 :]
    assert command[:5] == ["/usr/bin/setpriv", "--reuid", "1000", "--regid", "1000"]
    assert {"--clear-groups", "--inh-caps=-all", "--bounding-set=-all"} <= set(command)
    assert command[-2:] == ["python", "x"]


def test_as_an_ordinary_user_it_is_a_user_namespace_without_capabilities() -> None:
    argv = bwrap_argv(plan("user"), ["python"])
    assert pairs(argv, "--uid", 1) == [("1000",)]
    assert {"--unshare-user", "--disable-userns"} <= set(argv)
    assert "--cap-add" not in argv
    assert argv[argv.index("--") + 1 :] == ["python"]
    assert "--disable-userns" not in bwrap_argv(plan(disable_userns=False), [])


def test_the_environment_is_made_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    argv = bwrap_argv(plan(), ["true"])
    assert "sk-secret" not in " ".join(argv)
    assert dict(pairs(argv, "--setenv", 2)) == environment(plan())  # type: ignore[arg-type]
    assert environment(plan())["PATH"].split(":")[0] == "/opt/python/bin"


def test_the_directories_above_mounts_are_made_enterable() -> None:
    argv = bwrap_argv(plan(), ["true"])
    made = {place for (place,) in pairs(argv, "--dir", 1)}
    assert {"/root", "/opt", "/home", "/etc"} <= made


def test_users_inside() -> None:
    files = etc_files(234567)
    assert "user:x:234567:234567:" in files["passwd"]
    assert set(files) == {"passwd", "group", "hosts", "nsswitch.conf"}


def test_the_daemon_is_told_every_limit() -> None:
    config = json.loads(daemon_command(plan(), 7, 30)[-1])
    assert config == {
        "listener": 7,
        "idle_seconds": 30,
        "memory_mb": 4096,
        "processes": 256,
        "file_mb": 4096,
        "open_files": 1024,
        "cpu_seconds": 3600,
    }


@given(st.lists(st.text(max_size=40), max_size=40), st.integers(2, 60))
def test_a_capture_keeps_beginning_and_end(parts: list[str], limit: int) -> None:
    capture = Capture(limit)
    for part in parts:
        capture.add(part)
    whole, kept, half = "".join(parts), capture.text(), limit // 2
    if len(whole) <= 2 * half:
        assert kept == whole
    else:
        assert kept == f"{whole[:half]}\n[… {len(whole) - 2 * half} characters left out …]\n{whole[-half:]}"


@given(st.binary(max_size=200))
def test_no_line_from_the_guest_crashes_the_parser(line: bytes) -> None:
    with contextlib.suppress(SandboxError):
        assert isinstance(parse(line), dict)


@given(st.text(alphabet=st.characters(), max_size=50))
def test_texts_from_the_guest_can_be_encoded(text: str) -> None:
    message = parse(json.dumps({"text": text + "\ud800"}).encode())
    text_of(message, "text").encode()


def test_a_text_that_is_no_text() -> None:
    for value in (None, 1, [], {}):
        with pytest.raises(SandboxError):
            text_of({"text": value}, "text")


@given(st.text(max_size=30))
def test_a_sessions_user_is_stable_and_unprivileged(session: str) -> None:
    uid = sandbox_uid(session)
    assert uid == sandbox_uid(session)
    assert 200_000 <= uid < 260_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_giving_a_tree_away_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("")
    (tree / "link").symlink_to(outside)
    (tree / "deep" / "link").symlink_to(outside / "file")
    give_tree(tree, 234567)
    assert [path.lstat().st_uid for path in (tree, tree / "deep" / "file", tree / "link")] == [234567] * 3
    assert [path.stat().st_uid for path in (outside, outside / "file")] == [0, 0]


def record(**changes: object) -> Record:
    own = {
        "id": "sbx_1",
        "session_id": "ses_1",
        "provider": "local",
        "pid": os.getpid(),
        "uid": None,
        "created_at": 0.0,
    }
    return Record(**{**own, "start": start_time(os.getpid()), "boot": boot_id(), **changes})  # type: ignore[arg-type]


def test_a_record_knows_whether_its_process_lives() -> None:
    assert record().alive()
    assert not record(start=1).alive()
    assert not record(boot="another").alive()
    assert not record(pid=2**22 + 1).alive()


def test_the_dead_are_swept_away_and_the_living_kept(tmp_path: Path) -> None:
    records = Records(tmp_path / "sandboxes")
    ids = [records.make()[0] for _ in range(4)]
    records.write(record(id=ids[0]))
    records.write(record(id=ids[1], session_id="ses_2", start=1))
    os.utime(records.root / ids[3], (0, 0))
    assert [found.id for found in records.living()] == [ids[0]]
    assert sorted(path.name for path in records.root.glob("sbx_*")) == sorted([ids[0], ids[2]])
    assert records.of_session("ses_1") == record(id=ids[0])
    assert records.of_session("ses_2") is None
    assert stat.S_IMODE(records.root.stat().st_mode) == 0o700


async def test_the_session_lock_excludes_others(tmp_path: Path) -> None:
    records = Records(tmp_path)
    async with records.locked("ses_1", 1):
        with pytest.raises(SandboxError):
            async with records.locked("ses_1", 0.05):
                pass
    async with records.locked("ses_1", 0.05):
        pass


@pytest.mark.parametrize(
    ("switch", "value", "remedy"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ],
)
def test_a_forbidden_user_namespace_names_its_switch(tmp_path: Path, switch: str, value: str, remedy: str) -> None:
    (tmp_path / switch).parent.mkdir(parents=True)
    (tmp_path / switch).write_text(f"{value}\n")
    error = diagnose("bwrap: setting up uid map: Permission denied", tmp_path)
    assert isinstance(error, SandboxUnavailable)
    assert remedy in error.remedy


def test_other_obstacles(tmp_path: Path) -> None:
    container = diagnose("bwrap: No permissions to create new namespace", tmp_path)
    assert "docker run" in container.remedy
    other = diagnose("bwrap: Can't find source path /x: No such file", tmp_path)
    assert "/x" in other.detail
    assert "make setup" in diagnose("packages").remedy


def test_a_python_that_does_not_start(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SandboxUnavailable, match="does not start"):
        locate(broken)


def test_a_python_of_the_system_needs_no_mount() -> None:
    system = Path("/usr/bin/python3")
    if not system.exists():
        pytest.skip("no python in /usr/bin")
    found = locate(system)
    assert found.mounts == ()
    assert found.command.startswith("/usr/bin/")


def run_filter(machine: str, arch: int, number: int, first: int = 0) -> int:
    """Interpret the filter as the kernel does; return its verdict."""
    code = build_filter(machine)
    assert code is not None
    steps = list(struct.iter_unpack("<HBBI", code))
    loads, accumulator, place = {0: number, 4: arch, 16: first}, 0, 0
    while True:
        kind, if_true, if_false, value = steps[place]
        place += 1
        if kind == 0x06:
            return int(value)
        if kind == 0x20:
            accumulator = loads[value]
            continue
        met = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[kind]
        place += if_true if met else if_false


@pytest.mark.parametrize(
    ("machine", "arch", "unshare", "clone"), [("x86_64", 0xC000003E, 272, 56), ("aarch64", 0xC00000B7, 97, 220)]
)
def test_the_system_call_filter(machine: str, arch: int, unshare: int, clone: int) -> None:
    allow, forbidden = 0x7FFF0000, 0x00050001
    assert run_filter(machine, arch, unshare) == forbidden
    assert run_filter(machine, arch, 442) == forbidden
    assert run_filter(machine, arch, clone, 0x10000000 | 17) == forbidden
    assert run_filter(machine, arch, clone, 0x003D0F00) == allow
    assert run_filter(machine, arch, 435) == 0x00050000 | 38
    assert run_filter(machine, 0x40000003, 1) == 0x80000000
    assert run_filter(machine, arch, 1, 0x10000000) == allow
    assert build_filter("riscv64") is None


@pytest.mark.parametrize(
    ("machine", "arch", "calls"), [("x86_64", 0xC000003E, (41, 53)), ("aarch64", 0xC00000B7, (198, 199))]
)
def test_only_the_usual_families_of_sockets(machine: str, arch: int, calls: tuple[int, int]) -> None:
    usual = {1, 2, 10, 16}
    for call in calls:
        verdicts = {family: run_filter(machine, arch, call, family) for family in range(64)}
        assert {family for family, verdict in verdicts.items() if verdict == 0x7FFF0000} == usual
        assert {verdict for family, verdict in verdicts.items() if family not in usual} == {0x00050000 | 97}


@pytest.mark.parametrize("inside", ["", "data", "deeper/data"])
def test_a_python_that_would_expose_the_data_directory_is_refused(tmp_path: Path, inside: str) -> None:
    interpreter = Interpreter("/opt/python/bin/python", ((tmp_path / "alice", "/opt/python"),))
    alice, bob = tmp_path / "alice" / inside, tmp_path / "alice-too"
    refuse_exposing(interpreter, bob, tmp_path)
    refuse_exposing(interpreter, bob, Path("/usr/local/bob"))
    for data, home in ((alice, bob), (bob, alice), (Path("/usr/local/share/orchestrion"), bob)):
        with pytest.raises(SandboxUnavailable, match="lies inside"):
            refuse_exposing(interpreter, data, home)


class _Flood(Connection):
    """A guest that has always something to say."""

    def __init__(self, message: dict[str, object]) -> None:
        self._message = message

    async def receive(self, within: float) -> dict[str, object]:
        return self._message


def _sandbox(place: Path) -> LocalSandbox:
    return LocalSandbox(Record("sbx_x", "ses_x", "local", 2**22 - 1, 1, "no boot", None, 0.0), Records(place))


async def test_a_guest_that_never_pauses_meets_its_deadline(tmp_path: Path) -> None:
    flood = _Flood({"type": "output", "stream": "stdout", "text": "x"})
    with pytest.raises(SandboxGone, match="past its time"):
        await _sandbox(tmp_path)._converse(flood, _Collector(None), 0.05 - _GRACE)


async def test_a_guest_may_not_send_results_without_end(tmp_path: Path) -> None:
    flood = _Flood({"type": "rich", "kind": "png", "data": ""})
    with pytest.raises(SandboxError, match="too many"):
        await _sandbox(tmp_path)._converse(flood, _Collector(None), 60)


def test_the_room_is_light_until_it_is_used() -> None:
    import subprocess
    import sys

    code = "import sys, orchestrion.sandbox; print(any('sandbox.local' in name for name in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
