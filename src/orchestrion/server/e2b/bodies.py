"""What clients may ask for: each body checked field by field.

A field that is not served here and carries a value is refused, as leaving it out would change what the caller gets.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from orchestrion.sandbox.protocols import Network
from orchestrion.server.e2b.answers import Refusal

LONGEST_SECONDS = 30 * 24 * 3600
_EVERYTHING = frozenset({"0.0.0.0/0", "::/0"})
_Seconds = Annotated[int, Field(ge=0, le=LONGEST_SECONDS)]
_Port = Annotated[int, Field(ge=1, le=65535)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, data: object) -> object:
        """Take what is empty for what is not there."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None and value not in ({}, [], "")}


class AutoResume(Body):
    """Whether traffic wakes a paused sandbox."""

    enabled: bool = False


class Egress(Body):
    """What a sandbox may reach."""

    allow_out: list[str] = []
    deny_out: list[str] = []


class NetworkBody(Egress):
    """Egress, and how its ports are reached."""

    allow_public_traffic: bool = True
    mask_request_host: str = Field(default="", max_length=255, pattern=r"^[\x21-\x7e]*$")
    https_ports: list[_Port] = []


class NetworkUpdate(Egress):
    """Replaces what a sandbox may reach."""

    allow_internet_access: bool | None = Field(default=None, alias="allow_internet_access")


class NewSandbox(Body):
    """`POST /sandboxes`, both versions."""

    template_id: str = Field(alias="templateID", max_length=200)
    timeout: _Seconds = 300
    auto_pause: bool = False
    auto_pause_memory: bool = True
    auto_resume: AutoResume = AutoResume()
    secure: bool = True
    allow_internet_access: bool | None = Field(default=None, alias="allow_internet_access")
    network: NetworkBody = NetworkBody()
    metadata: dict[str, str] = {}
    env_vars: dict[str, str] = {}
    # For the record only: the client itself starts the gateway that this configures, if the template has one.
    mcp: dict[str, object] = {}


class Connect(Body):
    """`POST /sandboxes/{id}/connect` and `/resume`."""

    timeout: _Seconds = 300
    memory: bool = True
    auto_pause: bool | None = None


class Timeout(Body):
    """`POST /sandboxes/{id}/timeout`."""

    timeout: _Seconds


class Refresh(Body):
    """`POST /sandboxes/{id}/refreshes`."""

    duration: _Seconds = 15


class Pause(Body):
    """`POST /sandboxes/{id}/pause`."""

    memory: bool = True
    require_healthy_guest: bool = False


class Fork(Body):
    """`POST /sandboxes/{id}/fork`."""

    timeout: _Seconds = 15
    count: int = Field(default=1, ge=1, le=100)


class SnapshotBody(Body):
    """`POST /sandboxes/{id}/snapshots`."""

    name: str | None = Field(default=None, max_length=128)
    memory: bool | None = None


class NewTemplate(Body):
    """`POST /v3/templates`. What it says of sizes is for show: they are the server's own."""

    name: str | None = Field(default=None, max_length=128)
    alias: str | None = Field(default=None, max_length=128)
    tags: list[str] = []
    team_id: str | None = Field(default=None, alias="teamID")
    cpu_count: int | None = None
    memory_mb: int | None = Field(default=None, alias="memoryMB")
    min_free_disk_mb: int | None = None


class Step(Body):
    """One step of a template's build."""

    type: Literal["COPY", "ENV", "RUN", "WORKDIR", "USER"]
    args: list[str] = []
    force: bool = False
    files_hash: str | None = None
    force_upload: bool = False


class Build(Body):
    """`POST /v2/templates/{id}/builds/{buildID}`."""

    from_image: str | None = None
    from_template: str | None = None
    steps: list[Step] = []
    start_cmd: str | None = None
    ready_cmd: str | None = None
    force: bool = False


class Tags(Body):
    """`POST /templates/tags`."""

    target: str
    tags: list[str]


class TagRemoval(Body):
    """`DELETE /templates/tags`."""

    name: str
    tags: list[str]


B = TypeVar("B", bound=Body)


def parse(kind: type[B], raw: bytes) -> B:
    """Read a body; an empty one is an object without fields.

    Raises:
        Refusal: It is no JSON object, a value is wrong, or a field is not served here.
    """
    try:
        data = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError:
        raise Refusal(400, "The body is no JSON.") from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise Refusal(400, _sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first: Any = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"This server does not offer `{field}`, and won't ignore it: leave it out."
    if first["type"] == "missing":
        return f"`{field}` is missing."
    return f"`{field or 'body'}` is wrong: {first['msg'][0].lower()}{first['msg'][1:]}."


def reach(egress: Egress, internet: bool | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what may be reached, and what not, in our terms.

    With E2B everything public is open until it is shut; with us everything is shut until it is opened.
    """
    shut = internet is False or bool(_EVERYTHING & set(egress.deny_out))
    deny = tuple(name for name in egress.deny_out if name not in _EVERYTHING)
    return tuple(egress.allow_out) if shut else ("*", *egress.allow_out), deny


def network(body: NewSandbox) -> Network:
    """Return a new sandbox's network."""
    allow, deny = reach(body.network, body.allow_internet_access)
    return Network(
        allow=allow,
        deny=deny,
        public_ports=body.network.allow_public_traffic,
        mask_host=body.network.mask_request_host,
        https_ports=tuple(body.network.https_ports),
    )
