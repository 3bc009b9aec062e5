"""Tools on the session's workspace. They work on the host and need no sandbox."""

from __future__ import annotations

from langchain.tools import ToolRuntime, tool

from orchestrion.core.events import ArtifactWritten
from orchestrion.tools.context import RunContext
from orchestrion.tools.output import shorten

_READ_BYTES = 4_000_000


@tool(parse_docstring=True)
async def list_files(runtime: ToolRuntime[RunContext], path: str = "") -> str:
    """List the files of the workspace with their sizes.

    Args:
        runtime: Given by the platform.
        path: A folder to list; empty for everything.
    """
    files = await runtime.context.workspace.list(path)
    return shorten("\n".join(f"{file.path} ({file.size} bytes)" for file in files) or "There are no files.")


@tool(parse_docstring=True)
async def read_file(path: str, runtime: ToolRuntime[RunContext], offset: int = 0, limit: int = 2000) -> str:
    """Read a text file of the workspace, by lines.

    Args:
        path: Relative to the workspace.
        runtime: Given by the platform.
        offset: Lines to pass over.
        limit: Lines to return.
    """
    text = await runtime.context.workspace.read_text(path, limit=_READ_BYTES)
    lines = text.splitlines()
    shown = lines[max(offset, 0) : max(offset, 0) + limit]
    rest = len(lines) - max(offset, 0) - len(shown)
    return shorten("\n".join(shown) + (f"\n[{rest} more lines]" if rest > 0 else ""))


@tool(parse_docstring=True)
async def write_file(path: str, content: str, runtime: ToolRuntime[RunContext]) -> str:
    """Write a text file into the workspace, replacing what is there.

    Args:
        path: Relative to the workspace.
        content: The whole text.
        runtime: Given by the platform.
    """
    file = await runtime.context.workspace.write_text(path, content)
    await runtime.context.emit(ArtifactWritten(file=file))
    return f"Wrote {file.path} ({file.size} bytes)."
