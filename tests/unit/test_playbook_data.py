"""The data job, played to its report: the code it writes is run, the figures in its words are the tools'."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from tables_kit import GUEST

from orchestrion.models.playbook import data_code, goal
from orchestrion.models.playbook.data import play

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sales.csv"
TOOLS = ["list_files", "execute_code", "update_plan", "write_report"]
PLAN = "## Plan\n\n1. Load\n2. Clean\n3. Draw\n4. Write"


class Bench:
    """Runs what the playbook asks for, as an agent's graph would."""

    def __init__(self, tools: list[str] = TOOLS) -> None:
        self.tools = tools
        self.namespace: dict[str, Any] = {}
        self.report: dict[str, Any] = {}
        self.plans: list[dict[str, Any]] = []
        self.cells: list[str] = []
        self.final = ""

    def run(self, goal_text: str, *files: str, plan: str = PLAN) -> Bench:
        listed = "\n".join(f"- {file} (10 bytes)" for file in files)
        messages: list[BaseMessage] = [
            HumanMessage(f"# Task\n\n## Goal\n\n{goal_text}\n\n## Files\n\n{listed}\n\n{plan}")
        ]
        for _ in range(30):
            move = play(messages, self.tools)
            messages.append(move)
            if not move.tool_calls:
                self.final = move.text
                return self
            messages += [
                ToolMessage(self.answer(call["name"], call["args"]), tool_call_id=call["id"])
                for call in move.tool_calls
            ]
        raise AssertionError("the playbook does not come to an end")

    def answer(self, name: str, args: dict[str, Any]) -> str:
        if name == "execute_code":
            self.cells.append(args["code"])
            return self.execute(args["code"])
        if name == "list_files":
            return "\n".join(f"uploads/{path.name} (10 bytes)" for path in sorted(Path("uploads").iterdir()))
        if name == "write_report":
            self.report = args
        else:
            self.plans.append(args)
        return "ok"

    def execute(self, code: str) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                exec(compile(code, "cell", "exec"), self.namespace)
            except Exception as error:
                print(f"{traceback.format_exc()}\n[error] {type(error).__name__}: {error}")
        assert len(out.getvalue()) < 30_000
        return out.getvalue()

    @property
    def text(self) -> str:
        return "\n\n".join(f"## {part['heading']}\n\n{part['text']}" for part in self.report["sections"])

    @property
    def charts(self) -> list[str]:
        return [chart for part in self.report["sections"] for chart in part["charts"]]


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path) -> Iterator[Path]:
    """A workspace to work in."""
    assert GUEST.is_dir()
    folder = tmp_path / "uploads"
    folder.mkdir()
    before = Path.cwd()
    os.chdir(tmp_path)
    yield folder
    os.chdir(before)


def test_the_example_from_upload_to_report(uploads: Path) -> None:
    shutil.copy(EXAMPLE, uploads)
    bench = Bench().run("Which region and category bring in the most revenue?", "uploads/sales.csv")
    raw = pd.read_csv(EXAMPLE)
    row = next(line for line in bench.text.splitlines() if line.startswith("| revenue | 845"))
    figures = [float(cell.replace(",", "")) for cell in row.split("|")[4:10]]
    wanted = [getattr(raw["revenue"], name)() for name in ("mean", "median", "std", "min", "max", "sum")]
    assert figures == pytest.approx(wanted, rel=1e-4)
    clean = raw.drop_duplicates()
    totals = clean.groupby(clean["region"].str.strip())["revenue"].sum()
    assert f"region **{totals.idxmax()}** ({totals.max():,.2f}" in bench.text
    assert "category **Tents**" in bench.text
    assert len(bench.charts) >= 4
    assert all(Path(chart).is_file() for chart in bench.charts)
    assert "see invoice" in bench.text
    assert "not a language model" in bench.text
    assert "report.md" in bench.final
    assert [plan["active"] for plan in bench.plans] == [1, 2, 3, 4, None]
    assert bench.plans[-1]["done"] == [1, 2, 3, 4]
    assert all(set(part) == {"heading", "text", "charts", "citations"} for part in bench.report["sections"])


def test_every_figure_in_words_is_a_result(uploads: Path) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {"team": rng.choice(["red", "blue"], 60), "points": rng.integers(0, 90, 60), "age": rng.normal(30, 5, 60)}
    )
    frame.to_csv(uploads / "t.csv", index=False)
    bench = Bench().run("average points by team", "uploads/t.csv")
    means = frame.groupby("team")["points"].mean()
    words = next(line for line in bench.text.splitlines() if "mean of points" in line)
    said = [float(number) for number in re.findall(r"\*\* \(([\d.]+), n", words)]
    assert said == pytest.approx([means.max(), means.min()], rel=1e-4)
    assert means.idxmax() in words


def test_unreadable_files_do_not_stop_the_others(uploads: Path) -> None:
    shutil.copy(EXAMPLE, uploads)
    (uploads / "bad.csv").write_bytes(bytes(range(256)) * 9)
    (uploads / "empty.csv").write_bytes(b"")
    bench = Bench().run("Analyse", "uploads/bad.csv", "uploads/sales.csv", "uploads/empty.csv")
    assert "bad.csv is a binary file, not a table." in bench.text
    assert "empty.csv is empty." in bench.final
    assert len(bench.charts) >= 2


def test_nothing_readable_still_ends_in_a_report(uploads: Path) -> None:
    (uploads / "empty.csv").write_bytes(b"")
    bench = Bench().run("Analyse", "uploads/empty.csv")
    assert "No table could be read" in bench.final
    assert "empty.csv is empty." in bench.final
    assert "empty.csv is empty." in bench.text
    assert len(bench.cells) == 1


