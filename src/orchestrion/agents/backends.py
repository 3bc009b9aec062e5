"""Deep Agents on our sandboxes: `SandboxBackendProtocol` for any provider, and the routes beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TypeAlias, TypeVar

from deepagents.backends import CompositeBackend, FilesystemBackend
from deepagents.backends.protocol import (
    BackendProtocol,
    ExecuteResponse,
    FileDownloadResponse,
    FileUploadResponse,
)
from deepagents.backends.sandbox import BaseSandbox

from orchestrion.core.errors import InvalidInput, NotFound, SandboxError, SandboxGone, TooLarge
from orchestrion.sandbox.protocols import OnOutput, Output, Sandbox

MEMORIES, SKILLS = "/memories/", "/skills/"
ARTIFACTS = "/home/user/.deepagents"

_OUTPUT = 8 * 1024 * 1024
_FILE = 256 * 1024 * 1024
_TIMEOUT = 300
_AT_ONCE = 8

_T = TypeVar("_T")
Acquire: TypeAlias = Callable[[], Awaitable[Sandbox]]


class SandboxBackend(BaseSandbox):
    """A sandbox as Deep Agents want it.

    The asynchronous methods are the real ones. The synchronous ones hand their work to the event loop that the
    sandbox belongs to and wait; called on that very loop they would wait for themselves, so there they are refused.

    Args:
        acquire: Returns the sandbox; called anew each time, so that the first tool call makes it and a lost one is
            replaced.
        sandbox_id: What names the backend before a sandbox exists.
        timeout: Seconds for a command that sets none itself.
        on_output: Called with a command's output as it comes.
        loop: The event loop that the sandbox belongs to; by default the running one.
    """

    enable_capture_offload = False  # it would keep a command's output in a file inside: nothing could be streamed

    def __init__(
        self,
        acquire: Acquire,
        *,
        sandbox_id: str = "sandbox",
        timeout: float = _TIMEOUT,
        on_output: OnOutput | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._acquire = acquire
        self._id = sandbox_id
        self._timeout = timeout
        self._on_output = on_output
        self._loop = loop or asyncio.get_running_loop()

    @property
    def id(self) -> str:
        """The sandbox's identifier, once there is one."""
        return self._id

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a shell command to its end.

        Args:
            command: For `sh -c`.
            timeout: Seconds; 0 for none beyond a day.
        """
        return await self._here(self._execute(command, timeout, self._on_output))

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a shell command to its end, from a thread without an event loop."""
        return self._wait(self._execute(command, timeout, self._on_output))

    async def astream(
        self, command: str, *, timeout: int | None = None
    ) -> AsyncGenerator[Output | ExecuteResponse, None]:
        """Run a shell command, on the sandbox's own loop; yield its output as it comes and, last, how it ended."""
        queue: asyncio.Queue[Output | ExecuteResponse] = asyncio.Queue(maxsize=64)
        work = asyncio.create_task(self._execute(command, timeout, queue.put))
        try:
            while not work.done() or not queue.empty():
                piece = asyncio.create_task(queue.get())
                await asyncio.wait({piece, work}, return_when=asyncio.FIRST_COMPLETED)
                if piece.done():
                    yield piece.result()
                else:
                    piece.cancel()
            yield await work
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files; the answers are in the order of the files."""
        return await self._here(self._each([self._upload(path, data) for path, data in files]))

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files, from a thread without an event loop."""
        return self._wait(self._each([self._upload(path, data) for path, data in files]))

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files; the answers are in the order of the paths."""
        return await self._here(self._each([self._download(path) for path in paths]))

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files, from a thread without an event loop."""
        return self._wait(self._each([self._download(path) for path in paths]))

    async def _sandbox(self) -> Sandbox:
        sandbox = await self._acquire()
        self._id = sandbox.id
        return sandbox

    async def _execute(self, command: str, timeout: int | None, on_output: OnOutput | None) -> ExecuteResponse:
        sandbox, kept = await self._sandbox(), _Combined(on_output)
        seconds = self._timeout if timeout is None else timeout or 86_400
        result = await sandbox.run_command(command, timeout=seconds, on_output=kept.take)
        if result.timed_out:
            kept.add(f"\n[the time limit of {seconds:g} s ended this command and everything it had started]")
        return ExecuteResponse(output=kept.text(), exit_code=result.exit_code, truncated=kept.cut)

    async def _upload(self, path: str, data: bytes) -> FileUploadResponse:
        if not path.startswith("/"):
            return FileUploadResponse(path=path, error="invalid_path")
        try:
            await (await self._sandbox()).files.write(path, data)
        except (NotFound, InvalidInput, SandboxError) as error:
            return FileUploadResponse(path=path, error=_code(error))
        return FileUploadResponse(path=path)

    async def _download(self, path: str) -> FileDownloadResponse:
        if not path.startswith("/"):
            return FileDownloadResponse(path=path, error="invalid_path")
        try:
            data = await (await self._sandbox()).files.read_bytes(path, limit=_FILE)
        except (NotFound, InvalidInput, SandboxError, TooLarge) as error:
            return FileDownloadResponse(path=path, error=_code(error))
        return FileDownloadResponse(path=path, content=data)

    async def _each(self, work: list[Coroutine[object, object, _T]]) -> list[_T]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(part: Coroutine[object, object, _T]) -> _T:
            async with gate:
                return await part

        return list(await asyncio.gather(*(one(part) for part in work)))

    async def _here(self, work: Coroutine[object, object, _T]) -> _T:
        """Await work on the sandbox's own loop, whichever runs now."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _wait(self, work: Coroutine[object, object, _T]) -> _T:
        if _running_loop() is self._loop:
            work.close()
            raise RuntimeError(
                "this is the sandbox's own event loop: use the asynchronous method (its name begins with a)"
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Combined:
    """A command's stdout and stderr in the order they came, to a bound."""

    def __init__(self, on_output: OnOutput | None) -> None:
        self._on_output = on_output
        self._parts: list[str] = []
        self._size = 0
        self.cut = False

    async def take(self, output: Output) -> None:
        """Keep a piece and pass it on."""
        self.add(output.text)
        if self._on_output is not None:
            await self._on_output(output)

    def add(self, text: str) -> None:
        """Keep a piece, as far as there is room."""
        room = _OUTPUT - self._size
        self.cut = self.cut or len(text) > room
        self._parts.append(text[:room])
        self._size += len(self._parts[-1])

    def text(self) -> str:
        """Return what was kept."""
        return "".join(self._parts)


