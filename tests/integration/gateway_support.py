"""A gateway on a real unix socket, real servers behind it, and names that lead where a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrion.core.events import EventBase, SandboxEgress
from orchestrion.sandbox.gateway import Gateway, GatewayLimits, Grant, ModelDoor
from orchestrion.sandbox.protocols import Network

ID = "abcdefghij0123456789"
Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Journal:
    """Takes events as a run's journal does."""

    events: list[EventBase] = field(default_factory=list)

    async def emit(self, event: EventBase) -> None:
        self.events.append(event)

    def egress(self, verdict: str) -> list[SandboxEgress]:
        return [event for event in self.events if isinstance(event, SandboxEgress) and event.verdict == verdict]

    async def until(self, verdict: str) -> list[SandboxEgress]:
        """Wait for such an event: the client may hear of it sooner than the journal."""
        async with asyncio.timeout(10):
            while not (found := self.egress(verdict)):
                await asyncio.sleep(0.01)
        return found


class Names:
    """A resolver that answers as it is told, and remembers what it was asked."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = {name.replace("_", "."): addresses for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such host")
        return self.answers[host]


@dataclass
class Served:
    """A gateway with one sandbox's socket."""

    gateway: Gateway
    path: Path
    journal: Journal
    grant: Grant

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def ask(self, request: str | bytes) -> bytes:
        """Send bytes and return all that comes back."""
        reader, writer = await self.connect()
        writer.write(request.encode() if isinstance(request, str) else request)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, url: str) -> bytes:
        return await self.ask(f"GET {url} HTTP/1.1\r\nHost: ignored\r\nConnection: close\r\n\r\n")

    async def tunnel(self, target: str) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask for a tunnel; return the answer's head and the connection."""
        reader, writer = await self.connect()
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            return await reader.readuntil(b"\r\n\r\n"), reader, writer


@asynccontextmanager
async def serving(
    directory: Path,
    network: Network,
    *,
    operator: tuple[str, ...] = (),
    names: Names | None = None,
    models: ModelDoor | None = None,
    limits: GatewayLimits | None = None,
) -> AsyncIterator[Served]:
    """A gateway that serves one sandbox, under a run's grant."""
    gateway = Gateway(operator, resolve=names or Names(), limits=limits)
    journal = Journal()
    grant = Grant("run_1", journal.emit, models)
    path = directory / "run" / "gateway.sock"
    try:
        await gateway.open(ID, path, network)
        gateway.grant(ID, grant)
        yield Served(gateway, path, journal, grant)
    finally:
        await gateway.aclose()


async def echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's own head and body."""
    length = next(
        (int(line[15:]) for line in head.decode().split("\r\n") if line.lower().startswith("content-length")), 0
    )
    body = head + await reader.readexactly(length)
    writer.write(b"HTTP/1.1 200 OK\r\nKeep-Alive: x\r\nX-Own: 1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


def here(*hosts: str, port: int, deny: tuple[str, ...] = ()) -> tuple[Network, tuple[str, ...]]:
    """A network that may reach these names at a port of this machine, and the operator's word for that."""
    operator = (f"127.0.0.1:{port}",)
    return Network(allow=(*(f"{host}:{port}" for host in hosts), *operator), deny=deny), operator


@asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that gives each request's head to `handler`; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def certificate(directory: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for these names, and the file with its certificate for clients to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = directory / "certificate.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = directory / "key.pem"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context, chain
