"""The sources of a session: what was uploaded and fetched, as text that can be searched, quoted and checked.

    sources/S1.md        the text, after a short front matter
    sources/index.json   what there is, and what could not be read
    sources/raw/…        the body of a fetched page as it came

The host never parses a document: extraction runs in the sandbox, and what it returns is read as untrusted data.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from bisect import bisect_right
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from pydantic import BaseModel, Field, ValidationError

from orchestrion.core.errors import Conflict, NotFound, SandboxError
from orchestrion.core.ids import new_id
from orchestrion.sandbox.protocols import Sandbox
from orchestrion.store.workspace import Workspace

FOLDER = "sources"
INDEX = f"{FOLDER}/index.json"
RAW = f"{FOLDER}/raw"
BATCH = 8
_INBOX = f"{FOLDER}/.inbox"
_INDEX_BYTES = 16_000_000
_TEXT_BYTES = 16_000_000
_END = "\n---\n\n"
_SECONDS_EACH = 80

_LOCKS: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


class SourcePage(BaseModel):
    """Where a page begins in the text."""

    page: int = Field(ge=1)
    start: int = Field(ge=0)


class Document(BaseModel):
    """What the documents toolkit returned for one file; it comes out of a sandbox, so it is checked."""

    title: str = Field(max_length=1000)
    text: str = Field(min_length=1, max_length=4_000_000)
    pages: list[SourcePage] = Field(default=[], max_length=20_000)
    kind: str = Field(pattern="^[a-z]{2,8}$")
    notes: list[str] = Field(default=[], max_length=5000)


class Source(BaseModel):
    """One stored source.

    Attributes:
        id: `S1`, `S2`, ….
        title: As the document gives it, or its name.
        origin: The upload's path or the URL.
        stored: Path of the stored text.
        kind: What it was: `pdf`, `html`, ….
        retrieved_at: When it was read.
        sha256: Of the text; a text that no longer has it is not trusted.
        characters: Length of the text.
        fingerprint: Tells whether the origin has changed since.
        raw: Path of the original in the workspace.
        pages: Where each page begins.
        notes: What was left out or guessed.
        replaced: A newer version of the same origin is stored; this one can still be cited.
    """

    id: str = Field(pattern=r"^S[0-9]{1,6}$")
    title: str
    origin: str
    stored: str = Field(pattern=r"^sources/S[0-9]{1,6}\.md$")
    kind: str
    retrieved_at: datetime
    sha256: str
    characters: int
    fingerprint: str
    raw: str
    pages: list[SourcePage] = []
    notes: list[str] = []
    replaced: bool = False

    def page_at(self, offset: int) -> int | None:
        """Return the number of the page on which an offset lies."""
        position = bisect_right(self.pages, offset, key=lambda page: page.start)
        return self.pages[position - 1].page if position else None


class UnreadableSource(BaseModel):
    """A file or URL that could not be read, with the sentence that says why."""

    origin: str
    fingerprint: str
    sentence: str


class SourceIndex(BaseModel):
    """All that is known of a session's sources."""

    sources: list[Source] = []
    unreadable: list[UnreadableSource] = []

    @property
    def current(self) -> list[Source]:
        """The newest version of each."""
        return [source for source in self.sources if not source.replaced]


def lock_of(workspace: Workspace) -> asyncio.Lock:
    """Return the lock under which a workspace's index is changed."""
    key = os.path.abspath(workspace.root)
    lock = _LOCKS.get(key)
    if lock is None:
        _LOCKS[key] = lock = asyncio.Lock()
    return lock


async def load_index(workspace: Workspace) -> SourceIndex:
    """Read the index.

    Raises:
        Conflict: Something else has written to it.
    """
    try:
        data = await workspace.read_bytes(INDEX, limit=_INDEX_BYTES)
    except NotFound:
        return SourceIndex()
    try:
        return SourceIndex.model_validate_json(data)
    except ValidationError:
        raise Conflict(f"{INDEX} is damaged.", "Delete the sources folder; the sources are then read anew.") from None


async def _save_index(workspace: Workspace, index: SourceIndex) -> None:
    await workspace.write_text(INDEX, index.model_dump_json(indent=1))


def find_source(index: SourceIndex, reference: str) -> Source:
    """Return the source that `S1`, `s1` or `sources/S1.md` names.

    Raises:
        NotFound: There is none.
    """
    wanted = reference.strip().removeprefix(f"{FOLDER}/").removesuffix(".md").upper()
    for source in index.sources:
        if source.id == wanted:
            return source
    known = ", ".join(source.id for source in index.current[:50]) or "none yet"
    raise NotFound(f"There is no source {reference.strip()[:60]!r}.", f"Sources: {known}.")


