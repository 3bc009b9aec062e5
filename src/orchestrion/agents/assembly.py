"""Assembles each agent from its parts, once for each model, and keeps it: building a graph costs more than a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph

from orchestrion.middleware.budget import BudgetLimit
from orchestrion.middleware.context import AgentContext
from orchestrion.middleware.effects import EffectsLedger
from orchestrion.middleware.retry import Retry
from orchestrion.middleware.tool_errors import ToolErrors
from orchestrion.middleware.unique_calls import UniqueCalls
from orchestrion.prompts import render
from orchestrion.store.models import AgentName

AgentGraph: TypeAlias = CompiledStateGraph[Any, AgentContext, Any, Any]

_GRAPHS = 64

ABILITIES: dict[AgentName, str] = {
    "data": "analyses data files in a sandbox: profile, cleaning, statistics, charts, a report",
    "research": "answers from uploaded documents and given URLs: search, reading, a report with checked citations",
}


def _tools(name: AgentName) -> Sequence[BaseTool]:
    from orchestrion.tools import data_tools, research_tools

    return data_tools() if name == "data" else research_tools()


class Agents:
    """The agents of this process.

    Args:
        checkpoints: Where their steps are kept.
    """

    def __init__(self, checkpoints: BaseCheckpointSaver[str]) -> None:
        self._checkpoints = checkpoints
        self._graphs: dict[tuple[AgentName, int], tuple[BaseChatModel, AgentGraph]] = {}

    def graph(self, name: AgentName, model: BaseChatModel) -> AgentGraph:
        """Return the graph of an agent that thinks with `model`."""
        key = (name, id(model))
        if key not in self._graphs:
            if len(self._graphs) >= _GRAPHS:
                self._graphs.clear()  # clients choose the models, so the cache is bounded; graphs come back at a call
            self._graphs[key] = (model, self._assemble(name, model))
        return self._graphs[key][1]

    def _assemble(self, name: AgentName, model: BaseChatModel) -> AgentGraph:
        return create_agent(
            model,
            _tools(name),
            system_prompt=render("agents", name),
            middleware=[EffectsLedger(), ToolErrors(), BudgetLimit(), UniqueCalls(), Retry()],
            context_schema=AgentContext,
            checkpointer=self._checkpoints,
            name=name,
        )
