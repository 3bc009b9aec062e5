"""The research agent's tools: list, search and read sources, and fetch a URL into one."""

from __future__ import annotations

import asyncio
import hashlib
import os
from urllib.parse import unquote, urlsplit

from langchain.tools import ToolRuntime, tool

from orchestrion.core.errors import FetchFailed, OrchestrionError
from orchestrion.core.events import ArtifactWritten, RunNotice, ToolOutput
from orchestrion.store.workspace import UPLOADS, Workspace
from orchestrion.tools.context import RunContext
from orchestrion.tools.fences import NOTE, attribute, fence
from orchestrion.tools.passages import Passage, search_passages
from orchestrion.tools.sources import (
    BATCH,
    RAW,
    Document,
    Source,
    SourceIndex,
    UnreadableSource,
    add_source,
    extract_in_sandbox,
    find_source,
    load_index,
    lock_of,
    note_unreadable,
    source_text,
)
from orchestrion.tools.web_fetch import Page, fetch
from orchestrion.tools.web_safety import FetchPolicy

_WINDOW = 12_000
_FIRST_LOOK = 6_000
_MOST_PASSAGES = 20
_LISTED = 200


@tool(parse_docstring=True)
async def list_sources(runtime: ToolRuntime[RunContext]) -> str:
    """List the sources: every uploaded document and fetched page, with its id (S1, S2, …), title and length.

    Uploads are read on the first call; those that can't be read are named with the reason. Begin with this.

    Args:
        runtime: Given by the platform.
    """
    context = runtime.context
    async with lock_of(context.workspace):
        await _ingest_uploads(context, runtime.tool_call_id or "")
        index = await load_index(context.workspace)
    return _listing(index)


@tool(parse_docstring=True)
async def search_documents(query: str, runtime: ToolRuntime[RunContext], limit: int = 8) -> str:
    """Search all sources for words and return the passages that fit best, word for word, ready to be quoted.

    Args:
        query: A few telling words, in the documents' own language.
        runtime: Given by the platform.
        limit: Passages to return, 1 to 20.
    """
    workspace = runtime.context.workspace
    index = await load_index(workspace)
    sources = {source.id: source for source in index.current}
    texts, troubles = await _texts(workspace, index.current)
    found = await asyncio.to_thread(search_passages, texts, query, max(1, min(limit, _MOST_PASSAGES)))
    if not sources:
        troubles.append("There are no sources yet: call list_sources or web_fetch first.")
    if not found:
        return "\n".join([f"No passage has any of these words: {attribute(query)}.", *troubles])
    passages = "\n".join(_fenced(sources[passage.source], passage) for passage in found)
    return "\n".join([f"{len(found)} passages. {NOTE}", passages, *troubles])


@tool(parse_docstring=True)
async def read_source(source: str, runtime: ToolRuntime[RunContext], offset: int = 0) -> str:
    """Read a source from an offset on, 12000 characters at a time.

    Args:
        source: Its id, such as S1.
        runtime: Given by the platform.
        offset: Characters to pass over.
    """
    workspace = runtime.context.workspace
    found = find_source(await load_index(workspace), source)
    text = await source_text(workspace, found)
    return f"{NOTE}\n{_window(found, text, max(0, offset), _WINDOW)}"


@tool(parse_docstring=True)
async def web_fetch(url: str, runtime: ToolRuntime[RunContext]) -> str:
    """Fetch a web page, text, PDF or Word document by its URL and store it as a source.

    Only public addresses can be fetched. Returns the source's id and its beginning.

    Args:
        url: http:// or https://.
        runtime: Given by the platform.
    """
    context = runtime.context
    policy = FetchPolicy(context.user_urls, private_allowed=context.private_urls_allowed)
    try:
        page = await fetch(url, policy)
        source = await _store_page(context, page)
    except OrchestrionError as error:
        await context.emit(RunNotice(code="fetch_failed", text=str(error)))
        raise
    text = await source_text(context.workspace, source)
    head = (
        f"Stored as {source.id}: {attribute(source.title)} ({source.origin}), {source.characters} characters. {NOTE}"
    )
    return f"{head}\n{_window(source, text, 0, _FIRST_LOOK)}"


