"""The real command in a process of its own, with the playbook and a real sandbox."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ORCHESTRION = Path(sys.executable).parent / "orchestrion"
SALES = Path(__file__).parents[2] / "examples" / "sales.csv"
DEADLINE = 100


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
    return {**kept, "HOME": str(home), "ORCHESTRION_HOME": str(home / "data"), "LANG": "C.UTF-8", **more}


def command(home: Path, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ORCHESTRION, *arguments],
        check=False,
        env=environment(home, **more),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE,
    )


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for tests that add to it and spoil nothing."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def data_job(home: Path) -> subprocess.CompletedProcess[str]:
    return command(home, "run", "Analyse this table", "-f", str(SALES))


def test_hello_is_answered_at_once_and_labelled(home: Path) -> None:
    done = command(home, "run", "hello")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "No model key is set: the built-in playbook answers; it is not a language model."
    assert "\x1b" not in done.stdout
    assert "Files" not in lines
    assert done.stderr == ""


def test_a_data_job_ends_with_the_path_of_a_report_with_charts(data_job: subprocess.CompletedProcess[str]) -> None:
    assert data_job.returncode == 0, data_job.stderr
    lines = data_job.stdout.splitlines()
    report = Path(lines[-1])
    assert report.is_absolute()
    charts = re.findall(r"!\[[^\]]*\]\((charts/[^)]+)\)", report.read_text())
    assert len(charts) >= 2
    assert all((report.parent / chart).read_bytes().startswith(b"\x89PNG") for chart in charts)
    listed = lines[lines.index("Files") + 1 :]
    assert listed[0].startswith(f"{report}  ")
    assert all(f"{report.parent}/{chart}" in data_job.stdout for chart in charts)


def test_a_data_job_shows_its_route_plan_and_tools(data_job: subprocess.CompletedProcess[str]) -> None:
    assert "data agent — sales.csv is a data file (decided by rule)" in data_job.stdout
    assert re.search(r"^✓ 1\. ", data_job.stdout, re.MULTILINE)
    assert "● execute_code " in data_job.stdout
    assert "\x1b" not in data_job.stdout
    assert data_job.stderr == ""


def test_records_of_a_run(home: Path, data_job: subprocess.CompletedProcess[str]) -> None:
    report = data_job.stdout.splitlines()[-1]
    runs = json.loads(command(home, "runs", "list", "--json").stdout)
    [run] = [run for run in runs if run["target"] == "data"]
    assert run["state"] == "finished"
    assert report in command(home, "runs", "show", run["run_id"]).stdout
    log = events(command(home, "runs", "events", run["run_id"], "--json").stdout)
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert log[-1]["type"] == "run.finished"
    rest = events(command(home, "runs", "events", run["run_id"], "--follow", "--after", "5", "--json").stdout)
    assert rest == log[5:]
    shown = json.loads(command(home, "sessions", "show", run["session_id"], "--json").stdout)
    assert shown["workspace"] == str(Path(report).parent)
    assert [one["run_id"] for one in shown["runs"]] == [run["run_id"]]


def test_json_is_events_and_nothing_else_and_sessions_go_on(home: Path) -> None:
    first = events(command(home, "run", "hello", "--json").stdout)
    assert first[0]["type"] == "run.created"
    assert first[-1]["type"] == "run.finished"
    assert [event["seq"] for event in first] == list(range(1, len(first) + 1))
    session = first[0]["session_id"]
    second = events(command(home, "run", "and again", "--session", session, "--json").stdout)
    assert second[0]["session_id"] == session
    assert second[0]["run_id"] != first[0]["run_id"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_run_and_it_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [ORCHESTRION, "run", "Analyse this table", "-f", SALES, "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "sandbox.created":
            seen.append(json.loads(process.stdout.readline()))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert events(out)[-1]["type"] == "run.cancelled"
    assert "Traceback" not in err
    run_id = seen[0]["run_id"]
    assert json.loads(command(tmp_path, "runs", "show", run_id, "--json").stdout)["state"] == "cancelled"
    if number is signal.SIGINT:
        resumed = command(tmp_path, "runs", "resume", run_id)
        assert resumed.returncode == 0, resumed.stderr
        assert Path(resumed.stdout.splitlines()[-1]).name == "report.md"


def test_a_run_in_another_process_is_cancelled(tmp_path: Path) -> None:
    with subprocess.Popen(
        [ORCHESTRION, "run", "Analyse this table", "-f", SALES, "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        run_id = json.loads(process.stdout.readline())["run_id"]
        done = command(tmp_path, "runs", "cancel", run_id, "--json")
        assert json.loads(done.stdout) == {"run_id": run_id, "state": "cancelled"}
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert events(out)[-1]["type"] == "run.cancelled"


def test_a_spent_budget_exits_4_with_what_there_is(tmp_path: Path) -> None:
    done = command(tmp_path, "run", "Analyse this table", "-f", str(SALES), "--timeout", "1")
    assert done.returncode == 4
    assert "--timeout" in done.stderr
    assert Path(done.stdout.splitlines()[-1]).name == "report.md"


@pytest.mark.parametrize(
    ("arguments", "more", "said"),
    [
        (["run", "x", "-f", "missing.csv"], {}, "The file missing.csv does not exist."),
        (["run", "x", "-f", "/tmp"], {}, "/tmp is a directory"),
        (["run", "x"], {"ORCHESTRION_PORT": "many"}, "The setting ORCHESTRION_PORT is malformed"),
        (["run", "x"], {"ORCHESTRION_PROT": "1"}, "Did you mean ORCHESTRION_PORT?"),
        (["frobnicate"], {}, "No such command 'frobnicate'."),
    ],
)
def test_bad_usage_exits_2_and_creates_nothing(
    tmp_path: Path, arguments: list[str], more: dict[str, str], said: str
) -> None:
    done = command(tmp_path, *arguments, **more)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flags", [["--model", "nobody"], ["--session", "ses_nope"]])
def test_a_refused_goal_leaves_no_session_behind(tmp_path: Path, flags: list[str]) -> None:
    done = command(tmp_path, "run", "x", "-f", str(SALES), *flags)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) <= 2
    assert json.loads(command(tmp_path, "sessions", "list", "--json").stdout) == []
    assert list((tmp_path / "data").glob("workspaces/*/*")) == []


def test_a_reader_that_leaves_is_no_error(home: Path, data_job: subprocess.CompletedProcess[str]) -> None:
    runs = json.loads(command(home, "runs", "list", "--json").stdout)
    [run_id] = [run["run_id"] for run in runs if run["target"] == "data"]
    script = f"{ORCHESTRION} runs events {run_id} --json | head -n 1; {ORCHESTRION} config show | true"
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        env=environment(home),
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_when_nobody_reads_the_run_is_cancelled_not_left_behind(tmp_path: Path) -> None:
    script = f"{ORCHESTRION} run 'Analyse this table' -f {SALES} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], check=False, env=environment(tmp_path), capture_output=True, timeout=DEADLINE
    )
    assert done.returncode == 141
    assert done.stderr == b""
    [run] = json.loads(command(tmp_path, "runs", "list", "--json").stdout)
    assert run["state"] == "cancelled"


def test_a_closed_or_full_output_is_no_crash(tmp_path: Path) -> None:
    script = f"{ORCHESTRION} config show >&-; {ORCHESTRION} config show > /dev/full; {ORCHESTRION} nope 2>&-"
    done = subprocess.run(
        ["bash", "-c", script], check=False, env=environment(tmp_path), capture_output=True, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_piped_chat_answers_line_by_line_in_one_session(tmp_path: Path) -> None:
    done = command(tmp_path, "chat", stdin=f"hello\n\n/upload {SALES}\n/files\n/nope\nwhat can you do?\n")
    assert done.returncode == 0, done.stderr
    assert "uploads/sales.csv" in done.stdout
    assert "There is no command /nope" in done.stdout
    assert ">" not in done.stdout
    [session] = json.loads(command(tmp_path, "sessions", "list", "--json").stdout)
    assert session["title"] == "hello"


def test_deleting_a_session_deletes_its_files(tmp_path: Path) -> None:
    session = events(command(tmp_path, "run", "hello", "--json").stdout)[0]["session_id"]
    done = command(tmp_path, "sessions", "delete", session)
    assert done.returncode == 0, done.stderr
    assert command(tmp_path, "sessions", "show", session).returncode == 2
    assert not (tmp_path / "data" / "workspaces" / session).exists()


def test_doctor_says_what_works(home: Path) -> None:
    done = command(home, "doctor", "--json")
    found = {line["name"]: line for line in json.loads(done.stdout)}
    assert {"python", "settings", "home", "model", "sandbox", "page"} <= set(found)
    assert found["model"]["status"] == "degraded"
    assert found["model"]["remedy"]
    assert done.returncode == (1 if any(line["status"] == "missing" for line in found.values()) else 0)


def test_doctor_exits_1_when_something_essential_is_missing(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    done = command(tmp_path, "doctor")
    assert done.returncode == 1
    assert re.search(r"^missing +home: ", done.stdout, re.MULTILINE)
    assert "→ Make it writable" in done.stdout


def test_serve_says_when_it_is_ready_and_ends_on_sigterm(tmp_path: Path) -> None:
    with subprocess.Popen(
        [ORCHESTRION, "serve", "--port", "0"], env=environment(tmp_path), stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        said = re.fullmatch(r"Orchestrion is ready on (http://127\.0\.0\.1:\d+)\n", line)
        assert said, line
        with urllib.request.urlopen(f"{said[1]}/healthz", timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


class Terminal:
    """The command on a terminal of 60 columns."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.output = ""
        self._seen = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            size = {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "40"}
            os.execve(ORCHESTRION, [str(ORCHESTRION), *arguments], environment(home, **size))

    def until(self, text: str) -> None:
        """Read until `text` has come after what was waited for before."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.output[self._seen :]:
            ready, _, _ = select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no {text!r} in {self.output!r}"
            self.output += os.read(self._fd, 65536).decode("utf-8", "replace")
        self._seen = self.output.index(text, self._seen) + len(text)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def press_until(self, key: str, text: str) -> None:
        """Press a key, as a person does, until it is heard.

        Python's readline shows the prompt some microseconds before it waits for input, and a Ctrl-C in between is
        noticed only at the next key. No person is that fast, but a test is.
        """
        deadline = time.monotonic() + DEADLINE
        while text not in self.output[self._seen :]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.output!r}"
            self.type(key)
            while select.select([self._fd], [], [], 1)[0] and text not in self.output[self._seen :]:
                self.output += os.read(self._fd, 65536).decode("utf-8", "replace")
        self.until(text)

    def wait(self) -> int:
        try:
            while piece := os.read(self._fd, 65536):
                self.output += piece.decode("utf-8", "replace")
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, "chat")
    yield terminal
    terminal.close()


def test_a_conversation_at_a_terminal(chat: Terminal) -> None:
    chat.until("> ")
    chat.press_until("\x03", "/quit leaves")
    chat.until("> ")
    chat.type(f"/upload {SALES}\r")
    chat.until("Stored as")
    chat.until("> ")
    chat.type("analyse this table\r")
    chat.until("sandbox ready")
    chat.type("\x03")
    chat.until("Stopped.")
    chat.until("> ")
    chat.type("\x1b[200~hello\nthere\x1b[201~\r")
    chat.until("freely")
    chat.until("> ")
    chat.type("\x04")
    assert chat.wait() == 0
    assert "Traceback" not in chat.output
