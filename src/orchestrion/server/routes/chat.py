"""`POST /api/chat`: a goal comes in, a run goes out."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from orchestrion.core.events import RunState
from orchestrion.server.services import CallerDep
from orchestrion.store.models import AgentName, Budget, Mode, RunRequest

router = APIRouter(tags=["chat"])


class ChatRequest(BaseModel):
    """A message and how to go about it.

    Attributes:
        message: The goal, in the user's words.
        session_id: The conversation to carry on; none begins one.
        mode: `chat` forbids a task, `agent` forbids a plain answer.
        agent: The agent to use; none lets the supervisor decide.
        files: Paths in the session's workspace that the message is about.
        hitl: Whether the run may ask the user questions; no agent of this version asks any.
        budget: What the run may use.
        model: `provider:model` for this run.
        sandbox: The sandbox provider for this run.
    """

    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=200_000)
    session_id: str | None = None
    mode: Mode = "auto"
    agent: AgentName | None = None
    files: list[str] = Field(default=[], max_length=1000)
    hitl: bool | None = None
    budget: Budget | None = None
    model: str | None = None
    sandbox: str | None = None

    @field_validator("message")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("It has nothing but white space in it")
        return value

    def to_run(self) -> RunRequest:
        """Return it as the runtime takes it."""
        return RunRequest(
            goal=self.message,
            session_id=self.session_id,
            mode=self.mode,
            agent=self.agent,
            files=self.files,
            model=self.model,
            sandbox=self.sandbox,
            budget=self.budget or Budget(),
        )


class ChatAccepted(BaseModel):
    """Where to follow the run."""

    run_id: str
    session_id: str
    state: RunState
    stream_url: str


@router.post("/api/chat", status_code=202)
async def chat(body: ChatRequest, caller: CallerDep) -> ChatAccepted:
    """Accept a goal; the run goes on whether or not anyone follows it."""
    run = await caller.runtime.submit(body.to_run(), owner=caller.owner)
    caller.services.metrics.runs.inc()
    return ChatAccepted(
        run_id=run.run_id,
        session_id=run.session_id,
        state=run.state,
        stream_url=f"{caller.prefix}/api/stream/{run.run_id}",
    )