async def _ingest_uploads(context: RunContext, call_id: str) -> None:
    """Read the uploads that are new or have changed. The caller holds the lock."""
    index = await load_index(context.workspace)
    known = {(source.origin, source.fingerprint) for source in index.current}
    known |= {(entry.origin, entry.fingerprint) for entry in index.unreadable}
    listed = [file.path for file in await context.workspace.list(UPLOADS)]
    named = [path for path in context.task_files if path.startswith(f"{UPLOADS}/")]  # also one with a hidden name
    fresh = [
        (path, mark)
        for path in dict.fromkeys([*listed, *named])
        if (mark := await asyncio.to_thread(_fingerprint, context.workspace, path)) and (path, mark) not in known
    ]
    for start in range(0, len(fresh), BATCH):
        batch = fresh[start : start + BATCH]
        files = [{"path": path} for path, _ in batch]
        results = await extract_in_sandbox(await context.sandbox(), context.workspace, files)
        for (path, mark), result in zip(batch, results, strict=True):
            await _keep(context, call_id, path, mark, result)


async def _keep(context: RunContext, call_id: str, path: str, mark: str, result: Document | str) -> None:
    if isinstance(result, str):
        await note_unreadable(context.workspace, UnreadableSource(origin=path, fingerprint=mark, sentence=result))
        await context.emit(RunNotice(code="source_unreadable", text=result))
        line = f"{path}: {result}\n"
    else:
        source = await add_source(context.workspace, result, path, mark, path)
        await _announce(context, source)
        line = f"{path} is {source.id}, {source.characters} characters\n"
    await context.emit(ToolOutput(call_id=call_id, stream="stdout", text=line))


async def _announce(context: RunContext, source: Source) -> None:
    await context.emit(ArtifactWritten(file=context.workspace.stat(source.stored), title=source.title))
    for note in source.notes[:3]:
        await context.emit(RunNotice(level="info", code="source_note", text=f"{source.origin}: {note}"))


def _fingerprint(workspace: Workspace, path: str) -> str:
    """Return what changes when a file does; empty if it is gone."""
    try:
        with workspace.open_read(path) as file:
            info = os.fstat(file.fileno())
    except OrchestrionError:
        return ""
    return f"{info.st_size}-{info.st_mtime_ns}"


async def _store_page(context: RunContext, page: Page) -> Source:
    digest = hashlib.sha256(page.body).hexdigest()
    raw = await context.workspace.write_bytes(f"{RAW}/{digest[:16]}{page.suffix}", page.body)
    job = {"path": raw.path, "name": _page_name(page.url)}
    if page.charset:
        job["charset"] = page.charset
    (result,) = await extract_in_sandbox(await context.sandbox(), context.workspace, [job])
    if isinstance(result, str):
        raise FetchFailed(f"{page.url} was fetched but can't be read: {result}")
    async with lock_of(context.workspace):
        source = await add_source(context.workspace, result, page.url, digest, raw.path)
    await _announce(context, source)
    return source


def _page_name(url: str) -> str:
    """Return a name for a page: the last part of its path, or its host."""
    parts = urlsplit(url)
    return (unquote(parts.path).rstrip("/").rsplit("/", 1)[-1] or parts.hostname or "page")[:120]


def _listing(index: SourceIndex) -> str:
    count = len(index.current)
    lines = [f"{count} source{'' if count == 1 else 's'}." if count else "There are no sources."]
    for source in index.current[:_LISTED]:
        pages = f", {source.pages[-1].page} pages" if source.pages else ""
        what = f"{source.kind}, {source.characters} characters{pages}"
        lines.append(f'- {source.id}: "{attribute(source.title)}" from {attribute(source.origin)} ({what})')
        lines += [f"  Note: {attribute(note)}" for note in source.notes[:3]]
    if count > _LISTED:
        lines.append(f"- and {count - _LISTED} more, which search_documents finds too.")
    if index.unreadable:
        lines.append("Not readable:")
        lines += [f"- {attribute(entry.origin)}: {attribute(entry.sentence, 500)}" for entry in index.unreadable]
    return "\n".join(lines)


async def _texts(workspace: Workspace, sources: list[Source]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Return id and text of each source that is as it was stored, and a sentence for each that is not."""
    texts: list[tuple[str, str]] = []
    troubles: list[str] = []
    for source in sources:
        try:
            texts.append((source.id, await source_text(workspace, source)))
        except OrchestrionError as error:
            troubles.append(str(error))
    return tuple(texts), troubles


def _fenced(source: Source, passage: Passage) -> str:
    return fence(passage.text, source.id, source.title, passage.start, source.page_at(passage.start))


def _window(source: Source, text: str, offset: int, length: int) -> str:
    piece = text[offset : offset + length]
    if not piece:
        return f"{source.id} has {len(text)} characters; there is nothing at offset {offset}."
    shown = fence(piece, source.id, source.title, offset, source.page_at(offset))
    end = offset + len(piece)
    rest = (
        f'\n{len(text) - end} more characters: read_source("{source.id}", offset={end}).' if end < len(text) else ""
    )
    return shown + rest
