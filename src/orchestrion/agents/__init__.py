"""The agents: each a LangGraph graph, assembled from a model, tools and middleware."""

from orchestrion.agents.assembly import ABILITIES, AgentGraph, Agents

__all__ = ["ABILITIES", "AgentGraph", "Agents"]
