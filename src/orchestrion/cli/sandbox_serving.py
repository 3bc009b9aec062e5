"""`orchestrion sandbox serve`: start the endpoint and say how E2B's SDKs are pointed to it."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from orchestrion.core.errors import ConfigError
from orchestrion.core.settings import load_settings
from orchestrion.server.e2b.certificates import Certificate
from orchestrion.server.e2b.serving import Access, Address, serve


def serve_forever(domain: str, host: str, port: int, cert: Path | None, key: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        domain: Name that clients use, with the port if that is not 443.
        host: Address to listen on.
        port: Port to listen on.
        cert: The user's own certificate.
        key: Its private key.

    Raises:
        OrchestrionError: A setting is wrong, or the address can't be listened on.
    """
    if (cert is None) != (key is None):
        raise ConfigError("A certificate and its key come together.", "Give both --cert and --key, or neither.")
    own = Certificate(cert, key) if cert and key else None
    asyncio.run(serve(load_settings(), Address(domain, host, port, own), on_ready=_ready))


def _ready(access: Access) -> None:
    lines = [f"E2B_DOMAIN={access.domain}", f"E2B_API_KEY={access.key}"]
    certificate = access.certificate
    if certificate.bundle and certificate.authority:
        lines.append(f"SSL_CERT_FILE={shlex.quote(str(certificate.bundle))}")
        lines.append(f"NODE_EXTRA_CA_CERTS={shlex.quote(str(certificate.authority))}")
    lines.append(f"# without names, for clients that can be told a URL: E2B_API_URL={access.url}")
    lines.append(f"# E2B_SANDBOX_URL={access.url}")
    print("\n".join(lines), flush=True)
