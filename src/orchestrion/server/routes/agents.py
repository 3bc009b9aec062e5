"""`GET /api/agents`: who can carry a goal out."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from orchestrion.store.models import AgentName

router = APIRouter(tags=["agents"])


class AgentInfo(BaseModel):
    """An agent, as shown to someone who chooses one."""

    name: AgentName
    title: str
    description: str
    sandbox: bool


class Agents(BaseModel):
    """The agents of this server."""

    agents: list[AgentInfo]


_AGENTS = Agents(
    agents=[
        AgentInfo(
            name="chat",
            title="Chat",
            description="Answers at once, with one model call and no sandbox.",
            sandbox=False,
        ),
        AgentInfo(
            name="research",
            title="Research",
            description="Reads your documents and the addresses you give, and writes a report that quotes them.",
            sandbox=True,
        ),
        AgentInfo(
            name="data",
            title="Data",
            description="Profiles, cleans and charts your tables, and writes a report with the findings.",
            sandbox=True,
        ),
    ]
)


@router.get("/api/agents")
async def list_agents() -> Agents:
    """List the agents."""
    return _AGENTS
