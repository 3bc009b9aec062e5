"""The real provider clients against the stand-in, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from orchestrion.core.errors import ModelError, ModelUnavailable, OrchestrionError
from orchestrion.core.settings import Settings
from orchestrion.models import Models, explain, is_transient, with_retries
from orchestrion.testing import Failure, PlaybookResponder, Reply, Request, Script, StandIn, ToolCall

TEXT = "Grüße — the answer is forty-two, and 北京 is a city. " * 3
Chat = Callable[[StandIn], BaseChatModel]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "MODEL", "BASE_URL"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path))


def pointed(server: StandIn, provider: str, seconds: float = 5) -> Settings:
    url = server.url if provider == "anthropic" else server.openai_url
    values: dict[str, Any] = {f"{provider}_base_url": url, f"{provider}_api_key": "sk-test-key-1234567890"}
    return Settings(model_timeout_seconds=seconds, **values)


@pytest.fixture(params=["anthropic", "openai"])
def chat(request: pytest.FixtureRequest) -> Chat:
    """A function that gives the real client of one provider, pointed at a stand-in."""

    def client(server: StandIn) -> BaseChatModel:
        return Models(pointed(server, request.param)).for_role("chat")

    return client


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Tokens(AsyncCallbackHandler):
    """Collects what is streamed to callbacks."""

    def __init__(self) -> None:
        self.tokens: list[Any] = []

    async def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(kwargs["chunk"].message.text)


async def test_ainvoke_streams_to_callbacks_and_counts_tokens(chat: Chat) -> None:
    reply = Reply(text=TEXT, input_tokens=100, output_tokens=20, cache_read_tokens=40)
    async with StandIn(Script([reply])) as server:
        tokens = Tokens()
        answer = await chat(server).ainvoke("hello", config={"callbacks": [tokens]})
    assert answer.text == TEXT
    assert "".join(tokens.tokens) == TEXT
    assert len(tokens.tokens) > 3
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"]) == (100, 20)
    assert usage["input_token_details"]["cache_read"] == 40
    assert server.requests[0].stream


async def test_text_before_a_tool_call_is_streamed_to_callbacks_too(chat: Chat) -> None:
    async with StandIn(Script([Reply(text=TEXT, tool_calls=[ToolCall("add", {"a": 1, "b": 2})])])) as server:
        tokens = Tokens()
        answer = await chat(server).bind_tools([add]).ainvoke("hello", config={"callbacks": [tokens]})
    assert answer.text == "".join(tokens.tokens) == TEXT
    assert len([token for token in tokens.tokens if token]) > 3


async def test_the_request_arrives_as_it_was_made(chat: Chat) -> None:
    async with StandIn(Script([Reply(text="ok")])) as server:
        await chat(server).ainvoke([SystemMessage("be brief"), HumanMessage("hello")])
    request = server.requests[0]
    assert request.system == "be brief"
    assert request.last_text == "hello"
    assert "temperature" not in request.raw


async def test_without_streaming_the_answer_is_the_same(chat: Chat) -> None:
    async with StandIn(Script([Reply(text=TEXT, tool_calls=[ToolCall("add", {"a": 1, "b": 2})])])) as server:
        model = chat(server).model_copy(update={"streaming": False})
        answer = await model.bind_tools([add]).ainvoke("hello")
    assert not server.requests[0].stream
    assert answer.text == TEXT
    assert answer.tool_calls[0]["args"] == {"a": 1, "b": 2}


async def test_tool_calls_come_in_pieces_and_their_results_go_back(chat: Chat) -> None:
    args = {"a": 1, "b": 2}
    calls = [ToolCall("add", args, "call_1"), ToolCall("add", {"a": 30_000_000, "b": -4}, "call_2")]
    async with StandIn(Script([Reply(text="Let me add.", tool_calls=calls), Reply(text="3")])) as server:
        model = chat(server).bind_tools([add])
        chunks = [chunk async for chunk in model.astream("1 + 2?")]
        first = chunks[0]
        for chunk in chunks[1:]:
            first += chunk  # type: ignore[assignment]
        assert isinstance(first, AIMessageChunk)
        assert [(call["name"], call["args"]) for call in first.tool_calls] == [
            ("add", calls[0].args),
            ("add", calls[1].args),
        ]
        results = [ToolMessage("3", tool_call_id=call["id"]) for call in first.tool_calls]
        answer = await model.ainvoke([HumanMessage("1 + 2?"), first, *results])
    assert answer.text == "3"
    assert server.requests[1].tool_names == ["add"]


async def test_a_tool_result_without_its_call_is_refused_as_the_provider_would(chat: Chat) -> None:
    async with StandIn(Script([Reply(text="never")])) as server:
        messages: list[BaseMessage] = [HumanMessage("x"), AIMessage("y"), ToolMessage("3", tool_call_id="call_9")]
        with pytest.raises(Exception, match="tool") as caught:
            await chat(server).ainvoke(messages)
    assert explain(caught.value).detail.startswith("The model's provider refused the call (400)")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_refusal_keeps_the_providers_message(chat: Chat, status: int) -> None:
    failure = Failure(status, f"no: key sk-test-key-1234567890 ({status})")
    async with StandIn(Script([Reply(error=failure)])) as server:
        with pytest.raises(Exception, match="no: key") as caught:
            await chat(server).ainvoke("hello")
    error = explain(caught.value)
    assert type(error) is ModelError
    assert f"({status})" in error.detail
    assert "1234567890" not in str(error)
    assert error.remedy


@pytest.mark.parametrize(
    "failed",
    [
        Reply(error=Failure(429, "slow down", retry_after=0.01)),
        Reply(error=Failure(529, "Overloaded", retry_after=0)),
        Reply(error=Failure(500, "Internal server error", retry_after=0)),
        Reply(text=TEXT, error=Failure(529, "Overloaded", after_chunks=2)),
        Reply(text=TEXT, error=Failure(500, "The server had an error", after_chunks=0)),
        Reply(text=TEXT, drop_after=2),
        Reply(text=TEXT, drop_after=0),
    ],
    ids=["429", "529", "500", "overloaded-mid-stream", "error-mid-stream", "dropped", "dropped-at-once"],
)
async def test_what_passes_is_retried_once_and_then_answered(chat: Chat, failed: Reply) -> None:
    told: list[tuple[int, OrchestrionError]] = []

    async def on_retry(attempt: int, wait: float, error: OrchestrionError) -> None:
        told.append((attempt, error))

    async with StandIn(Script([failed, Reply(text="fine")])) as server:
        model = chat(server)
        answer = await with_retries(lambda: model.ainvoke("hello"), retries=3, on_retry=on_retry)
    assert answer.text == "fine"
    assert len(server.requests) == 2
    assert [attempt for attempt, _ in told] == [1]
    assert isinstance(told[0][1], ModelUnavailable)


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_a_silent_provider_times_out(provider: str) -> None:
    async with StandIn(lambda _: Reply(text="late", first_token_delay=30)) as server:
        model = Models(pointed(server, provider, seconds=0.2)).for_role("chat")
        with pytest.raises(Exception, match=r".") as caught:
            await model.ainvoke("hello")
    assert is_transient(caught.value)
    assert "did not answer in time" in explain(caught.value).detail


async def test_nobody_listening_is_unavailable(chat: Chat) -> None:
    async with StandIn(Script([])) as server:
        model = chat(server)
    with pytest.raises(Exception, match=r".") as caught:
        await model.ainvoke("hello")
    assert "could not be reached" in explain(caught.value).detail


async def test_cancelling_a_call_ends_the_stream_at_the_provider(chat: Chat) -> None:
    async with StandIn(lambda _: Reply(text=TEXT, delay=30)) as server:
        started = asyncio.Event()

        class Started(AsyncCallbackHandler):
            async def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
                started.set()

        task = asyncio.create_task(chat(server).ainvoke("hello", config={"callbacks": [Started()]}))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while server.active:
            await asyncio.sleep(0.01)
    assert server.disconnects == 1


async def test_a_hundred_streams_at_once_lose_nothing(chat: Chat) -> None:
    def respond(request: Request) -> Reply:
        return Reply(text=f"{request.last_text}: {TEXT}")

    async with StandIn(respond) as server:
        model = chat(server)
        answers = await asyncio.gather(*(model.ainvoke(f"number {n}") for n in range(100)))
    assert [answer.text for answer in answers] == [f"number {n}: {TEXT}" for n in range(100)]


async def test_the_wrong_key_is_refused(chat: Chat) -> None:
    async with StandIn(Script([Reply(text="never")]), api_key="another") as server:
        with pytest.raises(Exception, match="invalid") as caught:
            await chat(server).ainvoke("hello")
    assert "(401)" in explain(caught.value).detail


async def test_sampling_parameters_are_refused_for_models_without_them() -> None:
    async with StandIn(Script([Reply(text="ok")])) as server, httpx.AsyncClient() as http:
        body = {"model": "claude-sonnet-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
        answer = await http.post(f"{server.url}/v1/messages", json={**body, "temperature": 0.5})
        assert (answer.status_code, "temperature" in answer.text) == (400, True)
        assert (await http.post(f"{server.url}/v1/messages", json=body)).status_code == 200


async def test_models_and_count_tokens_are_served() -> None:
    async with StandIn(Script([])) as server, httpx.AsyncClient() as http:
        assert (await http.get(f"{server.openai_url}/models")).json()["data"][0]["id"] == "stand-in"
        counted = await http.post(f"{server.url}/v1/messages/count_tokens", json={"messages": []})
        assert counted.json()["input_tokens"] > 0
        assert (await http.get(f"{server.url}/nowhere")).status_code == 404
        assert (await http.post(f"{server.url}/v1/messages", content=b"{")).status_code == 400


async def test_a_responder_that_breaks_is_told_to_the_client() -> None:
    def broken(_: Request) -> Reply:
        raise KeyError("oops")

    async with StandIn(broken) as server, httpx.AsyncClient() as http:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        answer = await http.post(f"{server.openai_url}/chat/completions", json=body)
    assert "KeyError" in answer.json()["error"]["message"]


async def test_the_playbook_answers_over_the_wire(chat: Chat) -> None:
    async with StandIn(PlaybookResponder()) as server:
        answer = await chat(server).ainvoke("What is 6*7?")
    assert "42" in answer.text
    assert "not a language model" in answer.text