async def source_text(workspace: Workspace, source: Source) -> str:
    """Return the text of a source.

    Raises:
        NotFound: It was deleted.
        Conflict: It was changed after it was stored.
    """
    stored = await workspace.read_text(source.stored, limit=_TEXT_BYTES)
    text = stored.partition(_END)[2]
    if _digest(text) != source.sha256:
        raise Conflict(f"{source.stored} was changed after it was stored.", f"Upload or fetch {source.origin} anew.")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


async def add_source(workspace: Workspace, document: Document, origin: str, fingerprint: str, raw: str) -> Source:
    """Store a document as a source; the same text from the same origin is stored once.

    Args:
        workspace: The session's files; its lock is held by the caller.
        document: The extracted text.
        origin: An upload's path or a URL.
        fingerprint: Tells this version of the origin from the next.
        raw: Path of the original.
    """
    index = await load_index(workspace)
    digest = _digest(document.text)
    index.unreadable = [entry for entry in index.unreadable if entry.origin != origin]
    same = next((s for s in index.current if s.origin == origin and s.sha256 == digest), None)
    if same is None:
        same = _new_source(index, document, origin, raw)
    same.fingerprint = fingerprint
    await workspace.write_text(same.stored, _front_matter(same) + document.text)
    await _save_index(workspace, index)
    return same


def _new_source(index: SourceIndex, document: Document, origin: str, raw: str) -> Source:
    for older in index.sources:
        older.replaced = older.replaced or older.origin == origin
    identifier = f"S{len(index.sources) + 1}"
    source = Source(
        id=identifier,
        title=" ".join(document.title.split())[:300] or origin,
        origin=origin,
        stored=f"{FOLDER}/{identifier}.md",
        kind=document.kind,
        retrieved_at=datetime.now(UTC).replace(microsecond=0),
        sha256=_digest(document.text),
        characters=len(document.text),
        fingerprint="",
        raw=raw,
        pages=document.pages,
        notes=document.notes,
    )
    index.sources.append(source)
    return source


def _front_matter(source: Source) -> str:
    """Return YAML whose values are JSON strings, so that no title can end it early."""
    fields = {
        "id": source.id,
        "title": source.title,
        "origin": source.origin,
        "retrieved_at": source.retrieved_at.isoformat(),
        "sha256": source.sha256,
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "---\n" + "\n".join(lines) + _END


async def note_unreadable(workspace: Workspace, entry: UnreadableSource) -> None:
    """Remember that an origin could not be read. The caller holds the lock."""
    index = await load_index(workspace)
    index.unreadable = [known for known in index.unreadable if known.origin != entry.origin] + [entry]
    await _save_index(workspace, index)


async def extract_in_sandbox(
    sandbox: Sandbox, workspace: Workspace, files: list[dict[str, str]]
) -> list[Document | str]:
    """Return, for each of at most `BATCH` files, its text or the sentence that says why there is none.

    Args:
        sandbox: Where the documents toolkit runs.
        workspace: Mounted in it.
        files: `path` in the workspace, and optionally `name` and `charset`.

    Raises:
        SandboxError: The toolkit itself did not run.
    """
    batch = new_id("read")
    jobs = [
        file | {"id": f"{batch}-{number}", "path": f"/workspace/{file['path']}"} for number, file in enumerate(files)
    ]
    # One expression: it leaves no name behind among the session's variables.
    code = f"__import__('documents').ingest({jobs!r}, {'/workspace/' + _INBOX!r})"
    done = await sandbox.run_code(code, timeout=30 + _SECONDS_EACH * len(jobs))
    if done.error or done.timed_out:
        reason = f"{done.error.name}: {done.error.message}" if done.error else "it took too long"
        raise SandboxError(f"The documents could not be read in the sandbox: {reason[:300]}.", "Try again.")
    return [await _take(workspace, f"{_INBOX}/{job['id']}.json", job) for job in jobs]


async def _take(workspace: Workspace, path: str, job: dict[str, str]) -> Document | str:
    """Read one result and remove it."""
    name = job.get("name") or job["path"].rsplit("/", 1)[-1]
    try:
        data = _encodable(json.loads(await workspace.read_bytes(path, limit=_TEXT_BYTES)))
        await workspace.delete(path)
        if isinstance(data, dict) and "error" in data:
            return str(data["error"])[:500]
        return Document.model_validate(data)
    except (NotFound, ValidationError, ValueError, RecursionError):
        return f"{name} could not be read: what the reader returned makes no sense."


def _encodable(value: object) -> object:
    """Return a JSON value without the lone surrogates that no encoder downstream would take."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
