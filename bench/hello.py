"""The platform's own addition to the first token of "hello", and a hundred such streams at once.

Both sides talk to the same stand-in, in turns: once through `orchestrion serve` over HTTP (POST /api/chat, then the
stream until its first `message.delta`), once with the provider's own SDK until its first piece of text. The
difference of the medians is what the platform adds: HTTP, routing, the journal, LangChain and the stream. What the
client spends on two HTTP requests is in it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anthropic
import httpx

from bench.harness import Figure, bench
from bench.processes import orchestrion, running
from bench.provider import COMMAND, MODEL, READY, answer

WARM_UP = 15
ROUNDS = 100
STREAMS = 100
PAUSE = 0.05
LIMIT_MS = 10.0


@bench("hello")
async def hello() -> list[Figure]:
    """Measure the first token and the hundred streams."""
    with tempfile.TemporaryDirectory() as home:
        async with running(COMMAND, READY) as provider:
            environment = {
                "ORCHESTRION_HOME": home,
                "ANTHROPIC_BASE_URL": provider,
                "ANTHROPIC_API_KEY": "bench",
                "ANTHROPIC_MODEL": MODEL,
            }
            command = [orchestrion(), "serve", "--port", "0"]
            async with running(command, r"ready on (\S+)", environment, Path(home, "serve.log")) as url:
                return [*await _first_token(url, provider), *await _at_once(url)]


async def _first_token(url: str, provider: str) -> list[Figure]:
    sdk = anthropic.AsyncAnthropic(base_url=provider, api_key="bench", max_retries=0)
    ours: list[float] = []
    raw: list[float] = []
    async with sdk, httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        gc.disable()
        for turn in range(WARM_UP + ROUNDS):
            through = await _through(http)
            # A run's end is still being kept when its stream closes; neither side is to start in the other's wake.
            await asyncio.sleep(PAUSE)
            direct = await _direct(sdk)
            await asyncio.sleep(PAUSE)
            if turn >= WARM_UP:
                ours.append(through * 1000)
                raw.append(direct * 1000)
        gc.enable()
    name = f'"hello", first token, median of {ROUNDS}'
    added = Figure("added by the platform", median(ours) - median(raw), "ms", at_most=LIMIT_MS)
    return [Figure(name, median(ours), "ms", median(raw), "raw provider SDK"), added]


async def _through(http: httpx.AsyncClient) -> float:
    """Return the seconds to the first piece of text through the platform; the run then ends by itself."""
    begun = perf_counter()
    started = (await http.post("/api/chat", json={"message": "hello"})).raise_for_status().json()
    first = None
    async for event in _events(http, started["stream_url"]):
        if event["type"] == "message.delta" and first is None:
            first = perf_counter() - begun
    if first is None:
        raise RuntimeError("a run without any text")
    return first


async def _direct(sdk: anthropic.AsyncAnthropic) -> float:
    """Return the seconds to the first piece of text from the provider's SDK."""
    begun = perf_counter()
    first = None
    stream = await sdk.messages.create(
        model=MODEL, max_tokens=1000, messages=[{"role": "user", "content": "hello"}], stream=True
    )
    async for event in stream:
        if event.type == "content_block_delta" and first is None:
            first = perf_counter() - begun
    if first is None:
        raise RuntimeError("a stream without any text")
    return first


async def _events(http: httpx.AsyncClient, url: str) -> AsyncIterator[dict[str, Any]]:
    async with http.stream("GET", url) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line[5:])


async def _at_once(url: str) -> list[Figure]:
    limits = httpx.Limits(max_connections=2 * STREAMS)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as http:
        begun = perf_counter()
        whole = await asyncio.gather(*(_is_whole(http, f"hello, I am guest {number}") for number in range(STREAMS)))
        seconds = perf_counter() - begun
    return [
        Figure(f"{STREAMS} streams at once, complete", sum(whole), "streams", at_least=STREAMS),
        Figure(f"{STREAMS} streams at once, all done", seconds, "s"),
    ]


async def _is_whole(http: httpx.AsyncClient, message: str) -> bool:
    """Say whether a run's stream has every event once, in order, and every word."""
    started = (await http.post("/api/chat", json={"message": message})).raise_for_status().json()
    events = [event async for event in _events(http, started["stream_url"])]
    text = "".join(event["text"] for event in events if event["type"] == "message.delta")
    in_order = [event["seq"] for event in events] == list(range(1, len(events) + 1))
    finished = events[-1]["type"] == "run.finished" and events[-1]["answer"] == answer(message)
    return in_order and finished and text == answer(message)
