from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import InvalidInput, NotFound, SandboxUnavailable
from orchestrion.sandbox.guest.guestd.seccomp import build_filter
from orchestrion.sandbox.local import cgroups, skeleton
from orchestrion.sandbox.local.cgroups import Group, Hierarchies
from orchestrion.sandbox.local.ground import diagnose
from orchestrion.sandbox.local.images import Image, Images, full_name
from orchestrion.sandbox.local.interpreter import Interpreter, locate, refuse_exposing
from orchestrion.sandbox.local.launcher import copying
from orchestrion.sandbox.local.ownership import give_tree, id_base
from orchestrion.sandbox.local.places import Place, remove_tree
from orchestrion.sandbox.local.plan import System, environment, guest_config, purpose_plan, system_plan
from orchestrion.sandbox.local.records import (
    Record,
    Records,
    boot_id,
    is_id,
    new_id,
    spec_of_json,
    spec_to_json,
    start_time,
)
from orchestrion.sandbox.protocols import Limits, Network, SandboxSpec

ROOT = os.geteuid() == 0
ID = "abcdefghij0123456789"
PYTHON = Interpreter("/opt/python/bin/python", ((Path("/data/venv"), "/opt/python"), (Path("/root/py"), "/root/py")))
SYSTEM = System(PYTHON, Path("/data/venv/bin/python"), Path("/data/payload"), Path("/data/system"))
SPEC = SandboxSpec(
    session_id="ses_1",
    workspace=Path("/data/w"),
    limits=Limits(tmp_mb=3),
    env={"A": "b"},
    network=Network(allow=("*.example.com",), https_ports=(8443,)),
    root=True,
)


def record(**changes: object) -> Record:
    made = Record(ID, SandboxSpec(), "user", "plain", None, "token", 5.0)
    return replace(made.born(os.getpid()), **changes)  # type: ignore[arg-type]


# What a sandbox is told


def test_only_the_python_and_the_daemon_are_mounted() -> None:
    plan = system_plan(Place(Path("/data/sandboxes") / ID), "overlay", 65536, SYSTEM)
    assert plan["mounts"] == [
        ("/data/venv", "/opt/python"),
        ("/root/py", "/root/py"),
        ("/data/payload", "/opt/orchestrion"),
    ]
    assert plan["moves"] == [("/data/venv", "/opt/python"), ("/data/payload", "/opt/orchestrion")]
    assert (plan["base"], plan["layout"]) == (65536, "overlay")
    json.dumps(plan)


def test_the_purpose_is_the_specs() -> None:
    told = purpose_plan(record(spec=SPEC), SYSTEM, "boot")
    assert (told["workspace"], told["tmp_bytes"], told["allow_root"]) == ("/data/w", 3 * 1024 * 1024, True)
    assert told["guest"]["envs"] == {"A": "b"}
    assert purpose_plan(record(), SYSTEM, "boot")["workspace"] == ""
    json.dumps(told)


def test_the_environment_is_made_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SECRET", "sk-secret")
    made = environment(PYTHON, root=False)
    assert "sk-secret" not in json.dumps(made)
    assert made["PATH"].split(":")[0] == "/opt/python/bin"
    assert made["OPENAI_API_KEY"] == made["ANTHROPIC_API_KEY"] == "sandbox"
    assert (made["HOME"], environment(PYTHON, root=True)["HOME"]) == ("/home/user", "/root")


def test_the_daemon_takes_every_word_of_its_configuration() -> None:
    from orchestrion.sandbox.guest.guestd.config import Config

    config = Config()
    given = guest_config(record(spec=SPEC), "boot")
    config.update(given)
    for name, value in given.items():
        if name not in ("limits", "writable"):
            assert getattr(config, name) == value, name
    assert (config.limits.memory_mb, config.limits.disk_mb) == (4096, 10240)
    assert config.isolated


def test_a_templates_user_and_directory_are_the_daemons() -> None:
    plain = guest_config(record(spec=SandboxSpec()), "boot")
    assert (plain["default_user"], plain["workdir"]) == ("user", "/home/user")
    cooks = guest_config(record(spec=SandboxSpec(user="cook", workdir="/srv")), "boot")
    assert (cooks["default_user"], cooks["workdir"]) == ("cook", "/srv")


# Records


def test_a_spec_survives_its_record() -> None:
    assert spec_of_json(json.loads(json.dumps(spec_to_json(SPEC)))) == SPEC
    assert spec_of_json(json.loads(json.dumps(spec_to_json(SandboxSpec())))) == SandboxSpec()


def test_ids_can_stand_in_a_host_name() -> None:
    made = {new_id() for _ in range(50)}
    assert len(made) == 50
    assert all(is_id(name) for name in made)
    assert not any(is_id(name) for name in ("", "locks", "../../../etc/passwd_", ID.upper(), ID + "a"))


def test_a_record_knows_whether_its_process_lives() -> None:
    assert record().alive()
    assert not record(start=1).alive()
    assert not record(boot="another").alive()
    assert not record(pid=2**22 + 1).alive()
    assert not record(pid=0).alive()


