"""Templates as clients name them: those that are built in, and snapshots."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from orchestrion.core.errors import NotFound
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import Snapshot
from orchestrion.server.e2b import paging, views
from orchestrion.server.e2b.answers import Refusal, answer, nothing
from orchestrion.server.e2b.catalogue import Catalogue
from orchestrion.server.e2b.routing import Call, Routes

BUILT_IN = ("base", "code-interpreter-v1")


class Templates:
    """The endpoints on templates and snapshots.

    Args:
        sandboxes: Where snapshots are kept.
        catalogue: What was built here.
    """

    def __init__(self, sandboxes: Sandboxes, catalogue: Catalogue) -> None:
        self._sandboxes = sandboxes
        self._catalogue = catalogue

    def install(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add("GET", "/snapshots", self.snapshots)
        for path in ("/templates", "/v2/templates", "/default-templates"):
            routes.add("GET", path, self.list)
        routes.add("GET", "/templates/aliases/{id}", self.alias)
        routes.add("DELETE", "/templates/{id}", self.remove)

    async def snapshots(self, call: Call) -> Response:
        """List the caller's snapshots."""
        source, name = call.query.get("sandboxID"), call.query.get("name")
        built = self._catalogue.snapshots(call.owner)
        kept = [
            views.ListedSnapshot(one)
            for one in await self._sandboxes.snapshots(call.owner)
            if one.id not in built
            and (source is None or one.sandbox_id == source)
            and (name is None or _is_called(one, name))
        ]
        chosen, headers = paging.page(kept, call.query)
        return answer([views.snapshot(one.snapshot) for one in chosen], headers=headers)

    async def list(self, call: Call) -> Response:
        """List what sandboxes can be made of."""
        mine = self._catalogue.names(call.owner)
        return answer([_template(name, public=True) for name in BUILT_IN] + [_template(name) for name in mine])

    async def alias(self, call: Call) -> Response:
        """Say whether a template of this name exists."""
        if call.id in BUILT_IN:
            return answer({"templateID": call.id, "public": True})
        if self._catalogue.find(call.owner, call.id):
            return answer({"templateID": call.id.partition(":")[0], "public": False})
        found = next((one for one in await self._sandboxes.snapshots(call.owner) if _is_called(one, call.id)), None)
        if found is None:
            raise Refusal(404, f"There is no template {call.id[:80]}.")
        return answer({"templateID": found.id, "public": False})

    async def remove(self, call: Call) -> Response:
        """Forget a template or a snapshot."""
        if call.id in BUILT_IN:
            raise Refusal(403, f"{call.id} is built in: it can't be removed.")
        if self._catalogue.tags(call.owner, call.id):
            for snapshot in self._catalogue.drop(call.owner, call.id):
                await self._sandboxes.remove_snapshot(snapshot, call.owner)
            return nothing()
        try:
            await self._sandboxes.remove_snapshot(call.id, call.owner)
        except NotFound:
            raise Refusal(404, f"There is no template {call.id[:80]}.") from None
        return nothing()


def _is_called(snapshot: Snapshot, name: str) -> bool:
    """Say whether a snapshot has a name, given with or without its tag."""
    names = {snapshot.id, *snapshot.names}
    return name in names or (":" not in name and any(known.partition(":")[0] == name for known in names))


def _template(name: str, *, public: bool = False) -> dict[str, Any]:
    return {"templateID": name, "names": [name], "aliases": [name], "public": public, "buildStatus": "ready"}
