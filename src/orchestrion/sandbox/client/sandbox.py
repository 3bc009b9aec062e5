"""A living sandbox, as its host sees it, whoever provides it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime

from orchestrion.core.errors import InvalidInput, OrchestrionError, SandboxError, SandboxGone
from orchestrion.sandbox.client import code as cells
from orchestrion.sandbox.client import commands
from orchestrion.sandbox.client.failures import gone
from orchestrion.sandbox.client.files import GuestFiles
from orchestrion.sandbox.client.guest import Guest
from orchestrion.sandbox.client.processes import GuestProcesses
from orchestrion.sandbox.client.transport import Transport
from orchestrion.sandbox.client.wire import message_of, real_of, whole_of
from orchestrion.sandbox.protocols import (
    ENVD_PORT,
    CodeResult,
    CommandResult,
    Context,
    Files,
    Language,
    Metrics,
    OnOutput,
    PortAddress,
    Processes,
)

_HEALTH_SECONDS = 3
_PORTS = range(1, 65536)


class GuestSandbox:
    """Implements `Sandbox`.

    Args:
        sandbox_id: Its identifier.
        provider: The name of its provider.
        transport: The way to the daemon inside, for this life of the sandbox.
        access_token: What the daemon demands; empty for nothing.
        default_cwd: Where commands and processes start.
        on_close: Ends the sandbox as a whole; called once.
        alive: Whether it may still live, as far as the host knows without asking it.
        on_trouble: Ends its processes when they don't heed us any more, and keeps its files; by default `on_close`.
    """

    def __init__(
        self,
        sandbox_id: str,
        provider: str,
        transport: Transport,
        *,
        access_token: str,
        default_cwd: str,
        on_close: Callable[[], Awaitable[None]],
        alive: Callable[[], bool] | None = None,
        on_trouble: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._id = sandbox_id
        self._provider = provider
        self._transport = transport
        self._token = access_token
        self._cwd = default_cwd
        self._on_close = on_close
        self._alive = alive
        self._on_trouble = on_trouble or on_close
        self._closed = False
        self._settling: set[asyncio.Task[None]] = set()
        self._guest = Guest(transport, access_token, self._ready)
        self._files = GuestFiles(self._guest)
        self._processes = GuestProcesses(self._guest, default_cwd)

    @property
    def id(self) -> str:
        """Its identifier."""
        return self._id

    @property
    def provider(self) -> str:
        """The name of its provider."""
        return self._provider

    @property
    def access_token(self) -> str:
        """What envd inside demands as `X-Access-Token`."""
        return self._token

    @property
    def files(self) -> Files:
        """Its file system."""
        return self._files

    @property
    def processes(self) -> Processes:
        """Its processes."""
        return self._processes

    async def run_code(
        self,
        code: str,
        *,
        language: Language = "python",
        context: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        on_output: OnOutput | None = None,
    ) -> CodeResult:
        """Run a cell in a live interpreter; see `Sandbox.run_code`."""
        _check_timeout(timeout)
        async with self._settled():
            return await cells.run(
                self._guest,
                code,
                language=language,
                context=context,
                env=env or {},
                timeout=timeout,
                on_output=on_output,
            )

    async def make_context(self, language: Language = "python", cwd: str = "/home/user") -> Context:
        """Start a further interpreter."""
        return await cells.make_context(self._guest, language, cwd)

    async def contexts(self) -> list[Context]:
        """Return the live interpreters."""
        return await cells.contexts(self._guest)

    async def restart_context(self, context: str) -> None:
        """Start an interpreter anew; its variables are gone."""
        await cells.restart_context(self._guest, context)

    async def remove_context(self, context: str) -> None:
        """End an interpreter."""
        await cells.remove_context(self._guest, context)

    async def run_command(
        self,
        command: str,
        *,
        timeout: float = 120,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        on_output: OnOutput | None = None,
    ) -> CommandResult:
        """Run a shell command to its end; see `Sandbox.run_command`."""
        _check_timeout(timeout)
        mark = None if await self._guest.ours() else commands.new_mark()
        order = commands.Command(command, cwd or self._cwd, env or {}, user, timeout, mark)
        async with self._settled(mark):
            result = await order.run(self._guest, on_output)
        if mark and result.timed_out:
            await self._soon(self._settle(mark))
        return result

    def port(self, port: int) -> PortAddress:
        """Say how a TCP port inside is reached."""
        if port not in _PORTS:
            raise InvalidInput(f"{port} is not a port.", "Ports are from 1 to 65535.")
        return self._transport.address(port)

    async def metrics(self) -> Metrics:
        """Say what it uses now."""
        sample = message_of(await self._guest.fetch(ENVD_PORT, "GET", "/metrics"))
        return Metrics(
            at=datetime.fromtimestamp(min(whole_of(sample, "ts"), 2**36), UTC),
            cpu_count=whole_of(sample, "cpu_count"),
            cpu_percent=real_of(sample, "cpu_used_pct"),
            memory_used=whole_of(sample, "mem_used"),
            memory_total=whole_of(sample, "mem_total"),
            disk_used=whole_of(sample, "disk_used"),
            disk_total=whole_of(sample, "disk_total"),
        )

    async def ping(self, within: float = 1) -> bool:
        """Say whether it is alive and answers, in `within` seconds."""
        try:
            await self._guest.fetch(ENVD_PORT, "GET", "/health", seconds=within)
        except OrchestrionError:
            return False
        return True

    async def close(self) -> None:
        """End it and every process in it. Never raises; may be called twice."""
        await self._end(self._on_close)

    async def _end(self, how: Callable[[], Awaitable[None]]) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            await how()
        await self._transport.aclose()

    def _ready(self) -> None:
        if self._closed or (self._alive is not None and not self._alive()):
            raise gone()

    @contextlib.asynccontextmanager
    async def _settled(self, mark: str | None = None) -> AsyncIterator[None]:
        """See to it that, however a call ends here, nothing that it started goes on there."""
        try:
            yield
        except SandboxGone:
            # Our own daemon never breaks off unless it dies. Elsewhere the network may have failed for a moment.
            await self._soon(self._end(self._on_trouble) if self._transport.ours else self._settle(mark))
            if self._closed:
                raise
            raise SandboxError("The connection to the sandbox broke in the middle of a call.", "Try again.") from None
        except BaseException:
            await self._soon(self._settle(mark))
            raise

    async def _settle(self, mark: str | None) -> None:
        """End what a call that is broken off has started; a sandbox that doesn't do that is ended as a whole.

        Our own daemon does it as the connection closes, so it is only asked whether it is well. To a foreign one the
        order is given.
        """
        if not await (commands.reap(self._guest, mark) if mark else self.ping(_HEALTH_SECONDS)):
            await self._end(self._on_trouble)

    async def _soon(self, work: Awaitable[None]) -> None:
        """Carry something out to its end, even if the caller is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)


def _check_timeout(timeout: float) -> None:
    if not timeout > 0:
        raise InvalidInput("A time limit must be more than 0 seconds.")
