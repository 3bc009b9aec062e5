"""`orchestrion sandbox serve`: TLS, keys, one uvicorn server, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog
import uvicorn

from orchestrion.core.errors import ConfigError
from orchestrion.core.settings import Settings
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.server.e2b.app import Endpoint
from orchestrion.server.e2b.certificates import Certificate, own_certificate
from orchestrion.server.e2b.keys import Keys
from orchestrion.server.e2b.targets import Domain
from orchestrion.server.edge.answer import IDLE_SECONDS
from orchestrion.server.listening import bind

log = structlog.get_logger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RENEWAL_SECONDS = 12 * 3600
_GRACE_SECONDS = 1


@dataclass(frozen=True)
class Address:
    """Where to serve.

    Attributes:
        domain: As clients are told it in `E2B_DOMAIN`.
        host: Address to listen on.
        port: Port to listen on.
        certificate: The user's own; None for one that we make.
    """

    domain: str
    host: str
    port: int
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Access:
    """What a client needs.

    Attributes:
        domain: For `E2B_DOMAIN`.
        key: For `E2B_API_KEY`.
        certificate: What to trust.
        url: Where control plane and sandboxes are reached without names, for clients that can be told a URL.
    """

    domain: str
    key: str
    certificate: Certificate
    url: str


async def serve(settings: Settings, address: Address, *, on_ready: Callable[[Access], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; sandboxes live on and are found again.

    Args:
        settings: Of sandboxes, keys and the data directory.
        address: Where.
        on_ready: Called once connections are accepted.

    Raises:
        ConfigError: The address is none of this machine's, or certificate and key don't fit.
        Conflict: The port is in use.
    """
    domain = Domain(address.domain)
    folder = settings.home / "e2b"
    keys = await asyncio.to_thread(Keys, folder, [key.get_secret_value() for key in settings.api_keys])
    certificate = await asyncio.to_thread(_certificate, address, folder)
    context = _context(certificate)
    with bind(address.host, address.port) as listener:
        async with Sandboxes(settings) as sandboxes:
            endpoint = Endpoint(settings, sandboxes, keys, domain)
            access = Access(domain.name, keys.own, certificate, f"https://localhost:{address.port}")
            server = _Server(endpoint, context, lambda: on_ready(access))
            renewal = asyncio.create_task(_renew(address, folder, context))
            try:
                async with endpoint.running():
                    with _signals(server):
                        await server.serve(sockets=[listener])
            finally:
                renewal.cancel()


def _names(address: Address) -> list[str]:
    host = Domain(address.domain).host
    names = [host, f"*.{host}", "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(names))


def _certificate(address: Address, folder: Path) -> Certificate:
    return address.certificate or own_certificate(folder, _names(address))


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate.chain, certificate.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate {certificate.chain} can't be used with the key {certificate.key}: {error}.",
            "Give a PEM file of the whole chain with --cert, and its key with --key.",
        ) from None
    return context


async def _renew(address: Address, folder: Path, context: ssl.SSLContext) -> None:
    """Look twice a day whether there is a newer certificate; connections from then on get it."""
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        try:
            certificate = await asyncio.to_thread(_certificate, address, folder)
            context.load_cert_chain(certificate.chain, certificate.key)
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate could not be renewed", detail=str(error))


class _Server(uvicorn.Server):
    """uvicorn's server, with our TLS and our way to stop."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            cast(Any, endpoint),
            http="httptools",
            ws=cast(Any, endpoint.upgrades.protocol),
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        config.load()
        config.ssl = context
        super().__init__(config)
        self._endpoint = endpoint
        self._on_ready = on_ready
        logging.getLogger("uvicorn.error").addFilter(_is_news)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: Any = None) -> None:
        self._endpoint.let_go()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """An answer that a sandbox breaks off is broken off for its reader too, which is what uvicorn complains of."""
    return "without completing response" not in record.getMessage()


@contextlib.contextmanager
def _signals(server: _Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
