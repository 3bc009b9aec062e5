"""Building templates: steps carried out in a sandbox, the result kept as a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import Limits, Network, Sandbox, SandboxSpec
from orchestrion.server.e2b import bodies
from orchestrion.server.e2b.answers import Refusal, answer, nothing, timestamp
from orchestrion.server.e2b.catalogue import DEFAULT_TAG, Built, Catalogue, check_tag, split_name
from orchestrion.server.e2b.keys import Keys
from orchestrion.server.e2b.recipe import Cook, State, StepFailed, local_base
from orchestrion.server.e2b.routing import Call, Routes

log = structlog.get_logger(__name__)

UPLOADS = "/uploads/"
_HASH = re.compile(r"^[0-9a-f]{64}$")
_LARGEST_UPLOAD = 2**30
_LINES = 20_000
_PAGE = 100
_KEPT = 1000
_READY_SECONDS = 300.0
_TRY_SECONDS = 0.5


@dataclass
class _Build:
    owner: str
    name: str
    tags: list[str]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "waiting"
    reason: dict[str, Any] | None = None
    lines: list[dict[str, str]] = field(default_factory=list)
    step: str | None = None

    def say(self, message: str, level: str = "info") -> None:
        """Write a line into the log, which is bounded."""
        if len(self.lines) < _LINES:
            line = {"timestamp": timestamp(datetime.now(UTC)), "message": message[:8192], "level": level}
            self.lines.append(line if self.step is None else {**line, "step": self.step})

    def fail(self, message: str) -> None:
        """End it."""
        self.say(message, "error")
        self.reason = {"message": message, **({} if self.step is None else {"step": self.step})}
        self.status = "error"


class Builds:
    """The endpoints on builds.

    Args:
        limits: What the sandboxes that builds run in may use.
        sandboxes: Make them.
        keys: Sign the addresses of uploads.
        catalogue: Keeps what was built; uploads are kept beside it.
        url: The control plane's address, for uploads.
    """

    def __init__(self, limits: Limits, sandboxes: Sandboxes, keys: Keys, catalogue: Catalogue, url: str) -> None:
        self._limits = limits
        self._sandboxes = sandboxes
        self._keys = keys
        self._catalogue = catalogue
        self._url = url
        self._folder = catalogue.path.with_name("uploads")
        self._builds: dict[str, _Build] = {}
        self._running: set[asyncio.Task[None]] = set()

    def install(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add("POST", "/v3/templates", self.request)
        routes.add("GET", "/templates/{id}/files/{hash}", self.file)
        routes.add("POST", "/v2/templates/{id}/builds/{build}", self.start)
        routes.add("GET", "/templates/{id}/builds/{build}/status", self.status)
        routes.add("POST", "/templates/tags", self.tag)
        routes.add("DELETE", "/templates/tags", self.untag)
        routes.add("GET", "/templates/{id}/tags", self.tags)

    async def close(self) -> None:
        """End what runs."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def request(self, call: Call) -> Response:
        """Give a build its ids."""
        body = bodies.parse(bodies.NewTemplate, await call.body())
        name, tag = split_name(body.name or body.alias or "")
        for further in body.tags:
            check_tag(further)
        given = tag != DEFAULT_TAG or not body.tags
        tags = [*body.tags, *([tag] if given and tag not in body.tags else [])]
        build = _Build(call.owner, name, tags)
        while len(self._builds) >= _KEPT:
            self._builds.pop(next(iter(self._builds)))
        self._builds[build.id] = build
        names = {"names": [name], "aliases": [name], "tags": tags}
        return answer({"templateID": name, "buildID": build.id, "public": False, **names}, 202)

    def _path(self, owner: str, digest: str) -> Path:
        if not _HASH.match(digest):
            raise Refusal(400, "A file is named by its SHA-256.")
        return self._folder / owner / digest

    async def file(self, call: Call) -> Response:
        """Say whether an archive is here, and where it can be sent."""
        digest = call.path["hash"]
        if self._path(call.owner, digest).exists():
            return answer({"present": True}, 201)
        place = f"{call.owner}/{digest}"
        return answer({"present": False, "url": f"{self._url}{UPLOADS}{place}?signature={self._sign(place)}"}, 201)

    def _sign(self, place: str) -> str:
        return self._keys.traffic_token(f"upload {place}")

    async def upload(self, request: Request) -> Response:
        """Take an archive from whoever has its signed address."""
        place = request.url.path.removeprefix(UPLOADS)
        owner, _, digest = place.partition("/")
        given = request.query_params.get("signature", "")
        if request.method != "PUT" or not hmac.compare_digest(self._sign(place).encode(), given.encode()):
            raise Refusal(403, "This address is not signed.")
        path = self._path(owner, digest)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{secrets.token_hex(8)}")
        try:
            await _receive(request, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return answer({})

    def _find(self, call: Call) -> _Build:
        build = self._builds.get(call.path["build"])
        if build is None or build.owner != call.owner:
            raise Refusal(404, "There is no such build.")
        return build

    async def start(self, call: Call) -> Response:
        """Begin a build."""
        build = self._find(call)
        body = bodies.parse(bodies.Build, await call.body())
        if build.status != "waiting":
            raise Refusal(409, "This build was started already.")
        build.status = "building"
        task = asyncio.create_task(self._run(build, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return answer({}, 202)

    async def status(self, call: Call) -> Response:
        """Say how a build does, and what it has logged from an offset on."""
        build, text = self._find(call), call.query.get("logsOffset", "0")
        offset = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        entries = build.lines[offset : offset + _PAGE]
        # It is over once all that it logged was asked for.
        unread = offset + len(entries) < len(build.lines)
        shown: dict[str, Any] = {
            "templateID": build.name,
            "buildID": build.id,
            "status": "building" if unread and build.status in {"ready", "error"} else build.status,
            "logs": [entry["message"] for entry in entries],
            "logEntries": entries,
        }
        if build.reason and not unread:
            shown["reason"] = build.reason
        return answer(shown)

    async def _run(self, build: _Build, body: bodies.Build) -> None:
        try:
            await self._build(build, body)
            build.status = "ready"
        except (StepFailed, OrchestrionError) as error:
            build.fail(str(error))
        except Exception:
            log.exception("a build failed", build=build.id)
            build.fail("The build failed by a mistake of this server; its log says more.")
        except asyncio.CancelledError:
            build.fail("The server was stopped.")
            raise

    async def _build(self, build: _Build, body: bodies.Build) -> None:
        base = self._base(build, body)
        # Packages come from the registries; whoever builds decides what goes in.
        network = Network(allow=("*",), registries=True)
        root = (await self._sandboxes.capabilities()).root
        spec = SandboxSpec(owner=build.owner, template=base, limits=self._limits, network=network, root=root)
        sandbox = await self._sandboxes.create(spec, seconds=4 * 3600)
        try:
            cook = Cook(sandbox, self._folder / build.owner, build.say, self._beginning(build, body))
            for number, step in enumerate(body.steps, 1):
                build.step = str(number)
                build.say(f"[{number}/{len(body.steps)}] {step.type} {' '.join(step.args)}"[:500])
                await cook.do(step)
            build.step = None
            await self._keep(build, body, sandbox, cook.state)
        finally:
            with contextlib.suppress(OrchestrionError):
                await self._sandboxes.remove(sandbox.id)

    def _base(self, build: _Build, body: bodies.Build) -> str:
        build.step = "base"
        if body.from_template:
            known = self._catalogue.find(build.owner, body.from_template)
            base = known.snapshot if known else body.from_template
        else:
            image = body.from_image or "e2bdev/base"
            found = local_base(image)
            if found is None:
                raise StepFailed(
                    f"The image {image} can't be had here: only this machine's own system can be built on."
                )
            build.say(f"{image} stands for this machine's own system, the template {found}", "warn")
            base = found
        build.step = None
        return base

    def _beginning(self, build: _Build, body: bodies.Build) -> State:
        known = self._catalogue.find(build.owner, body.from_template or "")
        return State(dict(known.envs), known.user, known.workdir) if known else State()

    async def _keep(self, build: _Build, body: bodies.Build, sandbox: Sandbox, state: State) -> None:
        taken = await self._sandboxes.snapshot(sandbox.id)
        built = Built(
            taken.id, build.id, state.envs, state.user, state.workdir, body.start_cmd or "", body.ready_cmd or ""
        )
        if built.start or built.ready:
            await begin(sandbox, built, build.say)
        self._catalogue.put(build.owner, build.name, build.tags, built)
        build.say(f"kept as {build.name} with the tags {', '.join(build.tags)}")

    async def tag(self, call: Call) -> Response:
        """Let further tags stand for a build."""
        body = bodies.parse(bodies.Tags, await call.body())
        name, _ = split_name(body.target)
        built = self._catalogue.find(call.owner, body.target)
        if built is None:
            raise Refusal(404, f"There is no template {body.target[:80]}.")
        tags = [tag.removeprefix(f"{name}:") for tag in body.tags]
        for tag in tags:
            check_tag(tag)
        self._catalogue.put(call.owner, name, tags, built)
        return answer({"tags": tags, "buildID": built.build_id}, 201)

    async def untag(self, call: Call) -> Response:
        """Forget tags."""
        body = bodies.parse(bodies.TagRemoval, await call.body())
        if not self._catalogue.tags(call.owner, body.name):
            raise Refusal(404, f"There is no template {body.name[:80]}.")
        for snapshot in self._catalogue.drop(call.owner, body.name, body.tags):
            await self._sandboxes.remove_snapshot(snapshot, call.owner)
        return nothing()

    async def tags(self, call: Call) -> Response:
        """List a template's tags."""
        tags = self._catalogue.tags(call.owner, call.id)
        if not tags:
            raise Refusal(404, f"There is no template {call.id[:80]}.")
        now = timestamp(datetime.now(UTC))
        return answer([{"tag": tag, "buildID": built.build_id, "createdAt": now} for tag, built in tags.items()])


async def begin(sandbox: Sandbox, built: Built, say: Any = lambda _: None) -> None:
    """Start what a template's sandboxes run, and wait until it is ready.

    Raises:
        StepFailed: It did not get ready in time.
    """
    if built.start:
        say(f"starting {built.start}")
        argv = ["/bin/bash", "-l", "-c", built.start]
        process = await sandbox.processes.start(argv, cwd=built.workdir, env=built.envs, user=built.user)
        await process.close()
    cook = Cook(sandbox, Path("/"), say, State(dict(built.envs), built.user, built.workdir))
    ends = time.monotonic() + _READY_SECONDS
    while built.ready and await cook.run(built.ready, built.user, seconds=_READY_SECONDS) != 0:
        if time.monotonic() > ends:
            raise StepFailed(f"The sandbox was not ready after {_READY_SECONDS:.0f} s: {built.ready}")
        await asyncio.sleep(_TRY_SECONDS)


async def _receive(request: Request, path: Path) -> None:
    with path.open("wb") as out:
        async for piece in _bounded(request):
            await asyncio.to_thread(out.write, piece)


async def _bounded(request: Request) -> AsyncIterator[bytes]:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > _LARGEST_UPLOAD:
            raise Refusal(413, f"An archive may have {_LARGEST_UPLOAD} bytes at most.")
        yield piece
