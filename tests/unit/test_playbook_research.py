from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from orchestrion.models.playbook.research import play
from orchestrion.models.playbook.topics import headed_sentences, matches, sentences_of, topics_of, urls_of
from orchestrion.tools.fences import fence

TOOLS = ["update_plan", "web_fetch", "list_sources", "search_documents", "read_source", "write_report"]
TASK = """# Task

## Goal

{goal}

## Files

- uploads/a.txt (10 bytes)

## Plan

1. Collect
2. Search
3. Write
"""

COSTS = "Prices\n\nBatteries cost 40 percent less than ten years ago [3]. The maker gives no reason at all."
LIFE = "A cell lives for twelve years on average. Nobody knows more about it than that."


def answers(call: dict[str, Any], *, documents: dict[str, str], failed: tuple[str, ...] = ()) -> str:
    """Answer a tool call as the real tools do."""
    name, args = call["name"], call["args"]
    if name == "list_sources":
        lines = [f'- {i}: "Title {i}" from uploads/{i}.txt (txt, {len(t)} characters)' for i, t in documents.items()]
        unreadable = ["Not readable:", "- uploads/x.pdf: x.pdf is protected by a password."]
        return "\n".join([f"{len(documents)} sources.", *lines, *unreadable])
    if name == "search_documents":
        hits = [i for i, text in documents.items() if matches(text, args["query"].split())]
        return "\n".join(fence(documents[i], i, f"Title {i}", 0) for i in hits) or "No passage has any of these words"
    if name == "read_source":
        return fence(documents[args["source"]], args["source"], "T", 0)
    if name == "write_report":
        return "Wrote report.md (10 bytes): 2 sections, 2 checked citations."
    return "ok"


def conversation(
    goal: str, documents: dict[str, str], failing: tuple[str, ...] = (), tools: list[str] = TOOLS
) -> tuple[list[dict[str, Any]], str]:
    """Play a whole task; return the tool calls, in order, and the last word."""
    messages: list[BaseMessage] = [HumanMessage(TASK.format(goal=goal))]
    calls: list[dict[str, Any]] = []
    for _ in range(12):
        message = play(messages, tools)
        assert message == play(messages, tools)
        messages.append(message)
        if not message.tool_calls:
            return calls, message.text
        for call in message.tool_calls:
            calls.append(dict(call))
            bad = call["name"] in failing
            text = "It was refused." if bad else answers(dict(call), documents=documents)
            messages.append(
                ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error" if bad else "success")
            )
    raise AssertionError("it never ends")


def report_of(calls: list[dict[str, Any]]) -> dict[str, Any]:
    return dict(next(call["args"] for call in calls if call["name"] == "write_report"))


def test_a_task_is_carried_through_in_order() -> None:
    goal = "What do the documents and https://e.example/a say about battery cost, lifetime and helicopters?"
    calls, last = conversation(goal, {"S1": COSTS, "S2": LIFE})
    names = [call["name"] for call in calls if call["name"] != "update_plan"]
    assert names == ["web_fetch", "list_sources", *["search_documents"] * 3, *["read_source"] * 2, "write_report"]
    assert [c["args"]["query"] for c in calls if c["name"] == "search_documents"] == [
        "battery cost",
        "lifetime",
        "helicopters",
    ]
    assert len({call["id"] for call in calls}) == len(calls)
    plan = [call["args"] for call in calls if call["name"] == "update_plan"]
    assert plan[0] == {"done": [], "active": 1}
    assert plan[-1] == {"done": [1, 2, 3]}
    assert last == "The report is in report.md, with 2 citations checked against the stored sources."


def test_every_statement_is_a_sentence_of_its_source() -> None:
    calls, _ = conversation("Battery cost and lifetime?", {"S1": COSTS, "S2": LIFE})
    documents = {"S1": COSTS, "S2": LIFE}
    report = report_of(calls)
    for section in report["sections"]:
        for number, citation in enumerate(section.get("citations", []), 1):
            assert citation["quote"] in documents[citation["source"]]
            assert f"[[{number}]]" in section["text"]
    text = "\n".join(section["text"] for section in report["sections"])
    assert "“Batteries cost 40 percent less than ten years ago.”" in text
    assert "- Not read: uploads/x.pdf: x.pdf is protected by a password." in text


