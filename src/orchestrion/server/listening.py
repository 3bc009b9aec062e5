"""The listening socket, and the address that it is told by."""

from __future__ import annotations

import errno
import socket

from orchestrion.core.errors import ConfigError, Conflict, OrchestrionError

_BACKLOG = 2048


def _explain(error: OSError, host: str, port: int) -> OrchestrionError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {port} on {host} is already in use.", "Stop what listens there, or choose another with --port."
        )
    if error.errno == errno.EACCES:
        return Conflict(f"Port {port} may not be used by this user.", "Choose one above 1023 with --port.")
    return ConfigError(
        f"Orchestrion can't listen on {host}:{port}: {error.strerror}.", "Choose an address of this machine."
    )


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        Conflict: The port is in use, or not for this user.
        ConfigError: The host is no address of this machine.
    """
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        listener = socket.create_server((name, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _explain(error, host, port) from None
    # Accepted connections inherit this. asyncio does not set it for them, as it can't tell their protocol; without it
    # a small write waits some 40 ms for the acknowledgement of the one before.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """Return the address under which a browser on this machine finds the server."""
    port = listener.getsockname()[1]
    name = host.strip("[]")
    if name in {"0.0.0.0", "::"}:  # noqa: S104  (compared, not bound)
        name = "localhost"
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