@pytest.mark.parametrize(
    ("changes", "state", "memory"),
    [
        ({}, "running", True),
        ({"start": 1}, "paused", False),
        ({"state": "paused"}, "paused", True),
        ({"state": "paused", "memory": False, "pid": 0}, "paused", False),
        ({"state": "paused", "boot": "another"}, "paused", False),
    ],
)
def test_what_a_record_says(changes: dict[str, object], state: str, memory: bool) -> None:
    info = record(**changes).info()
    assert (info.id, info.provider, info.state, info.memory) == (ID, "local", state, memory)


def test_records_are_kept_privately_and_found_again(tmp_path: Path) -> None:
    records = Records(tmp_path / "sandboxes")
    records.place(ID).make()
    records.write(record(spec=SPEC))
    assert records.read(ID) == record(spec=SPEC)
    assert records.all() == [record(spec=SPEC)]
    assert stat.S_IMODE((records.root / ID / "sandbox.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((records.root / ID).stat().st_mode) == 0o700
    for name in ("a" * 20, "..", "../" * 6 + "xx", ""):
        with pytest.raises(NotFound):
            records.read(name)


def test_a_broken_record_is_none(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for text in ("", "[]", "{}", '{"id": 1}', "\0"):
        records.place(ID).path.mkdir(exist_ok=True)
        (records.place(ID).path / "sandbox.json").write_text(text)
        assert records.all() == []


def test_only_what_nobody_wants_is_swept(tmp_path: Path) -> None:
    from orchestrion.sandbox.locks import shared

    records = Records(tmp_path)
    names = [letter * 20 for letter in "abcd"]
    for name in names:
        records.place(name).make()
    records.write(record(id="a" * 20))
    for name in names[:3]:
        os.utime(records.place(name).path, (0, 0))
    with shared(records.place("b" * 20).claim):
        assert records.unrecorded() == ["c" * 20]
    assert sorted(records.unrecorded()) == ["b" * 20, "c" * 20]


# Files


@given(st.text(max_size=30))
def test_ids_are_stable_and_far_from_real_users(key: str) -> None:
    base = id_base(key)
    assert base == id_base(key)
    assert base % 65536 == 0
    assert 2**20 <= base < 2**31


@pytest.mark.skipif(not ROOT, reason="only root may give files away")
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


def test_removal_goes_to_any_depth_and_follows_no_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "link").symlink_to(kept)
    descriptor = os.open(doomed, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    (doomed / "locked" / "inner").mkdir(parents=True)
    (doomed / "locked").chmod(0)
    remove_tree(doomed)
    assert os.listdir(tmp_path) == ["kept"]
    remove_tree(doomed)


@pytest.mark.skipif(not ROOT, reason="only root may give files away")
def test_a_copy_moves_the_owners_and_keeps_the_modes(tmp_path: Path) -> None:
    upper = tmp_path / "rw" / "system" / "upper"
    (upper / "bin").mkdir(parents=True)
    (tmp_path / "rw" / "system" / "work" / "work").mkdir(parents=True)
    (upper / "bin" / "tool").write_text("x")
    os.chown(upper / "bin" / "tool", 2**20 + 7, 2**20 + 8)
    (upper / "bin" / "tool").chmod(0o4755)
    (upper / "bin" / "link").symlink_to("/etc/passwd")
    os.chown(upper / "bin" / "link", 2**20, 2**20, follow_symlinks=False)
    copying.main(str(tmp_path / "rw"), str(tmp_path / "copy"), 2**20, 2**21, "")
    tool = (tmp_path / "copy" / "system" / "upper" / "bin" / "tool").stat()
    assert (tool.st_uid, tool.st_gid, stat.S_IMODE(tool.st_mode)) == (2**21 + 7, 2**21 + 8, 0o4755)
    assert (tmp_path / "copy" / "system" / "upper" / "bin" / "link").lstat().st_uid == 2**21
    assert os.listdir(tmp_path / "copy" / "system" / "work") == []
    assert os.stat("/etc/passwd").st_uid == 0


def test_directories_of_the_user_are_never_taken_for_layers(tmp_path: Path) -> None:
    for kept in ("home", "workspace"):
        for name in ("upper", "work", "else"):
            (tmp_path / "rw" / kept / name).mkdir(parents=True)
    copying.main(str(tmp_path / "rw"), str(tmp_path / "copy"), 0, 0, str(tmp_path / "rw" / "workspace"))
    for kept in ("home", "workspace"):
        assert sorted(os.listdir(tmp_path / "copy" / kept)) == ["else", "upper", "work"]


def test_the_bare_system_holds_nothing_private(tmp_path: Path) -> None:
    root = skeleton.build(tmp_path, ["/opt/python", "/somewhere/else"])
    assert root == skeleton.build(tmp_path, ["/somewhere/else", "/opt/python"])
    assert (root / "somewhere" / "else").is_dir()
    users = [line.split(":")[0] for line in (root / "etc" / "passwd").read_text().splitlines()]
    assert users == ["root", "user", "nobody"]
    assert "$" not in (root / "etc" / "shadow").read_text()
    for name in ("ssh", "ssl/private", "gshadow", "sudoers.d", "crontab"):
        assert not (root / "etc" / name).exists()
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "bin").is_symlink() == Path("/bin").is_symlink()


# Snapshots


def image(key: str, *names: str, at: float = 0) -> Image:
    return Image(key, names, ID, at, "plain", None, 0)


def finished(images: Images, *names: str) -> Image:
    key = images.start()
    images.path(key).mkdir()
    return images.finish(image(key, *names, at=time.time()))


def test_a_name_that_is_taken_again_moves(tmp_path: Path) -> None:
    images = Images(tmp_path)
    first = finished(images, "mine:default")
    second = finished(images, "mine:default")
    other = finished(images, "mine:v2")
    nameless = finished(images)
    for wanted, expected in (("mine", second), ("mine:default", second), ("mine:v2", other)):
        assert images.find(wanted) == expected
    assert images.find(f"{first.key}:default") == replace(first, names=())
    assert images.find(nameless.id) == nameless
    assert [found.key for found in images.all()] == [made.key for made in (nameless, other, second, first)]
    assert (second.described().id, second.described().names) == ("mine:default", ("mine",))
    images.remove(second.key)
    with pytest.raises(NotFound, match="`mine`"):
        images.find("mine")


def test_an_unknown_template_names_those_there_are(tmp_path: Path) -> None:
    images = Images(tmp_path)
    finished(images, "mine:default")
    assert images.find("base") is images.find("code-interpreter-v1") is None
    with pytest.raises(NotFound) as raised:
        images.find("nothing")
    assert all(name in raised.value.remedy for name in ("base", "code-interpreter-v1", "mine:default"))


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "../x", "a/b", "a:", ":a", "base", "code-interpreter-v1:x", "a" * 200]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidInput):
        full_name(name)


