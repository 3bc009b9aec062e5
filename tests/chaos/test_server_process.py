"""`serve` in a process of its own: ready, stopped, stopped again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

PROGRAM = """
import asyncio, sys
from orchestrion.core.errors import OrchestrionError
from orchestrion.core.settings import load_settings
from orchestrion.server import serve
try:
    asyncio.run(serve(load_settings(), on_ready=lambda url: print(url, flush=True)))
except OrchestrionError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print("ended", flush=True)
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRION_", "ANTHROPIC_"))}
    base = {"ORCHESTRION_HOME": str(home), "ORCHESTRION_PORT": "0", "ORCHESTRION_MODEL": "playbook"}
    return {**kept, **base, **more}


@contextmanager
def served(home: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment(home, **more), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def slow_model() -> Iterator[dict[str, str]]:
    """A model that takes seconds for an answer, as settings for a server."""
    command = [sys.executable, "-m", "orchestrion.testing", "serve", "--text", "word " * 150, "--delay", "0.02"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip().removeprefix("ANTHROPIC_BASE_URL=")
        yield {
            "ORCHESTRION_MODEL": "",
            "ANTHROPIC_API_KEY": "k",
            "ANTHROPIC_MODEL": "stand-in",
            "ANTHROPIC_BASE_URL": url,
        }
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def start_chat(url: str) -> dict[str, str]:
    response = httpx.post(f"{url}/api/chat", json={"message": "hello", "mode": "chat"}, timeout=60)
    assert response.status_code == 202, response.text
    return response.json()


def events_in(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line[6:]) for line in lines if line.startswith("data: "))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_with_open_streams(tmp_path: Path, stop: signal.Signals) -> None:
    with slow_model() as model, served(tmp_path, **model) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        accepted = start_chat(url)
        with httpx.stream("GET", url + accepted["stream_url"], timeout=60) as response:
            events = events_in(response.iter_lines())
            next(events)
            process.send_signal(stop)
            rest = list(events)  # it ends as a whole response, not as a broken one
        assert "run.finished" not in {event["type"] for event in rest}
        assert process.wait(timeout=40) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "ended\n"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz", timeout=60)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as (process, url):
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as slow:
            # A request that never ends holds an orderly end up for its grace of some seconds.
            slow.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            httpx.get(f"{url}/healthz", timeout=60)
            process.send_signal(signal.SIGINT)
            while accepts(port):
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=40) == 128 + signal.SIGINT


def test_an_unfinished_request_does_not_hold_the_end_up_for_ever(tmp_path: Path) -> None:
    with served(tmp_path) as (process, url):
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            httpx.get(f"{url}/healthz", timeout=60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=40) == 0


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"ORCHESTRION_HOST": "0.0.0.0"}, 2, "ORCHESTRION_API_KEYS"),
        ({"ORCHESTRION_HOST": "192.0.2.1", "ORCHESTRION_API_KEYS": "k"}, 2, "can't listen on 192.0.2.1"),
    ],
)
def test_a_refusal_is_one_sentence_and_an_exit_code(
    tmp_path: Path, more: dict[str, str], code: int, says: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=False,
        env=environment(tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == code
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_with_keys_it_listens_to_all(tmp_path: Path) -> None:
    with served(tmp_path, ORCHESTRION_HOST="0.0.0.0", ORCHESTRION_API_KEYS="k") as (_, url):
        assert url.startswith("http://localhost:")
        assert httpx.get(f"{url}/api/sessions", timeout=60).status_code == 401
        assert httpx.get(f"{url}/api/sessions", headers={"Authorization": "Bearer k"}).json() == {"sessions": []}


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_cut_off_is_gone_on_with(tmp_path: Path, end: signal.Signals) -> None:
    """A server ends in the middle of an answer, another takes the run up, the reader misses and repeats nothing."""
    seen: list[dict[str, Any]] = []
    with slow_model() as model:
        with served(tmp_path, **model) as (process, url):
            accepted = start_chat(url)
            with (
                suppress(httpx.TransportError),
                httpx.stream("GET", url + accepted["stream_url"], timeout=60) as response,
            ):
                for event in events_in(response.iter_lines()):
                    seen.append(event)
                    if len(seen) == 8:
                        process.send_signal(end)
            process.wait(timeout=40)
        with served(tmp_path, **model) as (_, url):
            headers = {"Last-Event-ID": str(seen[-1]["seq"])}
            with httpx.stream("GET", url + accepted["stream_url"], headers=headers, timeout=60) as response:
                seen += events_in(response.iter_lines())
            whole = httpx.get(f"{url}/api/runs/{accepted['run_id']}/events", timeout=60).json()["events"]
            state = httpx.get(f"{url}/api/runs/{accepted['run_id']}", timeout=60).json()["state"]
    assert seen == whole
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert "run.resumed" in {event["type"] for event in seen}
    assert seen[-1]["type"] == "run.finished"
    assert seen[-1]["answer"] == "word " * 150
    assert state == "finished"