def with_routes(
    default: BackendProtocol, *, memories: Path | None = None, skills: Path | None = None
) -> CompositeBackend:
    """Lay directories of the host beside a sandbox, where Deep Agents look for memories and skills.

    Commands never see them: they are reached by the file tools alone, and a path can't leave its directory. What Deep
    Agents put aside, such as long tool results, goes to the home directory inside, as `/` is not the user's to write.

    Args:
        default: The sandbox; all other paths and every command are its.
        memories: What `/memories/` is, one owner's.
        skills: What `/skills/` is.
    """
    routes: dict[str, BackendProtocol] = {}
    for prefix, place in ((MEMORIES, memories), (SKILLS, skills)):
        if place is not None:
            routes[prefix] = FilesystemBackend(root_dir=place, virtual_mode=True)
    return CompositeBackend(default=default, routes=routes, artifacts_root=ARTIFACTS)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _code(error: Exception) -> str:
    """Put an error into Deep Agents' words; one that has none there is passed on."""
    if isinstance(error, SandboxGone):
        raise error
    if isinstance(error, NotFound):
        return "file_not_found"
    if isinstance(error, InvalidInput):
        return "is_directory" if "directory" in str(error) else "invalid_path"
    return "permission_denied" if "ermission" in str(error) else str(error)
