"""The data agent's part: load and profile, clean and compute, draw, report. Each move follows from the messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from orchestrion.models.playbook import data_code, data_report, goal, prompt
from orchestrion.models.playbook.data_report import Results
from orchestrion.models.playbook.moves import Moves

MOST_TABLES = 16
_STAGES = 4
_LABEL = "(The built-in playbook, not a language model.)"


def play(messages: list[BaseMessage], tools: list[str]) -> AIMessage:
    """Return the next move of the data job."""
    game = _Game(messages, tools)
    if "execute_code" not in tools:
        return AIMessage(f"I can't analyse a table without a tool that runs code. {_LABEL}")
    return game.next_move()


class _Game:
    """One task and how far it has come, read from its messages."""

    def __init__(self, messages: list[BaseMessage], tools: list[str]) -> None:
        start = _task_position(messages)
        self._task = prompt.read(messages[start].text) if start >= 0 else prompt.read("")
        self._moves = Moves(messages, start, tools, self._task.steps, _STAGES)
        self._files = self._task.files or self._listed()
        self._results = Results()
        self._collect()
        self._wishes = {
            name: goal.read(self._task.goal, profile["columns"]) for name, profile in self._results.profiles.items()
        }

    def next_move(self) -> AIMessage:
        """Look which results there are, and ask for the first that is missing."""
        moves = self._moves
        if not self._files and "list_files" in moves.tools and not moves.calls("list_files"):
            return moves.call(1, "Looking for files.", "list_files", path="")
        if unread := self._unread():
            text = "Loading the data and profiling every column."
            return moves.call(1, text, "execute_code", code=data_code.load_cell(unread))
        if self._results.profiles and not self._ran("# Clean and compute"):
            cell = data_code.statistics_cell(self._wanted())
            return moves.call(2, "Cleaning, then groups, correlations and trends.", "execute_code", code=cell)
        if self._results.profiles and not self._ran("# Draw charts"):
            return moves.call(3, "Drawing charts.", "execute_code", code=data_code.charts_cell(self._wanted()))
        if "write_report" in moves.tools and not moves.calls("write_report"):
            return moves.call(4, "Writing the report.", "write_report", **self._report())
        return moves.finish(self._answer())

    def _listed(self) -> list[str]:
        """Return the uploads that list_files named."""
        text = "\n".join(self._moves.results("list_files"))
        return list(dict.fromkeys(re.findall(r"uploads/[^\n(]*[^\s(,;\"'\]]", text)))

    def _collect(self) -> None:
        for _, text in self._cells():
            for kind, value in data_code.marked(text):
                self._keep(kind, value)

    def _keep(self, kind: str, value: dict[str, Any]) -> None:
        results, name = self._results, str(value.get("table", ""))
        if kind == "profile" and len(results.profiles) < MOST_TABLES:
            results.profiles[name] = value
        elif kind == "profile":
            results.problems[name] = f"left out: one report covers {MOST_TABLES} tables."
        elif kind == "statistics":
            results.statistics[name] = value
        elif kind == "charts":
            results.charts[name] = value["charts"]
        elif kind in {"problem", "no_charts"}:
            results.problems[str(value.get("path") or name)] = str(value["problem"])

    def _cells(self) -> list[tuple[str, str]]:
        """Return the code of each cell that has ended, with its output."""
        return [(str(call["args"].get("code", "")), text) for call, text in self._moves.done("execute_code")]

    def _ran(self, header: str) -> bool:
        ended = [text for code, text in self._cells() if code.startswith(header)]
        if ended and (error := data_code.error_line(ended[-1])):
            what = header.removeprefix("# ")
            self._results.problems.setdefault(what, f"the code stopped: {error}.")
        return bool(ended)

    def _unread(self) -> list[str]:
        """Return the files still to be loaded; one whose cell died without a word about it is given up."""
        known = {str(profile["path"]) for profile in self._results.profiles.values()} | set(self._results.problems)
        for code, text in self._cells():
            if not code.startswith("# Load and profile"):
                continue
            silent = [file for file in self._files if repr(file) in code and file not in known]
            if silent:
                reason = data_code.error_line(text) or "its loading did not finish"
                self._results.problems[silent[0]] = f"it could not be loaded: {reason}."
                known.add(silent[0])
        return [file for file in self._files if file not in known][:MOST_TABLES]

    def _wanted(self) -> dict[str, dict[str, Any]]:
        """Return for each table where it is and which columns the goal names."""
        return {
            name: {
                "path": profile["path"],
                "sheet": profile["sheet"],
                "measure": self._wishes[name].measure,
                "by": self._wishes[name].by or None,
                "prefix": re.sub(r"\.\w+(?=$| \[)", "", name),
            }
            for name, profile in self._results.profiles.items()
        }

    def _report(self) -> dict[str, Any]:
        return {
            "title": data_report.title(self._results, self._files),
            "sections": data_report.sections(self._task.goal, self._results, self._wishes),
        }

    def _answer(self) -> str:
        results = self._results
        if not self._files:
            return f"There is no file to analyse. Upload a table and ask again. {_LABEL}"
        problems = [data_report.problem_sentence(path, problem) for path, problem in results.problems.items()]
        if not results.profiles:
            return "\n".join(["No table could be read.", *problems, _LABEL])
        charts = sum(len(made) for made in results.charts.values())
        lines = [f"The report is in `report.md`, with {charts} chart{'s' * (charts != 1)}."]
        lines += [f"- {point}" for point in data_report.key_points(results, self._wishes, 3)]
        return "\n".join([*lines, *[f"- {problem}" for problem in problems], _LABEL])


def _task_position(messages: Sequence[BaseMessage]) -> int:
    """Return where the task stands: the last human message that looks like one, else the last of all."""
    humans = [index for index, message in enumerate(messages) if isinstance(message, HumanMessage)]
    tasks = [index for index in humans if re.search(r"(?im)^#+\s*(goal|task)\b", messages[index].text)]
    return (tasks or humans or [-1])[-1]
