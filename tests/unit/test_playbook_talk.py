"""The playbook as a chat model: streaming, tools, plans, summaries, small talk. Labelled for what it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool

from orchestrion.models.playbook import LABEL, PlaybookModel
from orchestrion.models.playbook import prompt as prompts

PLANNER = SystemMessage("You are Orchestrion's planner. Write a plan.")
SUMMARISER = SystemMessage("You are Orchestrion's summariser.")


@tool
def execute_code(code: str) -> str:
    """Run code."""
    return code


async def test_streams_words_that_make_up_the_answer() -> None:
    model = PlaybookModel(role="chat")
    whole = str((await model.ainvoke("hello")).content)
    chunks = [chunk async for chunk in model.astream("hello")]
    assert len(chunks) > 20
    assert "".join(str(chunk.content) for chunk in chunks) == whole
    assert [chunk.content for chunk in model.stream("hello")] == [chunk.content for chunk in chunks]
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.usage_metadata == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    assert total.response_metadata["model_name"] == LABEL


async def test_streamed_tool_calls_are_whole() -> None:
    model = PlaybookModel(role="data").bind_tools([execute_code])
    task = HumanMessage("# Task\n\n## Goal\nAnalyse\n\n## Files\n- uploads/a.csv (1 bytes)\n")
    total = None
    async for chunk in model.astream([task]):
        total = chunk if total is None else total + chunk
    whole = model.invoke([task])
    assert total is not None
    assert total.tool_calls == whole.tool_calls
    assert whole.tool_calls[0]["name"] == "execute_code"
    assert whole.usage_metadata == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    "text", ["hello", "Hi there!", "Guten Tag", "你好", "who are you?", "write me a poem", "", "🎉"]
)
def test_says_what_it_is_and_what_it_can_do(text: str) -> None:
    answer = str(PlaybookModel(role="chat").invoke(text).content)
    assert "not a language model" in answer
    assert "ANTHROPIC_API_KEY" in answer
    assert "table" in answer


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("what is 2+2?", "2+2 = 4"),
        ("12 * (3 + 4.5)", "12 * (3 + 4.5) = 90"),
        ("1,200 / 3", "1,200 / 3 = 400"),
        ("7 × 6 =", "7 × 6 = 42"),
        ("-3 - 4", "-3 - 4 = -7"),
    ],
)
def test_sums(text: str, result: str) -> None:
    assert str(PlaybookModel(role="chat").invoke(text).content).startswith(result)


@pytest.mark.parametrize(
    "text", ["1/0", "9**9**9**9", "on 2024-01-05 we met 3 of the 4 people there", "__import__('os')"]
)
def test_what_is_no_sum_is_not_worked_out(text: str) -> None:
    assert "=" not in str(PlaybookModel(role="chat").invoke(text).content)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=200), st.text("0123456789.,+-*/%() ×÷", max_size=40)))
def test_any_text_gets_an_answer(text: str) -> None:
    for role in ("chat", "orchestrator"):
        assert str(PlaybookModel(role=role).invoke([HumanMessage(text)]).content)


def test_plans_for_the_files_named() -> None:
    human = HumanMessage("Goal: Which region sells best?\nAgent: data\nFiles:\n- uploads/sales.csv (123456 bytes)\n")
    plan = str(PlaybookModel(role="orchestrator").invoke([PLANNER, human]).content)
    assert "Which region sells best?" in plan.splitlines()[0]
    assert "1. Load `sales.csv`" in plan
    assert len(prompts.read(f"## Plan\n{plan}").steps) == 4


def test_plans_for_research() -> None:
    human = HumanMessage("Goal: What does the contract say?\nAgent: research\nFiles:\n- uploads/c.pdf (9 bytes)\n")
    plan = str(PlaybookModel(role="orchestrator").invoke([PLANNER, human]).content)
    assert "sources" in plan
    assert "`c.pdf`" in plan


REPORT = """# Sales by region

## Key findings

- North leads with 12 [1].
- South trails.

## Charts

![bars](charts/a.png)

## What could not be done

- old.xls is in an old format.

## Sources

1. **A** (a.txt) — “quote”
"""


def test_summary_is_the_reports_own_words() -> None:
    human = HumanMessage(f"Goal: Which region?\n<report>\n{REPORT}\n</report>\nThe report is at report.md.")
    summary = str(PlaybookModel(role="orchestrator").invoke([SUMMARISER, human]).content)
    assert "**Sales by region**" in summary
    assert "- North leads with 12." in summary
    assert "old.xls" in summary
    assert "1 chart and 1 cited passage" in summary
    assert "`report.md`" in summary
    assert "not a language model" in summary


def test_summary_without_a_report_says_so() -> None:
    human = HumanMessage("Goal: x\n<report>\n</report>")
    summary = str(PlaybookModel(role="orchestrator").invoke([SUMMARISER, human]).content)
    assert "No report was written" in summary


FORMS = {
    "headings": """# Task

## Goal

Count things

## Files

- uploads/a b.csv (12 bytes)
- uploads/c.csv (1,200 bytes)

## Plan

1. One
2. Two
""",
    "labels": "Goal: Count things\nFiles:\n- uploads/a b.csv (12 bytes)\n- uploads/c.csv\nPlan:\n1) One\n2) Two",
    "stars": "**Goal**: Count things\n# Files\n* `uploads/a b.csv`\n* `uploads/c.csv`\n# Plan\n1. One\n2. Two",
}


@pytest.mark.parametrize("form", FORMS)
def test_prompts_are_read_leniently(form: str) -> None:
    task = prompts.read(FORMS[form])
    assert task.goal == "Count things"
    assert task.files == ["uploads/a b.csv", "uploads/c.csv"]
    assert task.steps == ["One", "Two"]


def test_same_messages_same_answer() -> None:
    model = PlaybookModel(role="data").bind_tools([execute_code])
    task = HumanMessage("## Goal\nx\n## Files\n- uploads/a.csv (1 bytes)", id="m1")
    assert model.invoke([task]).tool_calls == model.invoke([task]).tool_calls
    other = HumanMessage("## Goal\nx\n## Files\n- uploads/a.csv (1 bytes)", id="m2")
    assert model.invoke([task]).tool_calls[0]["id"] != model.invoke([other]).tool_calls[0]["id"]
    assert isinstance(model.invoke([task]), AIMessage)
