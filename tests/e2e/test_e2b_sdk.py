"""E2B's real SDKs, in an environment of their own, against a real `orchestrion sandbox serve`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from endpoint_support import DEADLINE, Endpoint, needs_sdk

pytestmark = needs_sdk


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    made = Endpoint(tmp_path_factory.mktemp("e2b"))
    made.start()
    yield made
    made.sdk("from e2b import Sandbox\nfor one in Sandbox.list().next_items(): Sandbox.kill(one.sandbox_id)")
    assert made.stop() == 0


def test_what_is_printed_is_what_an_sdk_needs(endpoint: Endpoint) -> None:
    assert endpoint.variables["E2B_DOMAIN"] == f"sbx.localhost:{endpoint.port}"
    assert len(endpoint.variables["E2B_API_KEY"]) == 44
    assert Path(endpoint.variables["NODE_EXTRA_CA_CERTS"]).stat().st_size
    assert Path(endpoint.variables["SSL_CERT_FILE"]).stat().st_size


def test_commands_files_watching_and_a_terminal(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        import time
        from e2b import PtySize, Sandbox
        with Sandbox.create(timeout=60, metadata={"kind": "a b&c"}, envs={"COLOUR": "blue"}) as sandbox:
            seen = []
            sandbox.commands.run("echo one; sleep 0.3; echo $COLOUR", on_stdout=seen.append)
            assert "".join(seen) == "one\\nblue\\n", seen
            watch = sandbox.files.watch_dir("/home/user")
            sandbox.files.write("notes.txt", "hello")
            assert sandbox.files.read("notes.txt") == "hello"
            assert sandbox.files.exists("/home/user/notes.txt")
            assert any(event.name == "notes.txt" for event in watch.get_new_events())
            big = bytes(range(256)) * 8192
            sandbox.files.write("big.bin", big)
            assert sandbox.files.read("big.bin", format="bytes") == big
            said = []
            terminal = sandbox.pty.create(PtySize(rows=24, cols=80), timeout=20)
            sandbox.pty.send_stdin(terminal.pid, b"echo $((6*7)); exit\\n")
            terminal.wait(on_pty=said.append)
            assert b"42" in b"".join(said), said
            [found] = Sandbox.list(query=__import__("e2b").SandboxQuery(metadata={"kind": "a b&c"})).next_items()
            assert found.sandbox_id == sandbox.sandbox_id
        print("done")
        """
    )
    assert printed == "done"


def test_root_is_there_or_refused_in_one_sentence(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        from e2b import Sandbox, SandboxException
        with Sandbox.create(timeout=60) as sandbox:
            try:
                print(sandbox.commands.run("whoami", user="root").stdout)
            except SandboxException as error:
                print(error)
        """
    )
    assert printed == "root" if os.geteuid() == 0 else "There is no root in this sandbox" in printed


def test_code_runs_in_live_contexts(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        from e2b_code_interpreter import Sandbox
        with Sandbox.create(timeout=60) as sandbox:
            sandbox.run_code("x = 20")
            print(sandbox.run_code("print('hi'); x + 1").text)
            print(sandbox.run_code("1/0").error.name)
            print(sandbox.run_code("echo $((1+1))", language="bash").logs.stdout)
        """
    )
    assert printed.splitlines()[:2] == ["21", "ZeroDivisionError"]
    assert "2" in printed.splitlines()[2]


def test_a_pause_keeps_what_runs_and_a_kill_ends_it(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        from e2b import Sandbox, NotFoundException
        sandbox = Sandbox.create(timeout=60)
        process = sandbox.commands.run("sleep 60", background=True)
        sandbox.pause()
        assert not sandbox.is_running()
        again = Sandbox.connect(sandbox.sandbox_id)
        assert any(one.pid == process.pid for one in again.commands.list())
        assert again.kill()
        assert not Sandbox.kill(sandbox.sandbox_id)
        try:
            Sandbox.connect(sandbox.sandbox_id)
        except NotFoundException:
            print("gone")
        """
    )
    assert printed == "gone"


def test_another_key_sees_nothing_and_a_wrong_one_is_refused(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        from e2b import AuthenticationException, Sandbox
        try:
            Sandbox.list(api_key="e2b_" + "0" * 40).next_items()
        except AuthenticationException:
            print("refused")
        """
    )
    assert printed == "refused"


