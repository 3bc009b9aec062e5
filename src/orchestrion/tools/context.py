"""What a tool may reach: its run's workspace, sandbox, settings, and the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrion.core.events import Agent, EventBase, PlanStep
from orchestrion.core.settings import Settings
from orchestrion.sandbox.protocols import Sandbox
from orchestrion.store.workspace import Workspace


async def _nothing() -> None:
    """Release what was never acquired."""


@dataclass
class RunContext:
    """The context of one run, handed to graphs, middleware and tools by LangGraph's runtime.

    Attributes:
        run_id: The run.
        session_id: Its session.
        workspace: The session's files.
        settings: The effective settings.
        append: Appends an event to the journal; use `emit`.
        acquire_sandbox: Returns the session's sandbox, made on the first call.
        agent: Who is acting now; stamped on events.
        phase: The phase of a task; empty for a plain answer.
        user_urls: The URLs that the user's own goal names.
        private_urls_allowed: Whether the machine is the user's alone, so that a private URL they name may be fetched.
        plan: The plan's steps as they stand.
        task_files: Paths the goal is about.
        streaming_message: The message that a model is streaming now, void if the call fails.
        naming: Held while a file gets a name that nothing else has.
        release_sandbox: Ends the run's use of the sandbox.
    """

    run_id: str
    session_id: str
    workspace: Workspace
    settings: Settings
    append: Callable[[EventBase], Awaitable[EventBase]]
    acquire_sandbox: Callable[[], Awaitable[Sandbox]]
    agent: Agent = "orchestrator"
    phase: str = ""
    user_urls: frozenset[str] = frozenset()
    private_urls_allowed: bool = False
    plan: list[PlanStep] = field(default_factory=list)
    task_files: list[str] = field(default_factory=list)
    streaming_message: str | None = None
    naming: asyncio.Lock = field(default_factory=asyncio.Lock)
    release_sandbox: Callable[[], Awaitable[None]] = _nothing

    async def emit(self, event: EventBase) -> None:
        """Append an event, stamped with this run and, unless it says another, the acting agent."""
        agent = self.agent if event.agent == "system" else event.agent
        await self.append(event.model_copy(update={"run_id": self.run_id, "agent": agent}))

    async def sandbox(self) -> Sandbox:
        """Return the session's sandbox; the first call makes it.

        Raises:
            SandboxUnavailable: None can be made here.
        """
        return await self.acquire_sandbox()
