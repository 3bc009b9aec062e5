"""The events of a run: typed facts, one discriminated union, the only thing a reader ever sees.

An event is built without a number (`seq` 0) and gets one when the journal appends it. The page, the command line,
the traces and every protocol we speak are renderings of this stream.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Agent: TypeAlias = Literal["orchestrator", "chat", "research", "data", "computer", "system"]
RunState: TypeAlias = Literal["queued", "running", "waiting", "finished", "failed", "cancelled", "budget_spent"]
TERMINAL_STATES: frozenset[str] = frozenset({"finished", "failed", "cancelled", "budget_spent"})


def _now() -> datetime:
    return datetime.now(UTC)


class EventBase(BaseModel):
    """What every event carries.

    Attributes:
        run_id: The run it belongs to.
        seq: Its number within the run, from 1, without gaps; 0 until the journal has appended it.
        ts: When it was made, UTC.
        agent: Who did it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str = ""
    seq: int = 0
    ts: datetime = Field(default_factory=_now)
    agent: Agent = "system"
    terminal: ClassVar[bool] = False


class FileRef(BaseModel):
    """A file of the session's workspace.

    Attributes:
        path: Relative to the workspace, with `/`.
        size: In bytes.
        media_type: As guessed from the name.
    """

    path: str
    size: int
    media_type: str = "application/octet-stream"


class RunCreated(EventBase):
    """A goal was accepted."""

    type: Literal["run.created"] = "run.created"
    session_id: str
    goal: str
    files: list[str] = []


class RunStarted(EventBase):
    """A worker took the run up; `model` is `provider:model` and `playbook` marks the model that is none."""

    type: Literal["run.started"] = "run.started"
    worker: str
    model: str = ""
    playbook: bool = False


class RunResumed(EventBase):
    """A run goes on after its worker died; messages that were not completed before this are void."""

    type: Literal["run.resumed"] = "run.resumed"
    worker: str
    reason: str


class RunPhase(EventBase):
    """A phase of a task began; chat has none."""

    type: Literal["run.phase"] = "run.phase"
    phase: Literal["plan", "execute", "report", "summarize"]
    title: str


class RunNotice(EventBase):
    """Something the user should know: a degradation, a retry, a citation that was removed."""

    type: Literal["run.notice"] = "run.notice"
    level: Literal["info", "warning"] = "warning"
    code: str
    text: str


class RunFinished(EventBase):
    """The run ended with its work done."""

    type: Literal["run.finished"] = "run.finished"
    terminal: ClassVar[bool] = True
    answer: str
    files: list[FileRef] = []


class RunFailed(EventBase):
    """The run ended with an error; whatever work exists is in `files`."""

    type: Literal["run.failed"] = "run.failed"
    terminal: ClassVar[bool] = True
    code: str
    error: str
    remedy: str = ""
    answer: str = ""
    files: list[FileRef] = []


class RunCancelledEvent(EventBase):
    """The run was stopped by its user."""

    type: Literal["run.cancelled"] = "run.cancelled"
    terminal: ClassVar[bool] = True
    answer: str = ""
    files: list[FileRef] = []


class RunBudgetSpent(EventBase):
    """The run reached a budget and ended with a partial result."""

    type: Literal["run.budget_spent"] = "run.budget_spent"
    terminal: ClassVar[bool] = True
    kind: str
    limit: float
    answer: str = ""
    files: list[FileRef] = []


class RouteDecided(EventBase):
    """The supervisor's decision with its reason."""

    type: Literal["route.decided"] = "route.decided"
    target: Literal["chat", "research", "data", "computer"]
    reason: str
    by: Literal["rule", "model", "user"]
    skill: str | None = None


class PlanStep(BaseModel):
    """One line of the plan."""

    text: str
    status: Literal["pending", "active", "done", "failed", "skipped"] = "pending"


class PlanUpdated(EventBase):
    """The plan as it stands now."""

    type: Literal["plan.updated"] = "plan.updated"
    steps: list[PlanStep]


class MessageDelta(EventBase):
    """A piece of a streamed message; `phase` is empty for a plain answer."""

    type: Literal["message.delta"] = "message.delta"
    message_id: str
    text: str
    phase: str = ""


class MessageCompleted(EventBase):
    """A whole message; it equals its deltas put together."""

    type: Literal["message.completed"] = "message.completed"
    message_id: str
    text: str
    phase: str = ""


class ToolStarted(EventBase):
    """A tool call began."""

    type: Literal["tool.started"] = "tool.started"
    call_id: str
    name: str
    args: dict[str, Any]
    read_only: bool = False


