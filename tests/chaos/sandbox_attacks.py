"""Runs inside a sandbox: tries to get out, and prints what succeeded as JSON, attempt by attempt.

Called with a JSON object: `secrets` (paths of the host), `ports` (where the host listens), `abstract` (a socket of
the host), `marks` (command lines of other sandboxes), `sudo` (whether code may become root).
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
# x86-64's numbers, and those of arm64.
CALLS = {
    "ptrace": (101, 117), "pivot_root": (155, 41), "chroot": (161, 51), "acct": (163, 89), "mount": (165, 40),
    "umount2": (166, 39), "swapon": (167, 224), "reboot": (169, 142), "sethostname": (170, 161),
    "init_module": (175, 105), "delete_module": (176, 106), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "unshare": (272, 97), "perf_event_open": (298, 241), "open_by_handle_at": (304, 265),
    "setns": (308, 268), "process_vm_readv": (310, 270), "finit_module": (313, 273), "bpf": (321, 280),
    "userfaultfd": (323, 282), "syslog": (103, 116), "kexec_load": (246, 104), "io_uring_setup": (425, 425),
    "open_tree": (428, 428), "fsopen": (430, 430), "clone3": (435, 435), "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442), "clock_settime": (227, 112), "settimeofday": (164, 170), "quotactl": (179, 60),
    "fanotify_init": (300, 262), "kcmp": (312, 272),
}  # fmt: skip
CLONE = (56, 220)
NEW_NAMESPACES = (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000, 0x02000000)
ARM = os.uname().machine == "aarch64"
DEVICES = {
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "pts",
    "shm",
    "ptmx",
    "fd",
    "stdin",
    "stdout",
    "stderr",
}
FOUND: dict[str, str | None] = {}


def attempt(name: str, work: Callable[[], object]) -> None:
    """Note what an attempt gave; an error or nothing means that it was in vain."""
    try:
        result = work()
    except (OSError, ValueError, subprocess.SubprocessError):
        result = None
    FOUND[name] = str(result)[:300] if result else None


def call(name: str, *arguments: object) -> Callable[[], object]:
    def work() -> object:
        ctypes.set_errno(0)
        result = LIBC.syscall(CALLS[name][ARM], *arguments)
        return None if result < 0 else f"returned {result}"

    return work


def can_write(path: str) -> Callable[[], object]:
    def work() -> object:
        descriptor = os.open(path, os.O_WRONLY)
        os.close(descriptor)
        return f"{path} opened for writing"

    return work


def can_append(path: str) -> Callable[[], object]:
    def work() -> object:
        with open(path, "a"):
            return f"{path} opened to append"

    return work


def can_read(path: str) -> Callable[[], object]:
    def work() -> object:
        with open(path, "rb") as file:
            return file.read(64)

    return work


def connects(family: int, address: object, kind: int = socket.SOCK_STREAM) -> Callable[[], object]:
    def work() -> object:
        with socket.socket(family, kind) as probe:
            probe.settimeout(2)
            probe.connect(address)
            if kind == socket.SOCK_DGRAM:
                probe.send(b"x")
                return probe.recv(1)
            return f"connected to {address}"

    return work


def host_files(secrets: list[str]) -> None:
    for path in secrets:
        attempt(f"read {path}", can_read(path))
        for process in glob.glob("/proc/[0-9]*"):
            for way in ("root", "cwd"):
                attempt(f"read {process}/{way}{path}", can_read(f"{process}/{way}{path}"))
    for path in ("/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda"):
        attempt(f"read {path}", can_read(path))
    attempt("anything in /sys", lambda: os.listdir("/sys"))
    known = {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "pts",
        "shm",
        "ptmx",
        "fd",
        "stdin",
        "stdout",
        "stderr",
    }
    attempt("another device", lambda: set(os.listdir("/dev")) - known)
    attempt("the old root", lambda: [path for path in ("/oldroot", "/.old_root", "/host") if os.path.exists(path)])
    attempt("dotdot", lambda: os.stat("/..").st_ino != os.stat("/").st_ino)


def other_sandboxes(marks: list[str]) -> None:
    lines = [
        Path(path).read_bytes().replace(b"\0", b" ").decode().strip() for path in glob.glob("/proc/[0-9]*/cmdline")
    ]
    for mark in marks:
        attempt(f"see {mark}", lambda mark=mark: mark in lines and mark)
    attempt("more pids than ours", lambda: len(lines) > 60 and len(lines))


def network(ports: list[int], abstract: str) -> None:
    for port in ports:
        for host in ("127.0.0.1", "169.254.169.254", "10.0.0.1"):
            attempt(f"connect {host}:{port}", connects(socket.AF_INET, (host, port)))
        attempt(f"connect [::1]:{port}", connects(socket.AF_INET6, ("::1", port)))
    for address in (("169.254.169.254", 80), ("100.100.100.200", 80), ("1.1.1.1", 53), ("172.17.0.1", 22)):
        attempt(f"connect {address}", connects(socket.AF_INET, address))
    attempt("ask a name server", connects(socket.AF_INET, ("1.1.1.1", 53), socket.SOCK_DGRAM))
    attempt("connect to the host's abstract socket", connects(socket.AF_UNIX, f"\0{abstract}"))
    attempt("other interfaces", lambda: {name for _, name in socket.if_nameindex()} - {"lo"})
    for name, family, kind in (
        ("packet", 17, 3),
        ("vsock", 40, 1),
        ("raw", 2, 3),
        ("alg", 38, 5),
        ("bluetooth", 31, 3),
    ):
        attempt(
            f"a {name} socket", lambda family=family, kind=kind: socket.socket(family, kind, 255 if kind == 3 else 0)
        )


def proc_writes() -> None:
    places = ["sysrq-trigger", "sys/kernel/core_pattern", "sys/kernel/hostname", "sys/vm/drop_caches"]
    places += ["sys/fs/binfmt_misc/register", "irq/default_smp_affinity", "sys/kernel/modprobe", "scsi/scsi"]
    places += ["sys/net/ipv4/ip_forward", "sys/user/max_user_namespaces", "sys/kernel/random/boot_id", "1/mem"]
    for place in places:
        attempt(f"write /proc/{place}", can_write(f"/proc/{place}"))
    for place in ("keys", "key-users", "timer_list", "kallsyms", "vmallocinfo", "slabinfo", "iomem"):
        attempt(f"learn from /proc/{place}", can_read(f"/proc/{place}"))
    for place in ("/run/orchestrion/x", "/opt/orchestrion/x", "/opt/python/x", "/opt/orchestrion/guestd/daemon.py"):
        attempt(f"write {place}", can_append(place))


def mounting() -> None:
    tmp = b"/tmp"
    attempt("mount tmpfs", call("mount", b"none", tmp, b"tmpfs", 0, None))
    attempt("mount proc", call("mount", b"proc", tmp, b"proc", 0, None))
    attempt("bind", call("mount", b"/proc/1/root", tmp, None, 0x1000, None))
    attempt("remount", call("mount", None, b"/proc/sys", None, 0x1000 | 0x20, None))
    attempt("unmount a mask", call("umount2", b"/proc/keys", 2))
    attempt("unmount /proc/sys", call("umount2", b"/proc/sys", 2))
    attempt("mount cgroup", call("mount", b"none", tmp, b"cgroup2", 0, None))
    attempt("mount overlay", call("mount", b"o", tmp, b"overlay", 0, b"lowerdir=/usr,upperdir=/tmp/a,workdir=/tmp/b"))
    attempt("open_tree", call("open_tree", -100, b"/", 1))
    attempt("fsopen", call("fsopen", b"tmpfs", 0))
    attempt("mount_setattr", call("mount_setattr", -100, b"/proc/sys", 0, bytes(32), 32))
    attempt("chroot", call("chroot", tmp))
    attempt("pivot_root", call("pivot_root", b".", b"."))
    attempt("trusted attribute", lambda: os.setxattr("/tmp", "trusted.overlay.opaque", b"y") or "set")


def kernel_doors() -> None:
    attempt("ptrace process 1", call("ptrace", 16, 1, 0, 0))
    attempt("ptrace parent", call("ptrace", 16, os.getppid(), 0, 0))
    buffer = ctypes.create_string_buffer(64)
    attempt("read memory", call("process_vm_readv", 1, buffer, 1, buffer, 1, 0))
    for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/auxv"):
        attempt(f"read {path}", can_read(path))
    attempt("descriptors of process 1", lambda: os.listdir("/proc/1/fd"))
    attempt("its root", lambda: os.readlink("/proc/1/root"))
    pidfd = os.pidfd_open(1) if hasattr(os, "pidfd_open") else -1
    attempt("pidfd_getfd", call("pidfd_getfd", pidfd, 0, 0))
    attempt("add_key", call("add_key", b"user", b"x", b"x", 1, -3))
    attempt("keyctl", call("keyctl", 0, -3, 1))
    attempt("request_key", call("request_key", b"user", b"x", None, -3))
    attempt("bpf", call("bpf", 0, bytes(128), 128))
    attempt("perf", call("perf_event_open", bytes(128), 0, -1, -1, 0))
    attempt("userfaultfd", call("userfaultfd", 0))
    attempt("io_uring", call("io_uring_setup", 4, bytes(128)))
    attempt("kexec", call("kexec_load", 0, 0, None, 0))
    attempt("module", call("init_module", b"x", 1, b""))
    attempt("unload a module", call("delete_module", b"overlay", 0))
    attempt("syslog", call("syslog", 3, buffer, 64))
    attempt("reboot", call("reboot", 0xFEE1DEAD, 672274793, 0, None))
    attempt("swapon", call("swapon", b"/tmp/x", 0))
    attempt("acct", call("acct", b"/tmp/x"))
    attempt("quotactl", call("quotactl", 0x800001 << 8, None, 0, None))
    attempt("hostname", call("sethostname", b"x", 1))
    attempt("clock", call("clock_settime", 0, bytes(16)))
    attempt("time of day", call("settimeofday", bytes(16), None))
    attempt("fanotify", call("fanotify_init", 0, 0))
    attempt("open by handle", call("open_by_handle_at", -100, bytes(64), 0))


def namespaces() -> None:
    for flag in NEW_NAMESPACES:
        attempt(f"unshare {flag:#x}", call("unshare", flag))
        attempt(f"clone {flag:#x}", lambda flag=flag: _clone(flag))
    attempt("clone3", call("clone3", bytes(88), 88))
    for name in ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup"):
        attempt(f"enter process 1's {name}", lambda name=name: _enter(f"/proc/1/ns/{name}"))
    attempt("map ids", _map_ids)
    attempt("become an unmapped user", lambda: os.getuid() == 0 and _as_child(lambda: os.setuid(70000)))


def _clone(flag: int) -> object:
    pid = LIBC.syscall(CLONE[ARM], flag | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)
        return "made"
    return None


def _enter(path: str) -> object:
    descriptor = os.open(path, os.O_RDONLY)
    return call("setns", descriptor, 0)()


def _map_ids() -> object:
    with open("/proc/self/uid_map", "w") as file:
        file.write("0 0 1")
    return "mapped"


def _as_child(work: Callable[[], object]) -> object:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def device_nodes() -> None:
    for number, (major, minor) in enumerate(((1, 1), (1, 11), (254, 0), (8, 0), (10, 200))):
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            path, device = f"/tmp/node{number}{kind}", os.makedev(major, minor)
            attempt(f"make {kind:o} {major}:{minor}", lambda p=path, k=kind, d=device: _node(p, k, d))


def _node(path: str, kind: int, device: int) -> object:
    os.mknod(path, kind | 0o666, device)
    return f"{path} made"


def setuid() -> None:
    for name in ("su", "sudo", "passwd", "mount", "newgrp", "chsh", "pkexec", "ping"):
        path = f"/usr/bin/{name}"
        if os.path.exists(path) and os.stat(path).st_mode & stat.S_ISUID:
            attempt(f"suid mount flag for {name}", lambda path=path: not os.statvfs(path).f_flag & os.ST_NOSUID)
    for command in (["sudo", "-n", "id", "-u"], ["su", "-c", "id -u"]):
        attempt(" ".join(command), lambda command=command: _uid_of(command) == "0")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
        attempt(f"capabilities {name}", lambda name=name: int(status[name], 16))
    attempt("no no_new_privs", lambda: status["NoNewPrivs"].strip() != "1")


def _uid_of(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL, check=False)
    return done.stdout.strip()


def kill_the_daemon() -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with contextlib.suppress(PermissionError):
            os.kill(1, number)
    FOUND["control: it was tried"] = "yes"


def main() -> None:
    told = json.loads(sys.argv[1])
    with open("/tmp/control", "w") as file:
        file.write("x")
    attempt("control: files can be read", can_read("/tmp/control"))
    host_files(told["secrets"])
    other_sandboxes(told["marks"])
    network(told["ports"], told["abstract"])
    proc_writes()
    mounting()
    kernel_doors()
    namespaces()
    device_nodes()
    if not told["sudo"]:
        setuid()
    kill_the_daemon()
    print(json.dumps(FOUND))


main()
