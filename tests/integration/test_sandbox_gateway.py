"""The gateway from inside a real sandbox: model calls without a key, a way out by the list, the end with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_support import Names, echo, here, server
from runtime_support import running, to_the_end, types, upload

from orchestrion.core.events import LlmCalled, SandboxEgress, ToolFinished, UsageRecorded
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes
from orchestrion.sandbox.gateway import Grant
from orchestrion.store.models import Budget, RunRequest
from orchestrion.testing import Reply, Request, ToolCall

CALL = """
import json, os, urllib.error, urllib.request
assert not [name for name, value in os.environ.items() if "secret" in value or value == "test-key"]
def ask(path, **body):
    url = os.environ["ANTHROPIC_BASE_URL"] + path
    request = urllib.request.Request(url, json.dumps(body).encode(), {"x-api-key": os.environ["ANTHROPIC_API_KEY"]})
    try:
        with urllib.request.urlopen(request) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
messages = [{"role": "user", "content": "From inside: what is six times seven?"}]
ask("/v1/messages", model="default", max_tokens=20, messages=messages)
ask("/v1/chat/completions", model="default", messages=messages)
"""


def computing(request: Request) -> Reply:
    """An agent that runs the code above once; and the model that its code asks."""
    if "From inside" in request.last_text:
        return Reply("Forty-two.", input_tokens=500, output_tokens=5)
    if "execute_code" not in request.tool_names:
        return Reply('{"steps": ["Compute"], "task": "Compute"}')
    results = [message for message in request.messages if "tool_result" in json.dumps(message)]
    return Reply("It is done.") if results else Reply("", [ToolCall("execute_code", {"code": CALL})])


async def run_inside(home: Path, **more: Any) -> tuple[Any, list[Any], Any]:
    async with running(home, computing) as (runtime, server_):
        session = await runtime.create_session(owner="local")
        path = await upload(runtime, session.session_id, "table.csv", b"a,b\n1,2\n")
        request = RunRequest(
            goal="Analyse the table", session_id=session.session_id, files=[path], agent="data", **more
        )
        run, events = await to_the_end(runtime, request)
        return run, events, server_


async def test_code_of_a_run_calls_its_models_without_a_key_and_the_run_pays(tmp_path: Path) -> None:
    run, events, server_ = await run_inside(tmp_path)
    told = next(event.result for event in events if isinstance(event, ToolFinished) and event.name == "execute_code")
    assert told.count("Forty-two.") == 2, told
    assert "test-key" not in told
    inner = [event for event in events if isinstance(event, LlmCalled) and event.source == "sandbox"]
    assert len(inner) == 2
    paid = [
        event.call.input_tokens for event in events if isinstance(event, UsageRecorded) and event.source == "sandbox"
    ]
    assert paid == [500, 500]
    assert run.usage.input_tokens >= 1000
    assert types(events)[-1] == f"run.{run.state}"
    assert all("test-key" in json.dumps(dict(request.headers)) for request in server_.requests)


async def test_code_of_a_run_whose_budget_is_spent_is_refused(tmp_path: Path) -> None:
    run, events, server_ = await run_inside(tmp_path, budget=Budget(steps=3))
    asked = [request for request in server_.requests if "From inside" in request.last_text]
    told = [event.result for event in events if isinstance(event, ToolFinished) and event.name == "execute_code"]
    assert len(asked) < 2
    assert any("used its budget up" in result for result in told), told
    assert run.state == "budget_spent"


@pytest.fixture
async def own(tmp_path: Path) -> Any:
    async with server(echo) as port:
        network, operator = here("good.example", port=port)
        made = Sandboxes(Settings(home=tmp_path / "home", sandbox_egress=list(network.allow)))
        state = await made.probe("local")
        if not state.ok:
            pytest.skip(f"{state.detail} {state.remedy}")
        assert operator
        yield made, port
        await made.close_all()
        await made.aclose()


async def test_the_list_is_the_only_way_out_and_ends_with_the_grant(tmp_path: Path, own: Any) -> None:
    sandboxes, port = own
    workspace = tmp_path / "home" / "workspaces" / "ses_test"
    workspace.mkdir(parents=True)
    events: list[Any] = []

    async def emit(event: Any) -> None:
        events.append(event)

    sandboxes.gateway._resolve = Names(good_example=["127.0.0.1"])
    sandbox = (await sandboxes.acquire("ses_test", workspace)).sandbox
    fetch = (
        "import urllib.request as r, urllib.error as e\n"
        "def get(url):\n"
        "    try:\n"
        "        print(r.urlopen(url, timeout=10).status)\n"
        "    except e.HTTPError as error:\n"
        "        print(error.code, error.read().decode())\n"
        "    except OSError as error:\n"
        "        print('failed', error)\n"
        f"get('http://good.example:{port}/')\n"
        "get('http://evil.example/')\n"
        "get('https://evil.example/')\n"
        "get('http://169.254.169.254/latest/meta-data/')\n"
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(('127.0.0.1', {port}), 3)\n"
        "    print('direct')\n"
        "except OSError:\n"
        "    print('no way round')\n"
    )
    before = (await sandbox.run_code(fetch)).stdout.splitlines()
    assert all("No run uses this sandbox" in line or "failed" in line for line in before[:-1]), before
    grant = Grant("run_1", emit)
    sandboxes.gateway.grant(sandbox.id, grant)
    lines = (await sandbox.run_code(fetch)).stdout.splitlines()
    assert lines[0] == "200", lines
    assert lines[1].startswith("403")
    assert "may not reach evil.example" in lines[1]
    assert "may not reach evil.example" in lines[2]
    assert lines[3].startswith("403")
    assert lines[4] == "no way round"
    await sandboxes.gateway.revoke(sandbox.id, grant)
    reached = {(event.host, event.verdict) for event in events if isinstance(event, SandboxEgress)}
    assert {("good.example", "allowed"), ("evil.example", "denied"), ("169.254.169.254", "denied")} <= reached
    assert "No run uses this sandbox" in (await sandbox.run_code(fetch)).stdout
