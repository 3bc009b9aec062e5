"""The provider `e2b`."""

from __future__ import annotations

import contextlib
import math
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, SandboxError, Unsupported
from orchestrion.sandbox.client import EdgeTransport, GuestSandbox
from orchestrion.sandbox.client.wire import checked, text_of
from orchestrion.sandbox.e2b.keepalive import KeptTransport
from orchestrion.sandbox.e2b.rest import Rest
from orchestrion.sandbox.e2b.sandbox import CopiedSandbox
from orchestrion.sandbox.e2b.sync import INSIDE, WorkspaceSync
from orchestrion.sandbox.e2b.translation import (
    capabilities_of,
    creation,
    egress,
    info_of,
    sandbox_id,
    snapshot_of,
    time_left,
)
from orchestrion.sandbox.protocols import (
    Availability,
    Capabilities,
    Network,
    Sandbox,
    SandboxInfo,
    SandboxSpec,
    Snapshot,
)

DOMAIN = "e2b.app"
_HOME = "/home/user"
_STRENGTH = 80
_PROLONG = 60
_CAVEATS = (
    "The workspace is copied in and out around each call, not mounted; memory, processes and disk are as they are "
    "there, not as set here; models can't be reached through the gateway."
)
_ROOT = " Code can become root inside."
_MAKE_WORKSPACE = f"mkdir -p {INSIDE} && chown user:user {INSIDE}"


