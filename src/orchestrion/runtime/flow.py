"""The hybrid flow: answer at once, or plan outside the sandbox, execute inside it, and sum up outside again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from orchestrion.agents import ABILITIES, AgentGraph, Agents
from orchestrion.core.errors import InvalidInput, OrchestrionError
from orchestrion.core.events import ArtifactWritten, PlanStep, PlanUpdated, RouteDecided, RunPhase
from orchestrion.middleware.context import AgentContext
from orchestrion.middleware.model_calls import ModelCallRecorder
from orchestrion.middleware.retry import call_with_retries
from orchestrion.models import Models, require_end
from orchestrion.prompts import render
from orchestrion.runtime import planning
from orchestrion.runtime.partial import partial_report, spoken_report
from orchestrion.runtime.past import PARTIAL, REPORT, Past
from orchestrion.store.models import AgentName, Run
from orchestrion.store.protocols import Journal
from orchestrion.store.workspace import UPLOADS

log = structlog.get_logger(__name__)

_HISTORY_CHARACTERS = 60_000
_REPORT_CHARACTERS = 60_000
_REPORT_TAG = re.compile(r"<(?=\s*/?\s*report)", re.IGNORECASE)
_COORDINATION = ("plan.md", "task.md", REPORT, "summary.md", "citations.json")


@dataclass
class Flow:
    """One run on its way.

    Attributes:
        run: The run.
        context: What its graphs, middleware and tools get.
        models: Who answers for each role.
        agents: The agents' graphs.
        recorder: Records its model calls.
        journal: Where its events are.
        history: Earlier finished runs of the session, oldest first.
        past: What this run had done before it was resumed.
        decision: Who takes it.
    """

    run: Run
    context: AgentContext
    models: Models
    agents: Agents
    recorder: ModelCallRecorder
    journal: Journal
    history: list[Run]
    past: Past
    decision: RouteDecided

    @property
    def _config(self) -> dict[str, Any]:
        return {
            "configurable": {"thread_id": self.run.run_id},
            "callbacks": [self.recorder],
            "recursion_limit": 10_000,
        }

    async def carry_out(self) -> str:
        """Take the run to its end and return the answer.

        Raises:
            BudgetSpent: A budget is used up; a partial report is there.
            OrchestrionError: It failed; likewise.
        """
        target = self.decision.target
        self.run.target = target
        if target == "chat":
            return await self._chat()
        if target == "computer":
            raise InvalidInput(
                "This goal needs a browser, and driving one is not part of this version of Orchestrion.",
                "Give the page's address and ask for its contents instead, or choose another agent.",
            )
        return await self._task(target)

    async def _chat(self) -> str:
        """Answer at once: one model call, which has no step to come back to and so needs no graph."""
        self.context.agent = "chat"
        messages: list[BaseMessage] = []
        for run in self.history:
            messages += [HumanMessage(run.request.goal), AIMessage(run.answer)]
        while sum(len(message.text) for message in messages) > _HISTORY_CHARACTERS:
            del messages[:2]
        prompt = [SystemMessage(render("agents", "chat")), *messages, HumanMessage(self.run.request.goal)]
        async with self.context.meter.deadline():
            return await self._call("chat", prompt)

    async def _task(self, agent: AgentName) -> str:
        try:
            async with self.context.meter.deadline():
                task = await self._plan(agent)
                if self.past.phase != "summarize":
                    await self._execute(agent, task)
                return await self._summarize("The task is done.")
        except Exception as error:
            try:
                await self._rescue(str(error))
            except OrchestrionError as lost:  # what ended the run matters more than that its report can't be kept
                log.warning("no partial report could be written", error=str(lost))
            raise

    async def _plan(self, agent: AgentName) -> str:
        """Have the plan made, unless it is there, and return task.md."""
        workspace = self.context.workspace
        if self.past.plan and await workspace.exists("task.md"):
            self.context.plan = self.past.plan
            self.context.task_files = self.run.request.files or [file.path for file in await workspace.list(UPLOADS)]
            return await workspace.read_text("task.md")
        await self._phase("plan", "Planning")
        await self._set_aside()
        files = [workspace.stat(path) for path in self.context.task_files] or await workspace.list(UPLOADS)
        self.context.task_files = [file.path for file in files]
        earlier = planning.earlier_text(self.history)
        asked = render(
            "orchestrator",
            "plan_user",
            goal=self.run.request.goal,
            agent=agent,
            ability=ABILITIES[agent],
            files=planning.file_lines(files),
            earlier=earlier,
        )
        plan = await self._ask(render("orchestrator", "plan_system"), asked)
        steps = planning.steps_of(plan, agent)
        task = planning.task_text(self.run.request.goal, files, steps, earlier)
        await self._write("plan.md", f"# Plan\n\n{plan.strip()}\n", "The plan")
        await self._write("task.md", task, "The agent's task")
        await self._show_plan(steps)
        return task

    async def _execute(self, agent: AgentName, task: str) -> None:
        """Let the agent work; make sure that a report comes of it."""
        await self._phase("execute", f"The {agent} agent is at work")
        self.context.agent = agent
        graph = self.agents.graph(agent, await self.models.prepare(agent))
        words = await self._run_graph(graph, [HumanMessage(task)])
        self.context.agent = "orchestrator"
        past = await self._look_back()
        if not past.report_written:
            await self._write(REPORT, spoken_report(self.run.request.goal, words, past), "The report")
        await self._show_plan([_settled(step) for step in self.context.plan])

    async def _summarize(self, outcome: str) -> str:
        await self._phase("summarize", "Summing up")
        report = await self.context.workspace.read_text(REPORT, limit=_REPORT_CHARACTERS)
        asked = render(
            "orchestrator",
            "summary_user",
            goal=self.run.request.goal,
            outcome=outcome,
            report=_REPORT_TAG.sub("<\u200b", report),
        )
        summary = await self._ask(render("orchestrator", "summary_system"), asked)
        await self._write("summary.md", f"# Summary\n\n{summary.strip()}\n", "The summary")
        return summary

    async def _rescue(self, reason: str) -> None:
        """Make a report of what a task found before it stopped."""
        self.context.agent, self.context.phase = "orchestrator", "report"
        past = await self._look_back()
        if past.phase == "summarize":
            return
        await self._phase("report", "Keeping what was found")
        reason = reason[:1].upper() + reason[1:] + ("" if reason.endswith(".") else ".")
        if past.report_written:
            report = await self.context.workspace.read_text(REPORT)
            text = f"> **This work is not complete.** {reason}\n\n{report}"
        else:
            text = partial_report(self.run.request.goal, past, reason)
        await self._write(REPORT, text, PARTIAL)
        await self._write("summary.md", f"# Summary\n\nThe work stopped early. {reason}\n", "The summary")

    async def _set_aside(self) -> None:
        """Keep the papers of the session's earlier task under numbered names."""
        workspace = self.context.workspace
        number = 1
        while any([await workspace.exists(_numbered(name, number)) for name in _COORDINATION]):
            number += 1
        for name in _COORDINATION:
            if await workspace.exists(name):
                await workspace.write_bytes(_numbered(name, number), await workspace.read_bytes(name))
                await workspace.delete(name)

    async def _run_graph(self, graph: AgentGraph, messages: Sequence[BaseMessage]) -> str:
        """Run an agent from its last checkpoint, or from `messages`, and return its last words."""
        config: Any = self._config
        given: Any = {"messages": list(messages)}
        if self.past.events:
            state = await graph.aget_state(config)
            if state.values.get("messages"):
                given = None
                if not state.next:
                    return _last_words(state.values["messages"])
        # A step is kept before the next begins: a tool call whose step is lost would be asked for, and made, again.
        result = await graph.ainvoke(given, config, context=self.context, durability="sync")
        return _last_words(result["messages"])

    async def _ask(self, system: str, asked: str) -> str:
        """Ask the orchestrator's model directly."""
        self.context.agent = "orchestrator"
        return await self._call("orchestrator", [SystemMessage(system), HumanMessage(asked)])

    async def _call(self, role: str, prompt: list[BaseMessage]) -> str:
        """Call a role's model once; its answer streams to the readers."""
        model: BaseChatModel = await self.models.prepare(role)

        async def call() -> AIMessage:
            self.context.meter.check()
            said = await model.ainvoke(prompt, config={"callbacks": [self.recorder]})
            require_end(said)
            return said

        answer = await call_with_retries(self.context, call)
        self.context.meter.steps += 1
        return answer.text

    async def _phase(self, phase: Any, title: str) -> None:
        self.context.agent, self.context.phase = "orchestrator", phase
        await self.context.emit(RunPhase(phase=phase, title=title))

    async def _show_plan(self, steps: list[PlanStep]) -> None:
        self.context.plan = steps
        await self.context.emit(PlanUpdated(steps=steps))

    async def _write(self, path: str, text: str, title: str) -> None:
        file = await self.context.workspace.write_text(path, text)
        await self.context.emit(ArtifactWritten(file=file, title=title))

    async def _look_back(self) -> Past:
        events, after = [], 0
        while page := await self.journal.read(self.run.run_id, after=after):
            events += page
            after = page[-1].seq
        return Past.from_events(events)


def _settled(step: PlanStep) -> PlanStep:
    """A step that the agent did not tick before it ended its work was passed over."""
    return step if step.status == "done" else PlanStep(text=step.text, status="skipped")


def _numbered(name: str, number: int) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}-{number}.{ending}"


def _last_words(messages: Sequence[BaseMessage]) -> str:
    return next((message.text for message in reversed(messages) if isinstance(message, AIMessage)), "")
