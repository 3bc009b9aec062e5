from __future__ import annotations

import io
from pathlib import Path
from typing import get_args

import pytest

from orchestrion.cli.render import RENDERERS, View, render
from orchestrion.cli.render.tool_started import short_args
from orchestrion.cli.screen import Screen
from orchestrion.core import events as ev

ROOT = Path("/home/u/.orchestrion/workspaces/ses_x")
REPORT = ev.FileRef(path="report.md", size=1200)
CHART = ev.FileRef(path="charts/a.png", size=3400)
PLAN = ev.FileRef(path="plan.md", size=10)


def show(*stream: ev.Event, terminal: bool = False, width: int = 100) -> str:
    out = io.StringIO()
    view = View(Screen(out, width=width, terminal=terminal), ROOT)
    for event in stream:
        render(view, event)
    view.screen.close()
    return out.getvalue()


def plan(*statuses: str) -> ev.PlanUpdated:
    steps = [{"text": f"step {name}", "status": status} for name, status in zip("abc", statuses, strict=False)]
    return ev.PlanUpdated.model_validate({"steps": steps})


def say(text: str, message: str = "m", phase: str = "") -> list[ev.Event]:
    half = len(text) // 2
    deltas = [ev.MessageDelta(message_id=message, text=part, phase=phase) for part in (text[:half], text[half:])]
    return [*deltas, ev.MessageCompleted(message_id=message, text=text, phase=phase)]


def call(output: str = "", *, status: str = "ok", result: str = "r", name: str = "execute") -> list[ev.Event]:
    started = ev.ToolStarted(call_id="c", name=name, args={"command": "make"})
    outputs = [ev.ToolOutput(call_id="c", stream="stdout", text=output)] if output else []
    return [started, *outputs, ev.ToolFinished(call_id="c", name=name, status=status, result=result, seconds=2)]


def test_every_event_has_a_renderer() -> None:
    kinds = {kind.model_fields["type"].default for kind in get_args(get_args(ev.Event)[0])}
    assert kinds == set(RENDERERS)


def test_small_talk_is_the_answer_and_nothing_else() -> None:
    shown = show(
        ev.RunCreated(session_id="s", goal="hello"),
        ev.RunStarted(worker="w", model="anthropic:x"),
        ev.RouteDecided(target="chat", reason="small talk", by="rule"),
        *say("Hello there."),
        ev.RunFinished(answer="Hello there."),
    )
    assert shown == "Hello there.\n"


def test_the_playbook_is_labelled_once() -> None:
    started = ev.RunStarted(worker="w", playbook=True)
    assert show(started, started).count("not a language model") == 1


def test_an_answer_that_was_not_streamed_is_printed() -> None:
    assert show(ev.RunFinished(answer="42")) == "42\n"
    assert show(ev.MessageCompleted(message_id="m", text="42"), ev.RunFinished(answer="42")) == "42\n"


def test_the_route_says_why() -> None:
    shown = show(ev.RouteDecided(target="data", reason="a.csv is a data file.", by="rule"))
    assert shown == "data agent — a.csv is a data file (decided by rule)\n"


def test_the_plan_is_listed_once_and_then_ticks() -> None:
    shown = show(plan("pending", "pending"), plan("active", "pending"), plan("done", "failed"))
    assert shown.splitlines() == ["  1. step a", "  2. step b", "▸ 1. step a", "✓ 1. step a", "✗ 2. step b"]


def test_a_streamed_plan_is_not_said_twice() -> None:
    shown = show(*say("1. step a\n2. step b", phase="plan"), plan("pending", "pending"), plan("active", "pending"))
    assert shown.splitlines() == ["1. step a", "2. step b", "▸ 1. step a"]


def test_a_tool_shows_its_gist_and_the_tail_of_its_output() -> None:
    shown = show(*call("".join(f"line {n}\n" for n in range(20))))
    assert "● execute make" in shown
    assert "… 14 more lines above" in shown
    assert "line 13" not in shown
    assert "line 14" in shown
    assert "✓ 2.0 s" in shown


def test_a_failed_tool_shows_what_went_wrong() -> None:
    shown = show(*call(status="error", result="Traceback\n[error] ValueError: no"))
    assert "[error] ValueError: no" in shown
    assert "✗ failed after 2.0 s" in shown


def test_parallel_calls_say_whose_output_follows() -> None:
    first = ev.ToolStarted(call_id="1", name="execute", args={"command": "slow"})
    second = ev.ToolStarted(call_id="2", name="read_file", args={"path": "a"})
    output = ev.ToolOutput(call_id="1", stream="stdout", text="out\n")
    ends = [
        ev.ToolFinished(call_id=n, name=t, status="ok", result="", seconds=0)
        for n, t in (("2", "read_file"), ("1", "execute"))
    ]
    shown = show(first, second, output, *ends)
    assert shown.splitlines() == ["● execute slow", "● read_file a", "● execute", "  │ out"]


def test_a_tool_that_has_an_event_of_its_own_is_shown_only_when_it_fails() -> None:
    assert show(*call(name="update_plan")) == ""
    assert "✗ failed" in show(*call(name="update_plan", status="error", result="There is no step 9."))


def test_endless_output_is_kept_to_a_bound() -> None:
    out = io.StringIO()
    view = View(Screen(out, terminal=False), ROOT)
    render(view, ev.ToolStarted(call_id="c", name="execute", args={}))
    for _ in range(100):
        render(view, ev.ToolOutput(call_id="c", stream="stdout", text="0123456789\n" * 100))
    assert len(view.calls["c"].output) <= 16_384
    render(view, ev.ToolFinished(call_id="c", name="execute", status="ok", result="", seconds=0))
    assert "… 9994 more lines above" in out.getvalue()


