"""What is kept about sessions and runs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrion.core.events import TERMINAL_STATES, RunState, Usage

Mode = Literal["auto", "chat", "agent"]
AgentName = Literal["chat", "research", "data", "computer"]


class Budget(BaseModel):
    """What a run may use; None means the setting's value.

    Attributes:
        usd: US dollars for model calls.
        tokens: Input and output tokens together.
        steps: Model calls.
        seconds: Wall time.
    """

    model_config = ConfigDict(extra="forbid")

    usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    tokens: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class RunRequest(BaseModel):
    """A goal and how to go about it.

    Attributes:
        goal: What the user wants, in their words.
        session_id: The conversation to carry on; None begins one.
        mode: `chat` forbids a task, `agent` forbids a plain answer, `auto` lets the supervisor decide.
        agent: The user's own choice of agent; it wins.
        files: Paths in the session's workspace (`uploads/…`) that the goal is about.
        model: `provider:model` for every role of this run; `playbook` for none.
        sandbox: The provider to use.
        budget: What it may use.
    """

    model_config = ConfigDict(extra="forbid")

    goal: str = Field(min_length=1, max_length=200_000)
    session_id: str | None = None
    mode: Mode = "auto"
    agent: AgentName | None = None
    files: list[str] = []
    model: str | None = None
    sandbox: str | None = None
    budget: Budget = Budget()


class Session(BaseModel):
    """A conversation and its workspace."""

    session_id: str
    title: str
    owner: str
    created_at: datetime
    updated_at: datetime


class Run(BaseModel):
    """One goal within a session, as it stands."""

    run_id: str
    session_id: str
    state: RunState
    request: RunRequest
    target: AgentName | None = None
    worker: str | None = None
    answer: str = ""
    error: str = ""
    usage: Usage = Usage()
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether it is in a terminal state."""
        return self.state in TERMINAL_STATES
