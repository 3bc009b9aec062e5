"""What a sandbox made with E2B's SDK may reach: through the gateway, as its maker and the machine's owner let it."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from endpoint_support import Endpoint, needs_sdk, serving
from orchestrion.server.e2b.certificates import Certificate, own_certificate

pytestmark = needs_sdk

ROOT = os.geteuid() == 0

# Not in NO_PROXY, unlike 127.0.0.1.
ADDRESS = "127.0.0.2"


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"hello from outside"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return own_certificate(tmp_path_factory.mktemp("outside"), [ADDRESS])


@pytest.fixture(scope="module")
def outside(certificate: Certificate) -> Iterator[str]:
    """An HTTPS server on an address of this machine; its address and port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.chain, certificate.key)
    server = ThreadingHTTPServer((ADDRESS, 0), Hello)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{ADDRESS}:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, outside: str) -> Iterator[Endpoint]:
    """An endpoint whose owner lets sandboxes reach that server."""
    with serving(tmp_path_factory.mktemp("endpoint"), ORCHESTRION_SANDBOX_EGRESS=outside) as made:
        yield made
        made.sdk("from e2b import Sandbox\nfor one in Sandbox.list().next_items(): Sandbox.kill(one.sandbox_id)")


def test_curl_and_python_get_out_as_far_as_the_rules_go(
    endpoint: Endpoint, outside: str, certificate: Certificate
) -> None:
    assert certificate.authority
    authority = Path(certificate.authority).read_text()
    printed = endpoint.sdk(
        f"""
        from e2b import CommandExitException
        from e2b_code_interpreter import Sandbox

        def asks(sandbox, user="user"):
            try:
                command = "curl -sS --max-time 20 --cacert ca.pem https://{outside}/"
                return sandbox.commands.run(command, user=user, cwd="/home/user").stdout
            except CommandExitException as error:
                return error.stderr

        with Sandbox.create(timeout=60, network={{"allow_out": ["{outside}"]}}) as sandbox:
            sandbox.files.write("/home/user/ca.pem", {authority!r})
            print(asks(sandbox))
            if {ROOT}:
                print(asks(sandbox, "root"))
                print(sandbox.commands.run("sudo curl -sS --cacert /home/user/ca.pem https://{outside}/").stdout)
            code = "import ssl, urllib.request as r; c = ssl.create_default_context(cafile='/home/user/ca.pem'); "
            code += "print(r.urlopen('https://{outside}/', context=c).read().decode())"
            print("".join(sandbox.run_code(code).logs.stdout).strip())
            sandbox.update_network({{"deny_out": ["0.0.0.0/0"]}})
            assert "403" in asks(sandbox), asks(sandbox)
            sandbox.update_network({{"allow_out": ["{outside}"]}})
            print(asks(sandbox))
        with Sandbox.create(timeout=60) as sandbox:
            sandbox.files.write("/home/user/ca.pem", {authority!r})
            assert "403" in asks(sandbox), asks(sandbox)
        with Sandbox.create(timeout=60, allow_internet_access=False) as sandbox:
            sandbox.files.write("/home/user/ca.pem", {authority!r})
            assert "403" in asks(sandbox), asks(sandbox)
        """
    )
    assert printed.splitlines() == ["hello from outside"] * (5 if ROOT else 3)


def test_the_variables_are_everywhere_and_give_way(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        from e2b_code_interpreter import Sandbox
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy")
        names += ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY")
        show = "echo " + " ".join(f"${name}" for name in names)
        with Sandbox.create(timeout=60, envs={"OPENAI_API_KEY": "mine"}) as sandbox:
            print(sandbox.commands.run(show).stdout, end="")
            print(sandbox.commands.run(show, user=ANYONE, envs={"ANTHROPIC_API_KEY": "now"}).stdout, end="")
            print("".join(sandbox.run_code("!" + show).logs.stdout), end="")
            print("".join(sandbox.run_code(show, language="bash").logs.stdout), end="")
            js = f"console.log({list(names)!r}.map(name => process.env[name]).join(' '))"
            print("".join(sandbox.run_code(js, language="js").logs.stdout), end="")
            said = []
            terminal = sandbox.pty.create(__import__("e2b").PtySize(rows=24, cols=400), timeout=20)
            sandbox.pty.send_stdin(terminal.pid, f"{show}; exit\\n".encode())
            terminal.wait(on_pty=said.append)
            print([line for line in b"".join(said).decode().splitlines() if line.startswith("http:")][0])
        """.replace("ANYONE", '"root"' if ROOT else '"user"')
    )
    gateway, local = "http://127.0.0.1:3128", "localhost,127.0.0.1,::1"
    line = f"{gateway} {gateway} {gateway} {gateway} {local} {local} {gateway} {gateway}/v1 {{}} mine"
    expected = [line.format("sandbox")] * 6
    expected[1] = line.format("now")
    assert printed.splitlines() == expected


@pytest.mark.skipif(not ROOT, reason="only root's sandboxes have more than one user")
def test_a_templates_user_and_directory_are_its_sandboxes(endpoint: Endpoint) -> None:
    printed = endpoint.sdk(
        """
        from e2b import Sandbox, Template
        template = (
            Template().from_ubuntu_image("22.04").set_user("root").run_cmd("useradd -m cook || adduser -D cook")
            .set_user("cook").set_workdir("/srv/kitchen").set_envs({"SALT": "yes"})
        )
        Template.build(template, alias="kitchen")
        look = "echo $(whoami) $PWD $HOME"
        with Sandbox.create("kitchen", timeout=60) as sandbox:
            print(sandbox.commands.run(look).stdout, end="")
            print(sandbox.commands.run(look, user="user", cwd="/tmp").stdout, end="")
            kept = sandbox.create_snapshot()
            with Sandbox.create(kept.snapshot_id, timeout=60) as again:
                print(again.commands.run(look).stdout, end="")
        """
    )
    assert printed.splitlines() == [
        "cook /srv/kitchen /home/cook",
        "user /tmp /home/user",
        "cook /srv/kitchen /home/cook",
    ]