def test_what_the_sources_lack_is_said() -> None:
    calls, _ = conversation("Battery cost, helicopters", {"S1": COSTS})
    gaps = report_of(calls)["sections"][-1]
    assert gaps["heading"] == "What could not be answered"
    assert "- The sources have nothing on: Helicopters." in gaps["text"]


def test_nothing_readable_still_gives_a_report() -> None:
    calls, _ = conversation("Battery cost?", {})
    report = report_of(calls)
    assert "no readable source" in report["sections"][-1]["text"]
    assert not any(section.get("citations") for section in report["sections"])
    assert "search_documents" not in [call["name"] for call in calls]


def test_failures_are_reported_and_end() -> None:
    calls, last = conversation(
        "See https://e.example/ on battery cost", {"S1": COSTS}, failing=("web_fetch", "search_documents")
    )
    assert "https://e.example/: It was refused." in report_of(calls)["sections"][-1]["text"]
    _, last = conversation("Battery cost", {"S1": COSTS}, failing=("write_report",))
    assert last == "The report could not be written: It was refused."
    _, last = conversation("Battery cost", {"S1": COSTS}, tools=["list_sources"])
    assert "no tool to write" in last


@pytest.mark.parametrize(
    ("goal", "terms"),
    [
        ("Summarise these documents", []),
        ("Fasst zusammen, was die Dokumente über Kosten und Lebensdauer sagen.", ["kosten", "lebensdauer"]),
        ("请比较关于电池成本和寿命的文件", ["电池成本", "寿命"]),
        ("Какие документы говорят о стоимости и сроке службы?", ["стоимости", "сроке службы"]),
        ("What does report.pdf say about the war of 1914?", ["war 1914"]),
    ],
)
def test_topics_of_a_goal_in_any_language(goal: str, terms: list[str]) -> None:
    queries = [topic.query for topic in topics_of(goal)]
    assert [any(term in query for query in queries) for term in terms] == [True] * len(terms)
    assert bool(queries) == bool(terms)


def test_a_chinese_goal_finds_chinese_sentences() -> None:
    calls, _ = conversation(
        "请比较关于电池成本的文件", {"S1": "去年电池的成本下降了百分之四十。天气很好，大家都很高兴。"}
    )
    assert report_of(calls)["sections"][0]["citations"] == [
        {"source": "S1", "quote": "去年电池的成本下降了百分之四十。"}
    ]


def test_urls_are_taken_without_the_sentence_around_them() -> None:
    goal = "Read (https://a.example/x?y=1&z=2), <http://b.example/>. And “https://c.example/d”; https://a.example/x?y=1&z=2!"
    assert urls_of(goal) == ["https://a.example/x?y=1&z=2", "http://b.example/", "https://c.example/d"]


def test_sentences_and_headings() -> None:
    text = (
        "# The cost\n\nDr. Smith paid 3.5 million for it. Then it rose by 5 % once again!\n\n"
        "2. The life\nIt lives for a good twelve years, says\nthe maker."
    )
    assert headed_sentences(text) == [
        ("The cost", "Dr. Smith paid 3.5 million for it."),
        ("The cost", "Then it rose by 5 % once again!"),
        ("2. The life", "It lives for a good twelve years, says the maker."),
    ]


@given(st.text(max_size=300))
def test_sentences_are_stretches_of_the_text(text: str) -> None:
    plain = " ".join(text.split())
    assert all(sentence in plain for sentence in sentences_of(text))


@given(st.text(max_size=200))
def test_any_goal_can_be_played(goal: str) -> None:
    message = play([HumanMessage(goal)], TOOLS)
    assert isinstance(message, AIMessage)
    assert message.tool_calls
