"""Tools that run code and commands in the session's sandbox."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from langchain.tools import ToolRuntime, tool

from orchestrion.core.errors import NotFound, UnsafePath
from orchestrion.core.events import ArtifactWritten, RichResult, RunNotice, ToolOutput
from orchestrion.sandbox.protocols import CodeResult, CommandResult, Language, Rich, RichKind, Sandbox
from orchestrion.store.workspace import UPLOADS
from orchestrion.tools.context import RunContext
from orchestrion.tools.output import OutputStream, shorten

_ANNOUNCED = 40
_HTML_BUDGET = 100_000
_BEGINS: dict[RichKind, bytes] = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "pdf": b"%PDF-",
    "svg": b"<",
}
_READABLE = frozenset({"text", "markdown", "latex", "json"})
_SHOWN: frozenset[RichKind] = frozenset({"text", "markdown", "latex", "json", "html", "chart"})


@asynccontextmanager
async def _working(context: RunContext, call_id: str) -> AsyncIterator[tuple[Sandbox, OutputStream]]:
    """Yield the sandbox and a stream for its output; afterwards announce the files that came about."""
    sandbox = await context.sandbox()
    before = await context.workspace.snapshot()
    output = OutputStream(context, call_id)
    try:
        yield sandbox, output
    finally:
        await output.close()
        await _announce(context, before)


async def _announce(context: RunContext, before: dict[str, tuple[int, int]]) -> None:
    after = await context.workspace.snapshot()
    fresh = [path for path in sorted(after) if after[path] != before.get(path)]
    for path in [path for path in fresh if not path.startswith(f"{UPLOADS}/")][:_ANNOUNCED]:
        with suppress(NotFound, UnsafePath):  # a background process may have removed it again
            await context.emit(ArtifactWritten(file=context.workspace.stat(path)))


@tool(parse_docstring=True)
async def execute_code(code: str, runtime: ToolRuntime[RunContext], language: Language = "python") -> str:
    """Run code in the sandbox. Variables, imports and files stay for later calls of the whole conversation.

    The working directory is the workspace. In Python numpy, pandas, scipy, matplotlib, openpyxl and pyarrow are
    installed, and `import tables` gives load(path), profile(df), clean(df), statistics(df) and charts(df) for data
    files. The value of the last expression is shown; open matplotlib figures are saved below charts/. Unless you were
    told otherwise there is no network.

    Args:
        code: Source.
        runtime: Given by the platform.
        language: python, javascript, typescript or bash; each keeps variables of its own.
    """
    context, call_id = runtime.context, runtime.tool_call_id or ""
    async with _working(context, call_id) as (sandbox, output):
        result = await sandbox.run_code(
            code, language=language, timeout=context.settings.tool_timeout_seconds, on_output=output
        )
        figures = await _keep_results(context, call_id, result.results)
    return shorten(_code_text(result, figures))


@tool(parse_docstring=True)
async def execute(command: str, runtime: ToolRuntime[RunContext]) -> str:
    """Run a shell command in the sandbox, in the workspace. Unless you were told otherwise there is no network.

    Args:
        command: For `sh -c`.
        runtime: Given by the platform.
    """
    context = runtime.context
    async with _working(context, runtime.tool_call_id or "") as (sandbox, output):
        result = await sandbox.run_command(command, timeout=context.settings.tool_timeout_seconds, on_output=output)
    return shorten(_command_text(result))


async def _keep_results(context: RunContext, call_id: str, results: list[Rich]) -> list[str]:
    """Show rich results to readers; pictures and documents are stored and their paths returned."""
    figures: list[str] = []
    for rich in results:
        if rich.kind in _BEGINS:
            content = _content(rich)
            if content is None:
                text = f"A figure was left out: what the sandbox sent is no {rich.kind.upper()} picture."
                await context.emit(RunNotice(code="figure_unusable", text=text))
                continue
            figures.append(await _keep_figure(context, content, rich.kind))
            await _show(context, call_id, rich.kind, figures[-1])
        elif rich.kind in _SHOWN:
            await _show(context, call_id, rich.kind, rich.data[:_HTML_BUDGET])
    return figures


async def _show(context: RunContext, call_id: str, kind: RichKind, data: str) -> None:
    result = RichResult.model_validate({"kind": kind, "data": data})
    await context.emit(ToolOutput(call_id=call_id, stream="result", result=result))


def _content(rich: Rich) -> bytes | None:
    """Return a picture's bytes; None if they are none, as code in a sandbox can send anything."""
    try:
        content = rich.data.encode() if rich.kind == "svg" else base64.b64decode(rich.data, validate=True)
    except ValueError:
        return None
    return content if content.lstrip().startswith(_BEGINS[rich.kind]) else None


async def _keep_figure(context: RunContext, content: bytes, kind: RichKind) -> str:
    async with context.naming:  # two calls of one answer run side by side
        taken = {file.path.rpartition(".")[0] for file in await context.workspace.list("charts")}
        number = next(n for n in range(1, len(taken) + 2) if f"charts/figure-{n}" not in taken)
        return (await context.workspace.write_bytes(f"charts/figure-{number}.{kind}", content)).path


def _code_text(result: CodeResult, figures: list[str]) -> str:
    parts = [result.stdout.rstrip("\n")]
    if result.stderr.strip():
        parts.append(f"[stderr]\n{result.stderr.rstrip()}")
    parts += [rich.data for rich in result.results if rich.kind in _READABLE]
    parts += [f"[figure] {path}" for path in figures]
    if result.timed_out:
        parts.append("[timeout] The time limit ended this cell.")
    if result.restarted:
        parts.append("[restarted] The interpreter was started anew: its variables are gone, files are kept.")
    if result.error:
        parts.append(f"{result.error.traceback.rstrip()}\n[error] {result.error.name}: {result.error.message}")
    return "\n".join(part for part in parts if part) or "(no output)"


def _command_text(result: CommandResult) -> str:
    parts = [result.stdout.rstrip("\n")]
    if result.stderr.strip():
        parts.append(f"[stderr]\n{result.stderr.rstrip()}")
    if result.timed_out:
        parts.append("[timeout] The time limit ended this command and everything it had started.")
    if result.exit_code:
        parts.append(f"[exit code {result.exit_code}]")
    return "\n".join(part for part in parts if part) or "(no output)"
