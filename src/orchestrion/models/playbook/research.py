"""The research agent's part: fetch, list, search, read, and an extractive report that invents nothing.

Every statement of the report is a sentence of a source, quoted word for word; what was looked for and not found is
said. The state is read from the messages alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage

from orchestrion.models.playbook import prompt
from orchestrion.models.playbook.extract import Findings, Passage, report_arguments
from orchestrion.models.playbook.topics import topics_of, urls_of

_MOST_URLS = 10
_MOST_READ = 8
_FENCED = re.compile(r'<source id="(S\d+)" title="([^"]*)" offset="(\d+)"[^>]*>\n(.*?)\n</source>', re.DOTALL)
_LISTED = re.compile(r'^- (S\d+): "([^"]*)" from (.+) \((\w+), (\d+) characters', re.MULTILINE)
_UNREADABLE = re.compile(r"^Not readable:\n((?:- .+\n?)+)", re.MULTILINE)
_WROTE = re.compile(r"(\d+) checked citations?")


@dataclass
class _State:
    """What has happened since the task was given: tool results by name, as (arguments, text, failed)."""

    results: dict[str, list[tuple[dict[str, Any], str, bool]]] = field(default_factory=dict)
    calls: int = 0

    def texts(self, name: str) -> list[str]:
        """Return what a tool answered, failures aside."""
        return [text for _, text, failed in self.results.get(name, []) if not failed]

    def did(self, name: str) -> bool:
        """Say whether a tool has answered."""
        return name in self.results


def play(messages: list[BaseMessage], tools: list[str]) -> AIMessage:
    """Return the next move."""
    start = max((at for at, message in enumerate(messages) if isinstance(message, HumanMessage)), default=-1)
    brief = prompt.read(messages[start].text if start >= 0 else "")
    state = _state(messages[start + 1 :])
    wanted, phase = _next(brief, state, set(tools))
    if not wanted:
        return AIMessage(_closing(state))
    plan = _plan_call(brief, state, phase, set(tools))
    calls = [
        ToolCall(name=name, args=arguments, id=f"call_{len(messages)}_{number}", type="tool_call")
        for number, (name, arguments) in enumerate([*plan, *wanted], 1)
    ]
    return AIMessage(content="", tool_calls=calls)


def _state(messages: list[BaseMessage]) -> _State:
    state = _State()
    asked: dict[str, ToolCall] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            asked |= {str(call["id"]): call for call in message.tool_calls}
        elif isinstance(message, ToolMessage) and message.tool_call_id in asked:
            call = asked[message.tool_call_id]
            result = (call["args"], message.text, message.status == "error")
            state.results.setdefault(call["name"], []).append(result)
    return state


def _next(brief: prompt.Brief, state: _State, tools: set[str]) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """Return the calls to make now and the plan's phase, 0 to 3, that they belong to."""
    urls = urls_of(brief.goal)[:_MOST_URLS]
    topics = topics_of(brief.goal)
    sources = [found[0] for text in state.texts("list_sources")[-1:] for found in _LISTED.findall(text)]
    moves: list[tuple[str, int, list[dict[str, Any]]]] = [
        ("web_fetch", 0, [{"url": url} for url in urls]),
        ("list_sources", 0, [{}]),
        ("search_documents", 1, [{"query": topic.query} for topic in topics] if sources else []),
        ("read_source", 2, [{"source": source} for source in sources[:_MOST_READ]]),
    ]
    for name, phase, arguments in moves:
        if name in tools and arguments and not state.did(name):
            return [(name, argument) for argument in arguments], phase
    if "write_report" in tools and not state.did("write_report"):
        return [("write_report", report_arguments(brief.goal, topics, _findings(brief, state)))], 3
    if "update_plan" in tools and brief.steps and not _all_done(brief, state):
        return [("update_plan", {"done": list(range(1, len(brief.steps) + 1))})], 3
    return [], 3


def _all_done(brief: prompt.Brief, state: _State) -> bool:
    return any(len(arguments.get("done", [])) >= len(brief.steps) for arguments, _, _ in state.results["update_plan"])


def _plan_call(brief: prompt.Brief, state: _State, phase: int, tools: set[str]) -> list[tuple[str, dict[str, Any]]]:
    """Tick the plan when a phase begins: its steps are spread over the four phases."""
    if "update_plan" not in tools or not brief.steps or state.did("write_report"):
        return []
    active = min(len(brief.steps), phase * len(brief.steps) // 4 + 1)
    told = [arguments.get("active") for arguments, _, _ in state.results.get("update_plan", [])]
    return [] if active in told else [("update_plan", {"done": list(range(1, active)), "active": active})]


def _findings(brief: prompt.Brief, state: _State) -> Findings:
    listing = "\n".join(state.texts("list_sources")[-1:])
    searches = state.results.get("search_documents", [])
    unreadable = [line[2:] for block in _UNREADABLE.findall(listing) for line in block.splitlines()]
    failed = [f"{args.get('url', '')}: {text}" for args, text, bad in state.results.get("web_fetch", []) if bad]
    left_out = [f"{url}: not fetched, the goal names too many URLs" for url in urls_of(brief.goal)[_MOST_URLS:]]
    return Findings(
        titles={found[0]: found[1] for found in _LISTED.findall(listing)},
        origins={found[0]: found[2] for found in _LISTED.findall(listing)},
        passages={str(args.get("query", "")): _passages(text) for args, text, bad in searches if not bad},
        openings={passage.source: passage.text for text in state.texts("read_source") for passage in _passages(text)},
        unreadable=[*unreadable, *failed, *left_out],
    )


def _passages(text: str) -> list[Passage]:
    return [Passage(source, int(offset), body) for source, _, offset, body in _FENCED.findall(text)]


def _closing(state: _State) -> str:
    written = state.results.get("write_report", [])
    if not written:
        return "I have no tool to write a report with."
    _, text, failed = written[-1]
    if failed:
        return f"The report could not be written: {text}"
    count = _WROTE.search(text)
    cited = int(count.group(1)) if count else 0
    if not cited:
        return "The report is in report.md; no source could be quoted, and it says why."
    return (
        f"The report is in report.md, with {cited} citation{'s' * (cited != 1)} checked against the stored sources."
    )