class RichResult(BaseModel):
    """A result that is more than text.

    Attributes:
        kind: `text`, `markdown`, `latex`, `html` (a table), `json`, `chart` (E2B's description of one, as JSON), or a
            file: `png`, `jpeg`, `svg`, `pdf`.
        data: The text itself; for a file its path in the workspace.
    """

    kind: Literal["text", "markdown", "latex", "html", "json", "chart", "png", "jpeg", "svg", "pdf"]
    data: str


class ToolOutput(EventBase):
    """Output of a tool while it runs."""

    type: Literal["tool.output"] = "tool.output"
    call_id: str
    stream: Literal["stdout", "stderr", "result"]
    text: str = ""
    result: RichResult | None = None


class ToolFinished(EventBase):
    """A tool call ended; `result` is what the model was told."""

    type: Literal["tool.finished"] = "tool.finished"
    call_id: str
    name: str
    status: Literal["ok", "error", "unknown", "cancelled"]
    result: str
    seconds: float


class ArtifactWritten(EventBase):
    """A file of the workspace is there for the user."""

    type: Literal["artifact.written"] = "artifact.written"
    file: FileRef
    title: str = ""


class SandboxCreated(EventBase):
    """A sandbox was made for the session; `caveats` says what of the settings its provider does not keep."""

    type: Literal["sandbox.created"] = "sandbox.created"
    sandbox_id: str
    provider: str
    seconds: float
    caveats: str = ""


class SandboxReused(EventBase):
    """The session's sandbox was found alive, with its files and variables."""

    type: Literal["sandbox.reused"] = "sandbox.reused"
    sandbox_id: str
    provider: str


class SandboxResumed(EventBase):
    """The session's sandbox was paused and goes on, with its files and variables."""

    type: Literal["sandbox.resumed"] = "sandbox.resumed"
    sandbox_id: str
    provider: str
    seconds: float


class SandboxRestored(EventBase):
    """The session's sandbox was started anew on its files; live variables are gone."""

    type: Literal["sandbox.restored"] = "sandbox.restored"
    sandbox_id: str
    provider: str
    seconds: float


class SandboxLost(EventBase):
    """The sandbox died; the workspace is kept, live variables are gone."""

    type: Literal["sandbox.lost"] = "sandbox.lost"
    sandbox_id: str
    provider: str
    reason: str


class SandboxEgress(EventBase):
    """Code in the sandbox asked for the network; like requests are counted together, so sum over these events.

    Attributes:
        host: Where to; `…` stands for more hosts than are told apart.
        rule: What allowed or denied it; empty if no rule allows it.
        reason: Why it was denied, or failed.
        requests: How many since the last event of this kind.
        bytes_in: What came back to the sandbox.
        bytes_out: What the sandbox sent.
    """

    type: Literal["sandbox.egress"] = "sandbox.egress"
    sandbox_id: str
    host: str
    port: int
    verdict: Literal["allowed", "denied"]
    rule: str = ""
    reason: str = ""
    requests: int = 1
    bytes_in: int = 0
    bytes_out: int = 0


class Usage(BaseModel):
    """Tokens and money.

    Attributes:
        usd: Cost in US dollars; None where the price of the model is not known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    usd: float | None = None


class UsageRecorded(EventBase):
    """What one model call used, and the run's total so far; `source` says who called: an agent, or code inside."""

    type: Literal["usage.recorded"] = "usage.recorded"
    model: str
    source: Literal["agent", "sandbox"] = "agent"
    call: Usage
    total: Usage


class LlmCalled(EventBase):
    """A model call that was answered; `prompt` and `response` name stored blobs (see `store.blobs`).

    Attributes:
        source: Who called: an agent, or code in its sandbox.
    """

    type: Literal["llm.called"] = "llm.called"
    model: str
    role: str
    source: Literal["agent", "sandbox"] = "agent"
    prompt: list[str]
    response: str
    seconds: float
    first_token_seconds: float | None = None


class ModelRetried(EventBase):
    """A model call failed in passing and is tried again; its unfinished message is void."""

    type: Literal["model.retried"] = "model.retried"
    attempt: int
    wait_seconds: float
    reason: str
    message_id: str | None = None


Event: TypeAlias = Annotated[
    RunCreated
    | RunStarted
    | RunResumed
    | RunPhase
    | RunNotice
    | RunFinished
    | RunFailed
    | RunCancelledEvent
    | RunBudgetSpent
    | RouteDecided
    | PlanUpdated
    | MessageDelta
    | MessageCompleted
    | ToolStarted
    | ToolOutput
    | ToolFinished
    | ArtifactWritten
    | SandboxCreated
    | SandboxReused
    | SandboxResumed
    | SandboxRestored
    | SandboxLost
    | SandboxEgress
    | UsageRecorded
    | LlmCalled
    | ModelRetried,
    Field(discriminator="type"),
]

event_adapter: TypeAdapter[Event] = TypeAdapter(Event)
