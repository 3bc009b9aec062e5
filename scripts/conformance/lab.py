"""The lab: a network and mount namespace with a name server, our endpoint on port 443, and a little internet."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = "lab.test"
_MARK = "CONFORMANCE_LAB"
_START_SECONDS = 60
_SIOCSIFFLAGS, _UP_RUNNING = 0x8914, 0x41
_MS_BIND = 4096


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"[conformance] {text}", flush=True)


def inside() -> bool:
    """Say whether this process is in the lab."""
    return _MARK in os.environ


def enter(environment: dict[str, str]) -> int:
    """Run this program again inside the lab.

    Args:
        environment: Further variables.

    Returns:
        Its exit code.
    """
    if os.geteuid() != 0:
        sys.exit("[conformance] The lab needs a network of its own with ports 53 and 443: run this as root.")
    if shutil.which("unshare") is None:
        sys.exit("[conformance] `unshare` is missing: apt-get install -y util-linux")
    if shutil.which("sudo") is None:
        say("sudo is missing: the tests that use it inside sandboxes will fail")
    command = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-B", *sys.argv]
    return subprocess.run(command, env={**os.environ, **environment, _MARK: "1"}, check=False).returncode


@contextlib.contextmanager
def endpoint() -> Iterator[dict[str, str]]:
    """Serve, and yield the variables that point clients there."""
    _raise_loopback()
    import internet

    with (
        tempfile.TemporaryDirectory(prefix="orchestrion-lab-") as folder,
        _names(Path(folder), internet.NAMES),
        internet.played(Path(folder)),
    ):
        home = Path(folder) / "home"
        log = Path(folder) / "serve.log"
        try:
            with _server(home, log) as variables:
                yield variables
        finally:
            _remove_sandboxes(home)
            if os.environ.get("CONFORMANCE_LOG"):
                shutil.copy(log, os.environ["CONFORMANCE_LOG"])


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_RUNNING))


@contextlib.contextmanager
def _names(folder: Path, others: Mapping[str, str]) -> Iterator[None]:
    """Answer for *.lab.test and these others, and for nothing else."""
    from dnslib.server import DNSLogger, DNSServer  # type: ignore[import-untyped]

    server = DNSServer(_Resolver(others), address="127.0.0.1", port=53, logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:2\n")
    resolv.chmod(0o644)
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.path.realpath("/etc/resolv.conf").encode()
    if libc.mount(str(resolv).encode(), target, None, _MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), "resolv.conf can't be replaced in the lab")
    try:
        yield
    finally:
        server.stop()


class _Resolver:
    def __init__(self, others: Mapping[str, str]) -> None:
        self._others = others

    def resolve(self, request: Any, handler: Any) -> Any:
        from dnslib import QTYPE, RCODE, RR, A  # type: ignore[import-untyped]

        reply, name = request.reply(), str(request.q.qname).rstrip(".").lower()
        ours = name == DOMAIN or name.endswith(f".{DOMAIN}")
        address = "127.0.0.1" if ours else self._others.get(name)
        if address is None:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype in (QTYPE.A, QTYPE.ANY):
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=300))
        return reply


@contextlib.contextmanager
def _server(home: Path, log: Path) -> Iterator[dict[str, str]]:
    limits = {"ORCHESTRION_SANDBOX_MAX": "200", "ORCHESTRION_SANDBOX_MAX_PER_OWNER": "200"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("E2B_", "ORCHESTRION_"))}
    environment |= {"ORCHESTRION_HOME": str(home), "SANDBOX_MODE": "local", **limits}
    orchestrion = str(ROOT / ".venv" / "bin" / "orchestrion")
    command = [orchestrion, "sandbox", "serve", "--domain", DOMAIN, "--port", "443"]
    with log.open("wb") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
    try:
        yield _read_variables(server, log)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _read_variables(server: subprocess.Popen[str], log: Path) -> dict[str, str]:
    assert server.stdout
    variables: dict[str, str] = {}
    deadline = time.monotonic() + _START_SECONDS
    for line in server.stdout:
        if line.startswith("#"):
            return variables
        name, _, value = line.strip().partition("=")
        variables[name] = value
        if time.monotonic() > deadline:
            break
    sys.exit(f"[conformance] The endpoint did not start:\n{log.read_text()[-4000:]}")


def _remove_sandboxes(home: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from orchestrion.core.settings import Settings\n"
        "from orchestrion.sandbox import Sandboxes\n"
        "async def main():\n"
        "    sandboxes = Sandboxes(Settings(home=pathlib.Path(sys.argv[1])))\n"
        "    await sandboxes.close_all()\n"
        "    await sandboxes.aclose()\n"
        "asyncio.run(main())\n"
    )
    command = [str(ROOT / ".venv" / "bin" / "python"), "-c", code, str(home)]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env={**os.environ, "SANDBOX_MODE": "local"}, timeout=120, check=False)
