"""A real `orchestrion sandbox serve`, E2B's real SDKs in an environment of their own, and our own provider for it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrion.core.errors import NotFound
from orchestrion.sandbox.e2b import E2BProvider

SDK = Path(__file__).parents[1] / ".venv" / "conformance" / "bin" / "python"
DEADLINE = 60

# What another user's directory keeps from us is as good as absent, of which `exists` makes an error.
needs_sdk = pytest.mark.skipif(not os.access(SDK, os.X_OK), reason="E2B's SDKs are not installed: make setup")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Endpoint:
    """`orchestrion sandbox serve` with a data directory of its own."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def data(self) -> Path:
        return self.home / "data"

    def start(self) -> None:
        """Return once it takes connections."""
        names = ("PATH", "TMPDIR", "SSL_CERT_FILE", "ORCHESTRION_SANDBOX_PYTHON")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        own = {"HOME": str(self.home), "ORCHESTRION_HOME": str(self.data), "LANG": "C.UTF-8", "SANDBOX_MODE": "local"}
        command = [str(Path(sys.executable).with_name("orchestrion")), "sandbox", "serve", "--port", str(self.port)]
        with (self.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**kept, **own, **self.settings}, text=True
            )
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("#"):
                return
            name, _, value = line.strip().partition("=")
            self.variables[name] = value
        pytest.fail(f"the endpoint ended before it was ready: {(self.home / 'serve.log').read_text()[-2000:]}")

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process
        self.process.kill()
        self.process.wait(DEADLINE)

    def sdk(self, code: str) -> str:
        """Run code with the SDKs; return what it prints."""
        done = subprocess.run(
            [SDK, "-c", textwrap.dedent(code)],
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.variables},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.variables["SSL_CERT_FILE"])

    def provider(self, kind: type[E2BProvider] = E2BProvider) -> E2BProvider:
        """Return our own client, which the caller closes."""
        return kind(self.variables["E2B_API_KEY"], self.variables["E2B_DOMAIN"], ssl_context=self.tls())

    async def remove_all(self) -> None:
        """End every sandbox."""
        provider = self.provider()
        for info in await provider.known():
            with suppress(NotFound):  # its time was over just now
                await provider.remove(info.id)
        await provider.aclose()


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Endpoint]:
    """Serve, and stop in the end."""
    endpoint = Endpoint(home, settings)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