def test_output_of_a_call_that_never_began_is_no_error() -> None:
    assert show(ev.ToolOutput(call_id="?", stream="stdout", text="x")) == ""


@pytest.mark.parametrize(
    ("args", "gist"),
    [
        ({"code": "import x\n# note\ny = 1\nz = 2"}, "y = 1  (4 lines)"),
        ({"code": ""}, ""),
        ({"path": "a.csv", "limit": 5}, "a.csv"),
        ({"done": [1, 2], "active": 3}, "done=[1, 2], active=3"),
        ({"rows": list(range(50))}, "rows=[50 items]"),
        ({}, ""),
    ],
)
def test_short_args(args: dict[str, object], gist: str) -> None:
    assert short_args(args) == gist


def test_the_report_is_first_and_its_path_is_the_last_line() -> None:
    lines = show(ev.RunFinished(answer="done", files=[PLAN, CHART, REPORT])).splitlines()
    listed = lines[lines.index("Files") + 1 :]
    assert [line.split("  ")[0] for line in listed[:3]] == [
        f"{ROOT}/report.md",
        f"{ROOT}/charts/a.png",
        f"{ROOT}/plan.md",
    ]
    assert lines[-1] == f"{ROOT}/report.md"


def test_a_failed_run_shows_its_work_and_complains_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    shown = show(ev.RunFailed(code="x", error="No sandbox.", remedy="Run `make setup`.", files=[REPORT]))
    assert shown.splitlines()[-1] == f"{ROOT}/report.md"
    assert capsys.readouterr().err == "Error: No sandbox.\nRun `make setup`.\n"


def test_a_spent_budget_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    shown = show(ev.RunBudgetSpent(kind="seconds", limit=3, answer="Half."))
    assert shown == "Half.\n"
    said = capsys.readouterr().err
    assert "3 seconds is spent" in said
    assert "--timeout" in said


def test_void_text_is_called_void() -> None:
    delta = ev.MessageDelta(message_id="m", text="Half a")
    shown = show(
        delta, ev.ModelRetried(attempt=2, wait_seconds=1, reason="Overloaded.", message_id="m"), *say("All.", "n")
    )
    assert "(the unfinished text above is void)" in shown
    assert "Overloaded; trying again in 1.0 s (attempt 2)." in shown
    assert shown.endswith("All.\n")


def test_tokens_and_money_are_told_for_a_real_model() -> None:
    usage = ev.Usage(input_tokens=1000, output_tokens=234, usd=0.0123)
    recorded = ev.UsageRecorded(model="m", call=usage, total=usage)
    assert "1,234 tokens · $0.0123" in show(recorded, ev.RunFinished(answer="a", files=[REPORT]))
    assert show(recorded, ev.RunFinished(answer="a")) == "a\n"
    assert "tokens" not in show(
        ev.RunStarted(worker="w", playbook=True), recorded, ev.RunFinished(answer="a", files=[REPORT])
    )


def everything() -> list[ev.Event]:
    evil = "\x1b[2J\x1b]0;owned\x07evil\r"
    return [
        ev.RunStarted(worker="w", playbook=True),
        ev.RouteDecided(target="data", reason=evil, by="rule"),
        ev.RunPhase(phase="plan", title=evil),
        plan("active"),
        *say(f"**bold** {evil}"),
        *call(evil),
        ev.ArtifactWritten(file=CHART, title=evil),
        ev.RunNotice(code="c", text=evil),
        ev.RunNotice(code="c", text=evil, level="info"),
        ev.SandboxCreated(sandbox_id="s", provider="local", seconds=1),
        ev.SandboxReused(sandbox_id="s", provider="local"),
        ev.SandboxLost(sandbox_id="s", provider="local", reason=evil),
        ev.RunResumed(worker="w", reason=evil),
        ev.LlmCalled(model="m", role="r", prompt=[], response="", seconds=1),
        ev.RunCancelledEvent(answer=evil, files=[REPORT]),
    ]


def test_without_a_terminal_there_are_no_control_codes() -> None:
    shown = show(*everything())
    assert "\x1b" not in shown
    assert "\r" not in shown


def test_on_a_terminal_only_our_own_codes_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = show(*everything(), terminal=True)
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown


@pytest.mark.parametrize("width", [20, 40, 60])
def test_narrow_terminals_get_whole_words(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    text = "A chart could not be drawn because the column has no dates in it at all."
    shown = show(ev.RunNotice(code="c", text=text), *say(text), terminal=True, width=width)
    plain = "".join(part.partition("m")[2] if index else part for index, part in enumerate(shown.split("\x1b[")))
    assert all(len(line) <= width for line in plain.splitlines())
    assert plain.split() == ["Note:", *text.split(), *text.split()]


def test_no_color_means_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = show(*everything(), terminal=True)
    assert not any(f"\x1b[{code}m" in shown or f";{code}m" in shown for code in range(30, 38))


def test_the_status_line_is_taken_away_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    screen = Screen(out, width=60, terminal=True)
    screen.status("Working")
    screen.tick()
    screen.line("next")
    assert out.getvalue().index("Working") < out.getvalue().index("\r\x1b[2K") < out.getvalue().index("next")
    before = out.getvalue()
    screen.stream("an open line")
    screen.tick()
    assert "Working" not in out.getvalue()[len(before) :]