def test_files_nobody_named_are_looked_up(uploads: Path) -> None:
    shutil.copy(EXAMPLE, uploads)
    bench = Bench().run("Analyse what is there")
    assert "sales.csv" in bench.report["title"]


def test_no_file_at_all() -> None:
    bench = Bench().run("Analyse")
    assert bench.final.startswith("There is no file to analyse.")
    assert bench.report["title"] == "No table to analyse"


def test_all_sheets_of_a_workbook(uploads: Path) -> None:
    with pd.ExcelWriter(uploads / "book.xlsx") as writer:
        pd.DataFrame({"a": range(30), "k": ["x", "y", "z"] * 10}).to_excel(writer, sheet_name="One", index=False)
        pd.DataFrame({"b": range(40), "m": ["p", "q"] * 20}).to_excel(writer, sheet_name="Two", index=False)
    bench = Bench().run("Analyse", "uploads/book.xlsx")
    assert "book.xlsx [One]: Columns, as read" in bench.text
    assert "book.xlsx [Two]: Columns, as read" in bench.text
    assert len(set(bench.charts)) == len(bench.charts) >= 4


def test_an_interpreter_restarted_between_cells(uploads: Path) -> None:
    class Forgetful(Bench):
        def execute(self, code: str) -> str:
            self.namespace = {}
            return super().execute(code)

    shutil.copy(EXAMPLE, uploads)
    assert len(Forgetful().run("Analyse", "uploads/sales.csv").charts) >= 4


def test_a_cell_that_dies_costs_one_file_only(uploads: Path) -> None:
    class Small(Bench):
        def execute(self, code: str) -> str:
            return "[error] SandboxKilled: out of memory" if "big.csv" in code else super().execute(code)

    shutil.copy(EXAMPLE, uploads)
    (uploads / "big.csv").write_text("a\n1\n")
    bench = Small().run("Analyse", "uploads/big.csv", "uploads/sales.csv")
    assert "out of memory" in bench.text
    assert len(bench.charts) >= 4


def test_statistics_that_fail_leave_the_profile(uploads: Path) -> None:
    class Broken(Bench):
        def execute(self, code: str) -> str:
            return "[error] MemoryError: no" if "tables.statistics" in code else super().execute(code)

    shutil.copy(EXAMPLE, uploads)
    bench = Broken().run("Analyse", "uploads/sales.csv")
    assert "| revenue | 845" in bench.text
    assert "MemoryError" in bench.text


def test_many_files_and_columns_stay_within_the_output_budget(uploads: Path) -> None:
    files = []
    for number in range(5):
        frame = pd.DataFrame({f"column number {n} of the wide table": [n, n + 1.5, n * 2] for n in range(90)})
        frame.to_csv(uploads / f"w{number}.csv", index=False)
        files.append(f"uploads/w{number}.csv")
    bench = Bench().run("Analyse", *files)
    assert "w4.csv" in bench.text


def test_file_names_are_data_not_code(uploads: Path) -> None:
    name = 'it\'s "odd" {x} $(rm).csv'
    shutil.copy(EXAMPLE, uploads / name)
    bench = Bench().run("Analyse", f"uploads/{name}")
    assert len(bench.charts) >= 4


def test_without_its_tools_it_says_so() -> None:
    move = play([HumanMessage("## Goal\nx")], [])
    assert not move.tool_calls
    assert "runs code" in move.text


def test_without_a_plan_nothing_is_ticked(uploads: Path) -> None:
    shutil.copy(EXAMPLE, uploads)
    assert Bench().run("Analyse", "uploads/sales.csv", plan="").plans == []


def test_a_second_goal_in_the_same_conversation(uploads: Path) -> None:
    shutil.copy(EXAMPLE, uploads)
    first = [HumanMessage("## Goal\n\nx\n\n## Files\n\n- uploads/sales.csv (1 bytes)"), AIMessage("done")]
    again = [*first, HumanMessage("## Goal\n\ny\n\n## Files\n\n- uploads/sales.csv (1 bytes)")]
    assert play(again, TOOLS).tool_calls[0]["name"] == "execute_code"


COLUMNS = [
    {"name": "region", "role": "category", "distinct": 4},
    {"name": "productCategory", "role": "category", "distinct": 6},
    {"name": "Body Mass (g)", "role": "numeric", "distinct": 90},
    {"name": "Cost Other", "role": "numeric", "distinct": 90},
    {"name": "Cost Total $", "role": "numeric", "distinct": 90},
    {"name": "year", "role": "date", "distinct": 9},
]


@pytest.mark.parametrize(
    ("text", "measure", "by", "trend"),
    [
        ("What is the body mass by region?", "Body Mass (g)", ["region"], False),
        ("Which regions cost most?", "Cost Total $", ["region"], False),
        ("Compare product categories and regions", None, ["productCategory", "region"], False),
        ("How does cost other develop over time?", "Cost Other", [], True),
        ("Tell me all about it", None, [], False),
    ],
)
def test_goals_name_columns(text: str, measure: str | None, by: list[str], trend: bool) -> None:
    wish = goal.read(text, COLUMNS)
    assert wish.measure == measure
    assert sorted(wish.by) == sorted(by)
    assert wish.trend is trend


def test_cut_output_is_no_result() -> None:
    assert data_code.marked('@@profile {"table": "a", "ro\n… cut …\n@@problem {"path": "b", "problem": "c"}') == [
        ("problem", {"path": "b", "problem": "c"})
    ]