class E2BProvider:
    """Implements `SandboxProvider` over E2B's API.

    What E2B can't do: mount a workspace (it is copied around each call), limit a sandbox's memory and processes (its
    template does), keep code from becoming root (`sudo` works there), or reach our gateway, so that models are not to
    be had inside without a key of one's own. `caveats` says so to the user.

    Args:
        api_key: The account's key.
        domain: Where the endpoint is; by default E2B's own.
        api_url: The API's base URL, if not `https://api.<domain>`.
        ssl_context: What certificates are believed; by default the system's.
        workspace_of: Says where a session's workspace is, for sandboxes that an earlier process made.
    """

    name = "e2b"

    def __init__(
        self,
        api_key: str,
        domain: str | None = None,
        *,
        api_url: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        workspace_of: Callable[[str], Path | None] | None = None,
    ) -> None:
        self._domain = domain or DOMAIN
        self._ssl = ssl_context or httpx.create_ssl_context()
        self._rest = Rest(api_url or f"https://api.{self._domain}", api_key, self._ssl)
        self._workspace_of = workspace_of
        self._workspaces: dict[str, Path] = {}
        self._prolonged: dict[str, float] = {}
        self._old = False
        self._clouds = Capabilities(
            isolation=f"A virtual machine at {self._domain}, apart from this host; its size is its template's.",
            strength=_STRENGTH,
            mounts_workspace=False,
            pause_memory="image",
            fork_processes=True,
            snapshots=True,
            root=True,
            gateway=False,
            caveats=_CAVEATS + _ROOT,
        )
        self._can = self._clouds if self._domain == DOMAIN else None

    async def capabilities(self) -> Capabilities:
        """Say what E2B offers; an endpoint of Orchestrion's says itself what is behind it."""
        if self._can is None:
            try:
                theirs = capabilities_of(await self._rest.ask("GET", "/orchestrion/capabilities"))
                self._can = replace(
                    theirs,
                    isolation=f"{theirs.isolation} All that at {self._domain}.",
                    mounts_workspace=False,
                    gateway=False,
                    caveats=_CAVEATS + (_ROOT if theirs.root else ""),
                )
            except (NotFound, Unsupported):
                self._can = self._clouds
            except OrchestrionError:
                return self._clouds  # it can't be asked just now
        return self._can

    async def probe(self) -> Availability:
        """Ask the API for a list, with the key."""
        try:
            await self._rest.ask("GET", "/v2/sandboxes", query={"limit": "1"})
        except OrchestrionError as error:
            return Availability(False, error.detail, error.remedy)
        return Availability(
            True,
            f"Sandboxes at {self._domain}. {(await self.capabilities()).caveats}",
        )

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox; see `SandboxProvider.create`."""
        if spec.user or spec.workdir:
            raise Unsupported(
                "At E2B a sandbox's user and directory are its template's.", "Build a template with them."
            )
        if spec.root and not (await self.capabilities()).root:
            raise Unsupported(f"Code can't become root in sandboxes at {self._domain}.", "Leave `root` off.")
        body = creation(spec)
        made = checked(await self._newest("/sandboxes", body, {**body, "secure": True}, once=True))
        sandbox = self._sandbox(made, spec.idle_seconds, spec.workspace)
        try:
            await self._settle_in(sandbox)
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def known(self) -> list[SandboxInfo]:
        """Return all of the account's, oldest first."""
        query = {"state": "running,paused", "order": "asc"}
        root = (await self.capabilities()).root
        found = [info_of(item, root=root) async for item in self._rest.pages("/v2/sandboxes", query)]
        return sorted(found, key=lambda info: info.created_at)

    async def info(self, sandbox_id: str) -> SandboxInfo:
        """Describe one."""
        root = (await self.capabilities()).root
        return info_of(await self._rest.ask("GET", _path(sandbox_id)), root=root)

    async def open(self, sandbox_id: str) -> Sandbox:
        """Return a running one; see `SandboxProvider.open`."""
        if (info := await self.info(sandbox_id)).state == "paused":
            raise Conflict(f"The sandbox {sandbox_id} is paused.", "Resume it first.")
        return await self._connect(info, {})

    async def pause(self, sandbox_id: str, *, memory: bool = True) -> None:
        """Stop it; see `SandboxProvider.pause`."""
        await self._rest.ask("POST", f"{_path(sandbox_id)}/pause", {"memory": memory})

    async def resume(self, sandbox_id: str, *, memory: bool = True) -> Sandbox:
        """Let it go on; see `SandboxProvider.resume`."""
        return await self._connect(await self.info(sandbox_id), {} if memory else {"memory": False})

    async def fork(self, sandbox_id: str, spec: SandboxSpec | None = None) -> Sandbox:
        """Make a copy of it; one with settings of its own is made of a snapshot."""
        if spec is not None:
            return await self._fork_anew(sandbox_id, spec)
        info = await self.info(sandbox_id)
        idle = info.spec.idle_seconds
        copies = await self._rest.ask("POST", f"{_path(sandbox_id)}/fork", {"count": 1, "timeout": idle})
        if not isinstance(copies, list) or not copies:
            raise SandboxError("E2B's API made no copy of the sandbox.")
        copy = checked(copies[0])
        if "sandbox" not in copy:
            words = text_of(checked(copy.get("error") or {}), "message", "it gave no reason")
            raise SandboxError(f"E2B's API made no copy of the sandbox: {words[:300]}.")
        return self._sandbox(checked(copy["sandbox"]), idle, None)

    async def snapshot(self, sandbox_id: str, name: str | None = None) -> Snapshot:
        """Keep its state as a template."""
        body = {} if name is None else {"name": name}
        return snapshot_of(await self._rest.ask("POST", f"{_path(sandbox_id)}/snapshots", body), sandbox_id)

    async def snapshots(self) -> list[Snapshot]:
        """Return those that are kept, newest first as the API has them."""
        return [snapshot_of(item) async for item in self._rest.pages("/snapshots")]

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget one."""
        await self._rest.ask("DELETE", f"/templates/{quote(snapshot_id, safe='')}")

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change what it may reach, from now on; who may reach it stays as it was made."""
        told = egress(network)
        rules = checked(told["network"])
        body: dict[str, object] = {key: rules[key] for key in ("allowOut", "denyOut") if key in rules}
        body["allow_internet_access"] = told["allow_internet_access"]
        await self._rest.ask("PUT", f"{_path(sandbox_id)}/network", body)

    async def set_time(self, sandbox_id: str, seconds: float) -> None:
        """Let the clock over there leave a sandbox so many seconds from now on, and not less than its idle time."""
        idle = (await self.info(sandbox_id)).spec.idle_seconds
        await self._rest.ask("POST", f"{_path(sandbox_id)}/timeout", {"timeout": max(idle, math.ceil(seconds))})

    async def prolong(self, sandbox_id: str) -> None:
        """Keep a sandbox that is in use, though nobody asks anything of it; may be called often."""
        if self._prolonged.get(sandbox_id, -math.inf) + _PROLONG > time.monotonic():
            return
        await self._prolong(sandbox_id, (await self.info(sandbox_id)).spec.idle_seconds)
        self._prolonged[sandbox_id] = time.monotonic()

    async def _prolong(self, sandbox_id: str, seconds: int) -> None:
        """Give a sandbox this much time, unless it has more, which somebody else may have given it."""
        if time_left(await self._rest.ask("GET", _path(sandbox_id))) < seconds:
            await self._rest.ask("POST", f"{_path(sandbox_id)}/timeout", {"timeout": seconds})

    async def remove(self, sandbox_id: str) -> None:
        """End it and forget it, running or paused."""
        self._prolonged.pop(sandbox_id, None)
        self._workspaces.pop(sandbox_id, None)
        await self._rest.ask("DELETE", _path(sandbox_id))

    async def aclose(self) -> None:
        """Let go of connections. Sandboxes live on."""
        await self._rest.aclose()

    async def _newest(
        self, path: str, body: Mapping[str, object], old_body: Mapping[str, object], *, once: bool = False
    ) -> Any:
        """Ask the API's second version; where it has none, its first."""
        if not self._old:
            with contextlib.suppress(NotFound, Unsupported):
                return await self._rest.ask("POST", f"/v2{path}", body, once=once)
        found = await self._rest.ask("POST", path, old_body, once=once)
        self._old = True
        return found

    async def _connect(self, info: SandboxInfo, body: Mapping[str, object]) -> Sandbox:
        asked = {**body, "timeout": info.spec.idle_seconds}
        found = checked(await self._newest(f"{_path(info.id)}/connect", asked, asked))
        workspace = self._workspaces.get(info.id)
        if workspace is None and info.spec.session_id and self._workspace_of is not None:
            workspace = self._workspace_of(info.spec.session_id)
        sandbox = self._sandbox(found, info.spec.idle_seconds, workspace)
        if isinstance(sandbox, CopiedSandbox):
            await sandbox.sync.begin()
        return sandbox

    async def _fork_anew(self, source: str, spec: SandboxSpec) -> Sandbox:
        kept = await self.snapshot(source)
        try:
            return await self.create(replace(spec, template=kept.id))
        finally:
            with contextlib.suppress(OrchestrionError):
                await self.remove_snapshot(kept.id)

    def _sandbox(self, made: dict[str, Any], idle: int, workspace: Path | None) -> GuestSandbox:
        found = sandbox_id(made)
        traffic = text_of({"token": made.get("trafficAccessToken") or ""}, "token")
        edge = EdgeTransport(
            text_of({"domain": made.get("domain") or self._domain}, "domain"),
            found,
            {"E2b-Traffic-Access-Token": traffic} if traffic else {},
            ssl_context=self._ssl,
        )

        async def extend() -> None:
            await self._prolong(found, idle)

        async def end() -> None:
            await self.remove(found)

        kind = GuestSandbox if workspace is None else CopiedSandbox
        sandbox = kind(
            found,
            self.name,
            KeptTransport(edge, extend, idle),
            access_token=text_of({"token": made.get("envdAccessToken") or ""}, "token"),
            default_cwd=_HOME if workspace is None else INSIDE,
            on_close=end,
        )
        if isinstance(sandbox, CopiedSandbox) and workspace is not None:
            self._workspaces[found] = workspace
            sandbox.keep_in_step(WorkspaceSync(workspace, sandbox.files))
        return sandbox

    async def _settle_in(self, sandbox: GuestSandbox) -> None:
        """Make the directory that stands for the workspace, and bring the workspace in."""
        if not isinstance(sandbox, CopiedSandbox):
            return
        root = (await self.capabilities()).root
        command, user = (_MAKE_WORKSPACE, "root") if root else (f"test -w {INSIDE}", None)
        made = await GuestSandbox.run_command(sandbox, command, user=user, cwd="/", timeout=30)
        if made.exit_code:
            raise SandboxError(f"{INSIDE} could not be made in the sandbox: {made.stderr.strip()[:300]}.")
        await sandbox.sync.push()


def _path(sandbox_id: str) -> str:
    if not (sandbox_id.isascii() and sandbox_id.isalnum()):
        raise NotFound(f"There is no sandbox {sandbox_id[:60]!r}.")
    return f"/sandboxes/{sandbox_id}"
