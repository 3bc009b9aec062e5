"""The control plane: sandboxes, their time, their pauses, their copies."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from datetime import datetime

from starlette.responses import Response

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, SandboxGone
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import Limits, Sandbox, SandboxSpec
from orchestrion.sandbox.registry import Held
from orchestrion.server.e2b import bodies, paging, views
from orchestrion.server.e2b.answers import Refusal, answer, nothing, refusal, timestamp
from orchestrion.server.e2b.builds import begin
from orchestrion.server.e2b.catalogue import Built, Catalogue
from orchestrion.server.e2b.history import History
from orchestrion.server.e2b.idempotency import Once
from orchestrion.server.e2b.recipe import StepFailed
from orchestrion.server.e2b.routing import Call, Routes
from orchestrion.server.edge.edge import Edge

# A caller's time limit ends a sandbox; this only sweeps up what no host has spoken to for long.
_IDLE_SECONDS = 2 * bodies.LONGEST_SECONDS
_STATES = frozenset({"running", "paused"})


class Control:
    """The endpoints on sandboxes.

    Args:
        limits: What new sandboxes may use.
        sandboxes: Where they are.
        edge: Told to let go of what stops.
        shown: How sandboxes look to clients.
        catalogue: Templates that were built here.
    """

    def __init__(
        self, limits: Limits, sandboxes: Sandboxes, edge: Edge, shown: views.Views, catalogue: Catalogue
    ) -> None:
        self._limits = limits
        self._sandboxes = sandboxes
        self._edge = edge
        self.history = History(sandboxes, edge)
        self._shown = shown
        self._catalogue = catalogue
        self._once = Once()

    def install(self, routes: Routes) -> None:
        """Add the routes, those of every version that an SDK still uses."""
        for version in ("", "/v2"):
            routes.add("POST", f"{version}/sandboxes", self.create)
            routes.add("GET", f"{version}/sandboxes", self.list)
            routes.add("POST", f"{version}/sandboxes/{{id}}/connect", self.connect)
            routes.add("GET", f"{version}/sandboxes/{{id}}/logs", self.logs)
        routes.add("GET", "/sandboxes/metrics", self.metrics_of_several)
        routes.add("GET", "/sandboxes/{id}", self.detail)
        routes.add("DELETE", "/sandboxes/{id}", self.kill)
        for name, handler in (
            ("resume", self.connect),
            ("timeout", self.timeout),
            ("refreshes", self.refreshes),
            ("pause", self.pause),
            ("fork", self.fork),
            ("snapshots", self.snapshots),
        ):
            routes.add("POST", f"/sandboxes/{{id}}/{name}", handler)
        routes.add("PUT", "/sandboxes/{id}/network", self.network)
        routes.add("GET", "/orchestrion/capabilities", self.capabilities)
        routes.add("GET", "/sandboxes/{id}/metrics", self.metrics)

    async def _held(self, call: Call) -> Held:
        """Return the sandbox that the path names, if it is the caller's."""
        missing = Refusal(404, f"Sandbox \"{call.id[:80]}\" doesn't exist or you don't have access to it")
        try:
            held = await self._sandboxes.held(call.id)
        except NotFound:
            raise missing from None
        if held.info.spec.owner != call.owner:
            raise missing
        return held

    async def create(self, call: Call) -> Response:
        """Make a sandbox."""
        raw = await call.body()
        body = bodies.parse(bodies.NewSandbox, raw)
        return await self._once.run(
            call.owner, call.headers.get("idempotency-key"), raw, lambda: self._create(call.owner, body)
        )

    async def _create(self, owner: str, body: bodies.NewSandbox) -> Response:
        built = self._catalogue.find(owner, body.template_id)
        template = built.snapshot if built else body.template_id
        spec = SandboxSpec(
            owner=owner,
            template=template,
            limits=self._limits,
            idle_seconds=_IDLE_SECONDS,
            env={
                "E2B_SANDBOX": "true",
                "E2B_TEMPLATE_ID": template,
                **(built.envs if built else {}),
                **body.env_vars,
            },
            metadata=body.metadata,
            network=bodies.network(body),
            root=(await self._sandboxes.capabilities()).root,
            user=built.user if built else "",
            workdir=built.workdir if built else "",
        )
        try:
            sandbox = await self._sandboxes.create(
                spec,
                seconds=body.timeout,
                on_timeout="pause" if body.auto_pause else "kill",
                auto_resume=body.auto_resume.enabled,
                keep_memory=body.auto_pause_memory,
            )
            await self._begin(sandbox, built)
        except NotFound:
            raise Refusal(404, f"There is no template {body.template_id}.") from None
        except OrchestrionError as error:
            raise refusal(error) from error
        self.history.note(sandbox.id, f"made of the template {spec.template}")
        return answer(self._shown.made(sandbox, spec), 201)

    async def _begin(self, sandbox: Sandbox, built: Built | None) -> None:
        """Start what the template's author wants to run in each sandbox; one that does not get ready is ended."""
        if built is None or not (built.start or built.ready):
            return
        try:
            await begin(sandbox, built)
        except StepFailed as error:
            await self._sandboxes.remove(sandbox.id)
            raise Refusal(500, str(error)) from None

    async def connect(self, call: Call) -> Response:
        """Give a running sandbox more time, or wake a paused one."""
        held, body = await self._held(call), bodies.parse(bodies.Connect, await call.body())
        if held.info.state == "running":
            try:
                await self._sandboxes.set_deadline(call.id, body.timeout, only_extend=True)
                return answer(self._shown.made(await self._sandboxes.open(call.id), held.info.spec))
            except (Conflict, SandboxGone):
                # It stopped just now.
                held = await self._held(call)
        sandbox = await self._sandboxes.resume(call.id, memory=body.memory, seconds=body.timeout)
        self.history.note(call.id, "resumed")
        return answer(self._shown.made(sandbox, held.info.spec), 201)

    async def list(self, call: Call) -> Response:
        """List the caller's sandboxes."""
        query = call.query
        wanted = paging.decode_metadata(query.get("metadata", ""))
        states = set(filter(None, query.get("state", "").split(","))) or _STATES
        if not states <= _STATES:
            raise Refusal(400, "state is running, paused, or both with a comma between them.")
        after = _moment(query.get("startedAfter"))
        held = [
            views.ListedSandbox(one)
            for one in await self._sandboxes.all(call.owner)
            if one.info.state in states
            and wanted.items() <= one.info.spec.metadata.items()
            and query.get("template", one.info.spec.template) == one.info.spec.template
            and (after is None or one.info.created_at >= after)
        ]
        chosen, headers = paging.page(held, query, ascending=query.get("order") == "asc")
        return answer([self._shown.listed(one.held) for one in chosen], headers=headers)

    async def detail(self, call: Call) -> Response:
        """Describe one."""
        held = await self._held(call)
        token = await self._token(held)
        return answer(self._shown.detail(held, token))

    async def _token(self, held: Held) -> str | None:
        if held.info.state != "running":
            return None
        try:
            return (await self._sandboxes.open(held.info.id)).access_token
        except OrchestrionError:
            return None

    async def kill(self, call: Call) -> Response:
        """End one, running or paused."""
        await self._held(call)
        await self._sandboxes.remove(call.id)
        self._edge.cut(call.id)
        return nothing()

    async def timeout(self, call: Call) -> Response:
        """Set when one ends, from now."""
        await self._held(call)
        await self._sandboxes.set_deadline(call.id, bodies.parse(bodies.Timeout, await call.body()).timeout)
        return nothing()

    async def refreshes(self, call: Call) -> Response:
        """Give one more time."""
        await self._held(call)
        seconds = bodies.parse(bodies.Refresh, await call.body()).duration
        await self._sandboxes.set_deadline(call.id, seconds, only_extend=True)
        return nothing()

    async def pause(self, call: Call) -> Response:
        """Pause one; nobody reaches it when this answers."""
        await self._held(call)
        body = bodies.parse(bodies.Pause, await call.body())
        if body.require_healthy_guest and not await (await self._sandboxes.open(call.id)).ping():
            raise Refusal(503, f"The sandbox {call.id} does not answer, so it was not paused.")
        await self._sandboxes.pause(call.id, memory=body.memory)
        self._edge.cut(call.id)
        self.history.note(call.id, "paused" if body.memory else "paused, its files only")
        return nothing()

    async def fork(self, call: Call) -> Response:
        """Copy one; it goes on."""
        held, body = await self._held(call), bodies.parse(bodies.Fork, await call.body())
        copies = await self._sandboxes.fork(call.id, seconds=body.timeout, count=body.count)
        self.history.note(call.id, f"copied {body.count} times")
        return answer([self._copy(copy, held.info.spec) for copy in copies], 201)

    def _copy(self, copy: Sandbox | OrchestrionError, spec: SandboxSpec) -> dict[str, object]:
        if isinstance(copy, OrchestrionError):
            return {"error": {"code": refusal(copy).status, "message": str(copy)}}
        return {"sandbox": self._shown.made(copy, spec)}

    async def snapshots(self, call: Call) -> Response:
        """Keep one's files as a template."""
        await self._held(call)
        body = bodies.parse(bodies.SnapshotBody, await call.body())
        if body.memory:
            raise Refusal(400, "A snapshot keeps files here, no processes: take it with memory false, or without.")
        taken = await self._sandboxes.snapshot(call.id, body.name)
        self.history.note(call.id, f"kept as {taken.id}")
        return answer(views.snapshot(taken), 201)

    async def network(self, call: Call) -> Response:
        """Replace what one may reach."""
        held = await self._held(call)
        body = bodies.parse(bodies.NetworkUpdate, await call.body())
        allow, deny = bodies.reach(body, body.allow_internet_access)
        await self._sandboxes.set_network(call.id, replace(held.info.spec.network, allow=allow, deny=deny))
        return nothing()

    async def capabilities(self, _call: Call) -> Response:
        """Say what sandboxes here can do, which E2B's own API does not tell: our provider asks for it."""
        return answer(asdict(await self._sandboxes.capabilities()))

    async def metrics(self, call: Call) -> Response:
        """Say what one used."""
        await self._held(call)
        start, end = _seconds(call.query.get("start"), 0), _seconds(call.query.get("end"), math.inf)
        # Clients give whole seconds, cut off: the last one counts in full.
        return answer([views.sample(one) for one in self.history.samples(call.id, start, end + 0.999)])

    async def metrics_of_several(self, call: Call) -> Response:
        """Say what some use now."""
        asked = [name for part in call.query.getlist("sandbox_ids") for name in part.split(",") if name]
        mine = {one.info.id for one in await self._sandboxes.all(call.owner)}
        latest = {name: self.history.samples(name, 0, math.inf)[-1:] for name in asked if name in mine}
        return answer({"sandboxes": {name: views.sample(found[0]) for name, found in latest.items() if found}})

    async def logs(self, call: Call) -> Response:
        """Say what became of one since this server runs; what code inside prints is kept nowhere."""
        await self._held(call)
        entries = [
            {
                "timestamp": timestamp(note.at),
                "message": note.message,
                "line": note.message,
                "level": "info",
                "fields": {},
            }
            for note in self.history.notes(call.id)
        ]
        return answer({"logs": entries, "logEntries": entries})


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise Refusal(400, "startedAfter must be a time such as 2026-01-31T12:00:00Z.") from None
    return moment if moment.tzinfo else moment.astimezone()


def _seconds(text: str | None, default: float) -> float:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Refusal(400, "start and end are whole seconds since 1970.")
    return float(text)