def make_sandbox(endpoint: Endpoint, *, public: bool = True) -> tuple[str, str]:
    """Make a sandbox in which a bare WebSocket echo server listens on port 8090; return its id and traffic token."""
    return tuple(  # type: ignore[return-value]
        endpoint.sdk(
            f"""
            from e2b import Sandbox
            sandbox = Sandbox.create(timeout=120, network={{"allow_public_traffic": {public}}})
            sandbox.files.write("/home/user/echo.py", {ECHO!r})
            sandbox.commands.run("python3 /home/user/echo.py", background=True)
            probe = "(echo > /dev/tcp/127.0.0.1/8090) 2>/dev/null"
            sandbox.commands.run(f"for i in $(seq 100); do {{probe}} && break; sleep 0.1; done")
            print(sandbox.sandbox_id, sandbox.traffic_access_token or "none")
            """
        ).split()
    )


# The handshake and single frames, with nothing but the standard library.
ECHO = """
import base64, hashlib, socketserver, struct

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        head = b""
        while not head.endswith(b"\\r\\n\\r\\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        fields = dict(l.split(b": ", 1) for l in head.split(b"\\r\\n")[1:-2])
        fields = {name.lower(): value for name, value in fields.items()}
        if b"sec-websocket-key" not in fields:
            body = b"plain " + fields[b"host"]
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(body), body))
            return
        guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + guid).digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                         b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
        while True:
            first = self.rfile.read(2)
            if len(first) < 2 or first[0] & 15 == 8:
                return
            size = first[1] & 127
            if size == 126:
                size = struct.unpack("!H", self.rfile.read(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self.rfile.read(8))[0]
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))
            head = struct.pack("!BB", 0x82, size) if size < 126 else struct.pack("!BBH", 0x82, 126, size)
            self.wfile.write(head + data)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

Server(("127.0.0.1", 8090), Echo).serve_forever()
"""


def open_socket(endpoint: Endpoint, sandbox_id: str, port: int = 8090, **headers: str) -> connect:
    name = f"{port}-{sandbox_id}.sbx.localhost"
    return connect(
        f"wss://{name}:{endpoint.port}/chat",
        host="127.0.0.1",
        port=endpoint.port,
        ssl=endpoint.tls(),
        server_hostname=name,
        additional_headers=headers,
        proxy=None,
        compression=None,
    )


async def test_a_websocket_passes_through_the_edge(endpoint: Endpoint) -> None:
    sandbox_id, _ = make_sandbox(endpoint)
    async with asyncio.timeout(DEADLINE), open_socket(endpoint, sandbox_id) as one:
        for message in (b"hello", b"x" * 60_000):
            await one.send(message)
            assert await one.recv() == message


async def test_a_websocket_without_a_listener_or_a_sandbox_is_refused(endpoint: Endpoint) -> None:
    sandbox_id, _ = make_sandbox(endpoint)
    for name, port in ((sandbox_id, 9), ("a" * 20, 8090)):
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(endpoint, name, port):
                pass
        assert refused.value.response.status_code == 502


async def test_a_private_sandbox_wants_its_token(endpoint: Endpoint) -> None:
    sandbox_id, token = make_sandbox(endpoint, public=False)
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(endpoint, sandbox_id):
            pass
    assert refused.value.response.status_code == 403
    async with open_socket(endpoint, sandbox_id, **{"e2b-traffic-access-token": token}) as one:
        await one.send(b"in")
        assert await one.recv() == b"in"


async def test_the_hosts_own_routes_are_shut(endpoint: Endpoint) -> None:
    sandbox_id, _ = make_sandbox(endpoint)
    for path in ("/init", "/freeze", "//init", "/%69nit"):
        status = await asyncio.to_thread(post, endpoint, f"49983-{sandbox_id}.sbx.localhost", path)
        assert status in {401, 404}, path


def post(endpoint: Endpoint, host: str, path: str) -> int:
    """Send a request as it stands, with the name that the edge goes by."""
    plain = socket.create_connection(("127.0.0.1", endpoint.port), timeout=DEADLINE)
    with endpoint.tls().wrap_socket(plain, server_hostname=host) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        return int(wire.recv(65536).split(b" ")[1])


def test_sandboxes_are_found_again_after_a_restart(endpoint: Endpoint) -> None:
    sandbox_id = endpoint.sdk(
        "from e2b import Sandbox\ns = Sandbox.create(timeout=120)\ns.files.write('kept', 'yes')\nprint(s.sandbox_id)"
    )
    before = dict(endpoint.variables)
    assert endpoint.stop() == 0
    endpoint.start()
    assert endpoint.variables == before
    code = f"from e2b import Sandbox\nprint(Sandbox.connect({sandbox_id!r}).files.read('kept'))"
    assert endpoint.sdk(code) == "yes"
