"""What the suites ask of the internet, played in a network namespace beside the lab's.

It has to be another namespace: the gateway lets no sandbox reach an address that is its own machine's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab import say

NAMES = {"connectivitycheck.gstatic.com": "142.250.1.94"}
_STATUS = {"1.1.1.1": 301, "8.8.8.8": 302, "142.250.1.94": 204}
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_HERE, _THERE = "192.0.2.1", "192.0.2.2"
_MS_BIND = 4096


@contextlib.contextmanager
def played(folder: Path) -> Iterator[None]:
    """Let the lab reach a few addresses that answer over HTTPS, and believe their certificates.

    Args:
        folder: For the certificates.
    """
    if shutil.which("ip") is None or not Path(_AUTHORITIES).exists():
        say("`ip` or the public authorities are missing: apt-get install -y iproute2 ca-certificates")
        say("the tests that ask the internet will fail")
        yield
        return
    certificates = _certify(folder)
    command = ["unshare", "--net", sys.executable, "-B", __file__, *certificates]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdout.readline()
            _connect(process.pid)
            process.stdin.write("connected\n")
            process.stdin.flush()
            process.stdout.readline()
            yield
        finally:
            process.kill()


def _certify(folder: Path) -> tuple[str, str]:
    """Make a certificate for all of it, and let the lab's list of authorities cover it: sandboxes copy that."""
    from orchestrion.server.e2b.certificates import own_certificate

    made = own_certificate(folder / "internet", [*NAMES, *_STATUS])
    assert made.bundle
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(str(made.bundle).encode(), os.path.realpath(_AUTHORITIES).encode(), None, _MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), "the list of authorities can't be replaced in the lab")
    return str(made.chain), str(made.key)


def _connect(pid: int) -> None:
    """Join the lab to the process's namespace by a cable of two network cards; all that is not local goes there."""
    _ip(f"link add lab type veth peer name net netns {pid}")
    _ip(f"address add {_HERE}/24 dev lab")
    _ip("link set lab up")
    _ip(f"route add default via {_THERE}")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        address = self.connection.getsockname()[0]
        self.send_response(_STATUS[address])
        if _STATUS[address] != 204:
            self.send_header("Location", f"https://{address}/elsewhere")
            self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def _serve(chain: str, key: str) -> None:
    """In the namespace: take the other end of the cable, own the addresses, and answer on them until killed."""
    print("ready", flush=True)
    sys.stdin.readline()
    _ip(f"address add {_THERE}/24 dev net")
    for card in ("net", "lo"):
        _ip(f"link set {card} up")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    for address in _STATUS:
        _ip(f"address add {address}/32 dev lo")
        server = ThreadingHTTPServer((address, 443), _Answers)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("serving", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
