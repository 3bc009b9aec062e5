"""The context that graphs run with: what tools may reach, and what only middleware may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from langchain.agents.middleware.types import ToolCallRequest

from orchestrion.middleware.ledger import Ledger
from orchestrion.middleware.meter import Meter
from orchestrion.store.models import Budget
from orchestrion.tools.context import RunContext


def _no_limit() -> Meter:
    return Meter(Budget())


@dataclass
class AgentContext(RunContext):
    """The context of a run that an agent carries out.

    Attributes:
        meter: What the run has used.
        ledger: The tool calls that the journal knows from before the run was resumed.
    """

    meter: Meter = field(default_factory=_no_limit)
    ledger: Ledger = field(default_factory=Ledger)


def tool_context(request: ToolCallRequest) -> AgentContext:
    """Return the context of a tool call; LangChain types it as unknown there."""
    return cast(AgentContext, request.runtime.context)