# Control groups


def test_limits_in_the_first_version(tmp_path: Path) -> None:
    for name in ("memory", "pids", "freezer", "cpu"):
        (tmp_path / name / "orchestrion").mkdir(parents=True)
        (tmp_path / name / "orchestrion" / "cgroup.procs").touch()
    found = cgroups.find(tmp_path)
    assert (found.unified, found.limits, "freezer" in found.directories) == (False, True, True)
    group = Group(found, ID)
    group.make(4321)
    group.limit(Limits(memory_mb=100, processes=10))
    place = tmp_path / "memory" / "orchestrion" / ID
    assert int((place / "memory.limit_in_bytes").read_text()) == (100 + 25 + 192) * 1024 * 1024
    assert (tmp_path / "pids" / "orchestrion" / ID / "pids.max").read_text() == "26"
    assert (tmp_path / "freezer" / "orchestrion" / ID / "cgroup.procs").read_text() == "4321"


def test_limits_in_the_second_version(tmp_path: Path) -> None:
    controllers = dict.fromkeys(("cpu", "memory", "pids", "freezer"), tmp_path)
    group = Group(Hierarchies(controllers, unified=True), ID)
    group.make(4321)
    group.limit(Limits(memory_mb=100, processes=10))
    written = {path.name for path in (tmp_path / ID).iterdir()}
    assert written == {"cgroup.procs", "memory.max", "pids.max", "cpu.weight"}


def test_without_control_groups(tmp_path: Path) -> None:
    found = cgroups.find(tmp_path / "missing")
    assert not found.limits
    assert "not ours" in found.describe()
    group = Group(found, ID)
    group.make(1)
    group.limit(Limits())
    assert not group.freeze(True)
    assert group.remove()
    assert "v2" in Hierarchies({"memory": tmp_path, "pids": tmp_path}, unified=True).describe()


# What stands in the way


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
    error = diagnose("new namespaces: Operation not permitted", tmp_path)
    assert isinstance(error, SandboxUnavailable)
    assert remedy in error.remedy


def test_other_obstacles(tmp_path: Path) -> None:
    assert "docker run" in diagnose("mount proc at proc: Operation not permitted", tmp_path).remedy
    assert "5.12" in diagnose("attributes of /usr: Function not implemented", tmp_path).remedy
    assert "/x" in diagnose("its zygote did not start (no module /x)", tmp_path).detail
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


@pytest.mark.parametrize("inside", ["", "data", "deeper/data"])
def test_a_python_that_would_expose_the_data_directory_is_refused(tmp_path: Path, inside: str) -> None:
    interpreter = Interpreter("/opt/python/bin/python", ((tmp_path / "alice", "/opt/python"),))
    alice, bob = tmp_path / "alice" / inside, tmp_path / "alice-too"
    refuse_exposing(interpreter, bob, tmp_path)
    refuse_exposing(interpreter, bob, Path("/usr/local/bob"))
    for data, home in ((alice, bob), (bob, alice), (Path("/usr/local/share/orchestrion"), bob)):
        with pytest.raises(SandboxUnavailable, match="lies inside"):
            refuse_exposing(interpreter, data, home)


# The filter of system calls


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


def test_the_room_is_light_until_it_is_used() -> None:
    code = "import sys, orchestrion.sandbox; print(any('sandbox.local' in name for name in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_records_tell_when_a_process_started() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**22 + 1) is None
    assert boot_id() == boot_id()
