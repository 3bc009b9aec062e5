"""`serve`: one uvicorn server in this process, from the checked address to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from orchestrion.core.errors import ConfigError, OrchestrionError
from orchestrion.core.settings import Settings
from orchestrion.runtime import Runtime
from orchestrion.server.app import create_app
from orchestrion.server.listening import bind, url_of
from orchestrion.server.security import is_loopback
from orchestrion.server.services import Services

log = structlog.get_logger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS = 3
_CLOSE_SECONDS = 15.0


def check_address(settings: Settings) -> None:
    """Refuse to be reachable from other machines without keys.

    Raises:
        ConfigError: The host is no loopback address and no key is set.
    """
    if settings.api_keys or is_loopback(settings.host):
        return
    raise ConfigError(
        f"Without keys Orchestrion listens on this machine alone, not on {settings.host}.",
        "Set ORCHESTRION_API_KEYS, or listen on 127.0.0.1.",
    )


class _Stop:
    """SIGTERM and the first Ctrl-C ask for an orderly end; a second one, or taking too long, forces it."""

    def __init__(self) -> None:
        self.asked = False
        self.server: _Server | None = None
        self._deadline = threading.Timer(_CLOSE_SECONDS, self._give_up)
        self._deadline.daemon = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
        self._deadline.start()
        if self.server is not None:
            self.server.should_exit = True

    def finished(self) -> None:
        """The end was orderly."""
        self._deadline.cancel()

    @staticmethod
    def _give_up() -> None:
        log.error("the server did not end in time and is ended now", seconds=_CLOSE_SECONDS)
        os._exit(1)


class _Server(uvicorn.Server):
    """uvicorn's server, told what to do when it accepts and when it stops; signals are `serve`'s business."""

    def __init__(self, app: FastAPI, stop: _Stop, on_ready: Callable[[], None]) -> None:
        super().__init__(_config(app))
        self._services: Services = app.state.services
        self._on_ready = on_ready
        self.should_exit = stop.asked
        stop.server = self

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.stopping.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _signals(stop: _Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_news(record: logging.LogRecord) -> bool:
    """Uvicorn takes a WebSocket refused with a problem document for a mistake of ours, and says so each time."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _config(app: FastAPI) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ws_max_size=2**20,
    )


async def _warm(runtime: Runtime) -> None:
    """Prepare the first answer while nobody waits for it; what is wrong is `/readyz`'s to say."""
    try:
        await runtime.warm()
    except OrchestrionError as error:
        log.warning("the first answer could not be prepared", detail=str(error))


async def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Streams are ended and runs handed back, so that another process, or this one started again, goes on with them.

    Args:
        settings: With the address; port 0 takes any that is free.
        on_ready: Called once, with the server's URL, when it accepts connections.

    Raises:
        ConfigError: The address may not be used without keys, or is none of this machine's.
        Conflict: The port is in use.
    """
    check_address(settings)
    stop = _Stop()
    with bind(settings.host, settings.port) as listener, _signals(stop):
        url = url_of(listener, settings.host)
        async with Runtime(settings, adopt=True) as runtime:
            server = _Server(create_app(runtime), stop, lambda: on_ready(url))
            warming = asyncio.create_task(_warm(runtime))
            await server.serve(sockets=[listener])
            warming.cancel()
    stop.finished()
