"""Cells through the real daemon: what E2B's clients see, and what ours may ask for besides."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
import python_multipart

GUEST = Path(__file__).parents[2] / "src" / "orchestrion" / "sandbox" / "guest"
SANDBOX_PYTHON = Path(sys.prefix) / "sandbox" / "bin" / "python"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
HAS_PYTHON = os.access(SANDBOX_PYTHON, os.X_OK)
needs_tables = pytest.mark.skipif(not HAS_PYTHON, reason="`make setup` has made no sandbox Python for this user")


class Client:
    """The daemon as a client sees it."""

    def __init__(self, path: str) -> None:
        self.http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://sandbox:49999", timeout=60
        )

    async def run(self, code: str, limit_ms: int = 0, **fields: Any) -> dict[str, Any]:
        """Run a cell and return its lines, gathered by type; `text` is the main result's."""
        headers = {"Orchestrion-Timeout-Ms": str(limit_ms)} if limit_ms else {}
        lines = [line async for line in self.stream({"code": code, **fields}, headers)]
        assert lines[-1] == {"type": "end_of_execution"}
        gathered: dict[str, Any] = {"lines": lines, "results": [], "error": None, "text": None}
        for stream in ("stdout", "stderr"):
            gathered[stream] = "".join(line["text"] for line in lines if line["type"] == stream)
        for line in lines:
            if line["type"] == "result":
                gathered["results"].append(line)
                gathered["text"] = line.get("text") if line["is_main_result"] else gathered["text"]
            if line["type"] == "error":
                gathered["error"] = line
        gathered["types"] = [line["type"] for line in lines]
        return gathered

    async def stream(self, body: dict[str, Any], headers: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        async with self.http.stream("POST", "/execute", json=body, headers=headers) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                yield json.loads(line)

    async def context(self, **fields: Any) -> str:
        response = await self.http.post("/contexts", json=fields)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A daemon on a socket of its own, its home in a temporary directory."""
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    home = tmp_path / "home"
    home.mkdir()
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for package in (python_multipart, h11):
        source = Path(package.__path__[0])
        (bundle / source.name).symlink_to(source)
    python = SANDBOX_PYTHON if HAS_PYTHON else Path(sys.executable)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": f"{GUEST}:{bundle}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(home / "mpl"),
        "LANG": "C.UTF-8",
    }
    config, ours = os.pipe()
    os.write(ours, json.dumps({"allow_root": True, "workdir": str(home), "envs": {"EVERYWHERE": "yes"}}).encode())
    os.close(ours)
    command = [str(python), "-P", "-m", "guestd", "--listener", str(listener.fileno()), "--config-fd", str(config)]
    daemon = subprocess.Popen(command, env=env, pass_fds=[listener.fileno(), config], cwd=home)
    os.close(config)
    listener.close()
    found = Client(path)
    try:
        yield found
    finally:
        await found.http.aclose()
        daemon.terminate()
        daemon.wait(10)


async def test_a_cell_gives_its_count_output_and_value_in_order(client: Client) -> None:
    await client.run("x = 20")
    ran = await client.run("print('hello'); x + 1")
    assert ran["lines"][0] == {"type": "number_of_executions", "execution_count": 2}
    assert (ran["stdout"], ran["text"]) == ("hello\n", "21")


async def test_the_wire_of_an_error(client: Client) -> None:
    ran = await client.run("def f():\n    return 1 / 0\nf()")
    assert (ran["error"]["name"], ran["error"]["value"]) == ("ZeroDivisionError", "division by zero")
    assert "line 2, in f" in ran["error"]["traceback"]
    assert "guestd" not in ran["error"]["traceback"]


async def test_a_cell_that_is_no_python_shows_its_own_line_alone(client: Client) -> None:
    ran = await client.run("x = = 1")
    assert ran["error"]["name"] == "SyntaxError"
    assert "ast.py" not in ran["error"]["traceback"]


async def test_awaits_and_indented_cells(client: Client) -> None:
    ran = await client.run("\n    import asyncio\n    await asyncio.sleep(0, 'done')\n")
    assert ran["text"] == "done"


async def test_variables_of_a_cell_are_gone_after_it(client: Client) -> None:
    code = "import os; os.environ.get('ONCE'), os.environ.get('EVERYWHERE')"
    assert (await client.run(code, env_vars={"ONCE": "now", "EVERYWHERE": "here"}))["text"] == "('now', 'here')"
    assert (await client.run(code))["text"] == "(None, 'yes')"


async def test_variables_told_later_reach_a_running_interpreter(client: Client) -> None:
    await client.run("1")
    response = await client.http.post("/init", json={"envs": {"LATER": "told"}})
    assert response.status_code == 204
    assert (await client.run("import os; os.environ['LATER']"))["text"] == "told"


async def test_display_comes_before_the_value(client: Client) -> None:
    code = "from IPython.display import HTML\ndisplay({'text/latex': 'x^2'}, raw=True); display(HTML('<b>b</b>')); 7"
    results = (await client.run(code))["results"]
    assert [result["is_main_result"] for result in results] == [False, False, True]
    assert (results[0]["latex"], results[1]["html"], results[2]["text"]) == ("x^2", "<b>b</b>", "7")


async def test_notebook_words(client: Client, tmp_path: Path) -> None:
    name = "world"
    assert (await client.run(f"name = {name!r}\n!echo hello {{name}}"))["stdout"] == "hello world\n"
    assert (await client.run("%%bash\necho $((6 * 7)); exit 3"))["error"]["name"] == "CalledProcessError"
    await client.run(f"%cd {tmp_path}")
    assert (await client.run("import os; os.getcwd()"))["text"] == str(tmp_path)
    assert (await client.run("%autoreload 2"))["error"]["name"] == "UnsupportedMagic"


@needs_tables
async def test_tables_and_figures(client: Client) -> None:
    frame = await client.run("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': [None, 'x']})")
    assert frame["results"][0]["data"] == {"a": [1, 2], "b": [None, "x"]}
    assert "<table" in frame["results"][0]["html"]
    shown = await client.run("import matplotlib.pyplot as plt\nplt.plot([1, 2], label='l')\nplt.show()\n5")
    figure, value = shown["results"]
    assert figure["png"].startswith("iVBOR")
    assert figure["chart"]["type"] == "line"
    assert (figure["text"], value["text"]) == ("<Figure size 640x480 with 1 Axes>", "5")
    left_open = await client.run("fig = plt.figure()\nplt.plot([1])\nfig")
    assert [result["is_main_result"] for result in left_open["results"]] == [True]


@needs_tables
async def test_a_picture_shows_when_it_is_saved_or_shown(client: Client, tmp_path: Path) -> None:
    code = (
        f"from PIL import Image\npicture = Image.new('RGB', (4, 4))\npicture.save('{tmp_path}/p.png')\npicture.show()"
    )
    results = (await client.run(code))["results"]
    assert [result["png"][:5] for result in results] == ["iVBOR", "iVBOR"]


async def test_a_cell_out_of_time_is_interrupted_with_what_it_started(client: Client) -> None:
    await client.run("import subprocess, time; x = 1")
    ran = await client.run("child = subprocess.Popen(['sleep', '60']); time.sleep(60)", limit_ms=300)
    assert ran["error"]["name"] == "TimeoutError"
    assert {"type": "interrupted", "reason": "timeout"} in ran["lines"]
    assert "restarted" not in ran["types"]
    assert (await client.run("child.wait(), x"))["text"] == "(-9, 1)"


async def test_what_an_earlier_cell_started_lives_on(client: Client) -> None:
    await client.run("import subprocess, time; server = subprocess.Popen(['sleep', '60'])")
    await asyncio.sleep(0.05)
    await client.run("time.sleep(60)", limit_ms=200)
    assert (await client.run("server.poll()"))["text"] is None
    assert (await client.run("server.poll() is None"))["text"] == "True"


async def test_an_interpreter_that_heeds_nothing_is_replaced(client: Client) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); x = 1\nwhile True: pass"
    ran = await client.run(code, limit_ms=300)
    assert ran["types"][-3:] == ["interrupted", "restarted", "end_of_execution"]
    assert (await client.run("x"))["error"]["name"] == "NameError"


async def test_an_interpreter_that_ends_is_replaced(client: Client) -> None:
    ran = await client.run("import os; os._exit(3)")
    assert ran["error"]["name"] == "InterpreterDied"
    assert "exit status 3" in ran["error"]["value"]
    assert "restarted" in ran["types"]
    assert (await client.run("1"))["text"] == "1"


async def test_one_that_ends_between_cells_is_told_of(client: Client) -> None:
    await client.run("import os, threading; threading.Timer(0.1, lambda: os._exit(1)).start()")
    await asyncio.sleep(0.5)
    ran = await client.run("2")
    assert (ran["text"], ran["types"].count("restarted")) == ("2", 1)


async def test_a_client_that_leaves_interrupts_its_cell(client: Client) -> None:
    await client.run("import time; steps = []")
    cell = {"code": "for n in range(600):\n    steps.append(n); time.sleep(0.1)"}
    async for line in client.stream(cell, {}):
        assert line["type"] == "number_of_executions"
        break
    async with asyncio.timeout(5):
        assert (await client.run("len(steps) < 500"))["text"] == "True"


async def test_cells_of_one_context_wait_for_each_other(client: Client) -> None:
    first, second = await asyncio.gather(
        client.run("import time; begun = time.time(); time.sleep(0.3); done = time.time()"),
        client.run("1"),
    )
    counts = [ran["lines"][0]["execution_count"] for ran in (first, second)]
    assert sorted(counts) == [1, 2]


async def test_endless_output_waits_for_its_reader(client: Client) -> None:
    taken = 0
    async for line in client.stream({"code": "while True: print('x' * 1000)"}, {"Orchestrion-Timeout-Ms": "20000"}):
        if line["type"] == "stdout":
            assert len(line["text"]) <= 32 * 1024
            taken += len(line["text"])
        if taken > 3_000_000:
            break
    assert (await client.run("5"))["text"] == "5"


async def test_silence_is_broken_by_keepalives(client: Client) -> None:
    assert "keepalive" in (await client.run("import time; time.sleep(5.5)"))["types"]


async def test_contexts_are_made_restarted_and_removed(client: Client, tmp_path: Path) -> None:
    context = await client.context(cwd=str(tmp_path))
    listed = (await client.http.get("/contexts")).json()
    assert listed[-1] == {"id": context, "language": "python", "cwd": str(tmp_path)}
    assert (await client.run("import os; x = 1; os.getcwd()", context_id=context))["text"] == str(tmp_path)
    assert (await client.run("x"))["error"]["value"] == "name 'x' is not defined"
    restarted = await client.http.post(f"/contexts/{context}/restart")
    assert restarted.status_code == 200, restarted.text
    ran = await client.run("x", context_id=context)
    assert (ran["error"]["name"], ran["lines"][0]["execution_count"]) == ("NameError", 1)
    assert (await client.http.delete(f"/contexts/{context}")).status_code == 200
    gone = await client.http.post("/execute", json={"code": "1", "context_id": context})
    assert (gone.status_code, gone.text) == (404, f"Context {context} not found")


async def test_a_context_where_there_is_no_directory_is_refused(client: Client) -> None:
    refused = await client.http.post("/contexts", json={"cwd": "/no/such/place"})
    assert refused.status_code == 500
    assert "/no/such/place" in refused.text
    assert len((await client.http.get("/contexts")).json()) == 2


async def test_a_restart_ends_the_cell_that_runs(client: Client) -> None:
    context = await client.context()
    running = asyncio.create_task(client.run("import time; time.sleep(60)", context_id=context))
    await asyncio.sleep(0.3)
    await client.http.post(f"/contexts/{context}/restart")
    assert (await running)["error"]["name"] == "InterpreterDied"
    assert (await client.run("1", context_id=context))["text"] == "1"


@needs_node
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("\n    await Promise.resolve('Hello World!')\n", "Hello World!"),
        ("import { basename } from 'node:path'\nbasename('/a/b')", "b"),
        ("import path, * as whole from 'path'\ntypeof path.join + typeof whole.join", "functionfunction"),
        ("const os = await import('os'); typeof os.cpus", "function"),
        ("require('path').sep", "/"),
        ("{a: 1, b: [2]}", "{ a: 1, b: [ 2 ] }"),
        ("process.env.EVERYWHERE", "yes"),
        ("'import { x } from \"y\"'", 'import { x } from "y"'),
    ],
)
async def test_javascript_values(client: Client, code: str, text: str) -> None:
    ran = await client.run(code, language="js")
    assert (ran["error"], ran["text"]) == (None, text)


@needs_node
async def test_javascript_keeps_and_redeclares(client: Client) -> None:
    await client.run("const x = 1; let y = 2; class A {}", language="javascript")
    ran = await client.run("const x = 3; let y = 4; class A { z = 5 }; console.log(x + y); new A", language="js")
    assert (ran["stdout"], ran["text"], ran["stderr"]) == ("7\n", "A { z: 5 }", "")
    failed = await client.run("function f() { throw new TypeError('no') }; f()", language="js")
    assert (failed["error"]["name"], failed["error"]["value"]) == ("TypeError", "no")
    assert "node_kernel" not in failed["error"]["traceback"]
    shown = await client.run("display({'text/html': '<i>'}, {raw: true})", language="js")
    assert shown["results"][0]["html"] == "<i>"


@needs_node
@pytest.mark.parametrize("code", ["while (true) {}", "await new Promise(() => setTimeout(() => {}, 60000))"])
async def test_javascript_is_interrupted(client: Client, code: str) -> None:
    await client.run("const kept = 1", language="js")
    assert "interrupted" in (await client.run(code, limit_ms=300, language="js"))["types"]
    assert (await client.run("kept", language="js"))["text"] == "1"


@needs_node
async def test_typescript_loses_its_types_or_says_what_is_missing(client: Client) -> None:
    ran = await client.run("const n: number = 5; console.log(n)", language="ts")
    if ran["error"] is None:
        assert ran["stdout"] == "5\n"
    else:
        assert ran["error"]["name"] == "TypeScriptUnavailable"
        assert "node 22.13" in ran["error"]["value"]


async def test_bash_keeps_its_state(client: Client, tmp_path: Path) -> None:
    async def bash(code: str, **fields: Any) -> dict[str, Any]:
        return await client.run(code, language="bash", **fields)

    await bash(f"cd {tmp_path}; x=5; f() {{ echo f $x; }}; list=(a 'b c')")
    ran = await bash("pwd; f; echo ${list[1]}; echo bad >&2; echo $EVERYWHERE")
    assert (ran["stdout"], ran["stderr"], ran["error"]) == (f"{tmp_path}\nf 5\nb c\nyes\n", "bad\n", None)
    assert (await bash("echo $ONCE", env_vars={"ONCE": "a'b"}))["stdout"] == "a'b\n"
    assert (await bash("echo ${ONCE:-none}"))["stdout"] == "none\n"
    for code, status in (
        ("(exit 7)", "7"),
        ("x=6; exit 3", "3"),
        ("set -e; false; echo no", "1"),
        ("kept; exit", "127"),
    ):
        failed = await bash(code)
        assert (failed["error"]["name"], failed["error"]["value"], failed["stdout"]) == ("ExitStatus", status, "")
        assert "restarted" not in failed["types"]
    assert (await bash("f; echo ${list[1]}"))["stdout"] == "f 6\nb c\n"


@pytest.mark.parametrize("code", ["sleep 60; echo next", "while :; do :; done", "sleep 60 & wait"])
async def test_bash_is_interrupted(client: Client, code: str) -> None:
    await client.run("x=5", language="bash")
    ran = await client.run(code, limit_ms=300, language="bash")
    assert (ran["stdout"], "interrupted" in ran["types"]) == ("", True)
    assert (await client.run("echo $x", language="bash"))["stdout"] == "5\n"


@pytest.mark.parametrize("code", ["b'[' * 100000", "b'no message'", "b'5'"])
async def test_nonsense_on_the_channel_costs_the_cell_its_interpreter(client: Client, code: str) -> None:
    ran = await client.run(f"import os; os.write(3, {code} + b'\\n')")
    assert (ran["error"]["name"], "restarted" in ran["types"]) == ("InterpreterDied", True)
    assert (await client.run("2"))["text"] == "2"
