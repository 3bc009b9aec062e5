"""Model calls of code in a sandbox: the real clients of both protocols, on the gateway's socket, with no key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from gateway_support import ID, Served, serving
from pydantic import SecretStr

from orchestrion.core.events import EventBase, LlmCalled, MessageDelta, UsageRecorded
from orchestrion.core.settings import Settings
from orchestrion.middleware.context import AgentContext
from orchestrion.middleware.meter import Meter
from orchestrion.models import Models
from orchestrion.runtime.model_door import run_grant
from orchestrion.sandbox.gateway import GatewayLimits, Grant
from orchestrion.sandbox.protocols import Network, Sandbox
from orchestrion.store.embedded import open_embedded
from orchestrion.store.models import Budget
from orchestrion.store.protocols import Blobs
from orchestrion.store.workspace import Workspace
from orchestrion.testing import Failure, PlaybookResponder, Reply, Request, Script, StandIn, ToolCall

KEY = "sk-host-secret-key"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ANTHROPIC_TOOL: Any = {
    "name": "weather",
    "description": "Tells the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
OPENAI_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@dataclass
class Inside:
    """Code in a sandbox, as the gateway sees it, and the run that it works for."""

    served: Served
    context: AgentContext
    blobs: Blobs
    grant: Grant
    events: list[EventBase] = field(default_factory=list)

    def anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        client = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(self.served.path)), timeout=20)
        return anthropic.AsyncAnthropic(
            api_key="sandbox", base_url="http://127.0.0.1:3128", http_client=client, **options
        )

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(self.served.path)), timeout=20)
        return openai.AsyncOpenAI(
            api_key="sandbox", base_url="http://127.0.0.1:3128/v1", http_client=client, **options
        )

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def no_sandbox() -> Sandbox:
    raise AssertionError("no tool runs here")


@asynccontextmanager
async def inside(
    home: Path, budget: Budget | None = None, models: str | None = None, **values: Any
) -> AsyncIterator[Inside]:
    events: list[EventBase] = []

    async def append(event: EventBase) -> EventBase:
        events.append(event)
        return event

    settings = Settings(home=home, **values)
    async with open_embedded(home) as store, serving(home, Network()) as served:
        context = AgentContext("run_1", "ses_1", Workspace(home), settings, append, no_sandbox)
        context.meter = Meter(budget or Budget())
        grant = run_grant(context, Models(settings, models), store.blobs)
        served.gateway.grant(ID, grant)
        yield Inside(served, context, store.blobs, grant, events)


@asynccontextmanager
async def in_front_of(
    home: Path, provider: str, responder: Any, **more: Any
) -> AsyncIterator[tuple[Inside, StandIn]]:
    """A sandbox whose model is the stand-in, which takes the host's own key only."""
    async with StandIn(responder, api_key=KEY) as server:
        url = server.url if provider == "anthropic" else server.openai_url
        values: dict[str, Any] = {
            f"{provider}_api_key": KEY,
            f"{provider}_model": "the-model",
            f"{provider}_base_url": url,
            "model_retries": 1,
        }
        async with inside(home, **(values | more)) as made:
            yield made, server


providers = pytest.mark.parametrize("provider", ["anthropic", "openai"])


@providers
async def test_both_protocols_answer_whatever_the_provider_and_the_call_is_booked(
    tmp_path: Path, provider: str
) -> None:
    replies = Script([Reply("Hello there.", input_tokens=30, output_tokens=4) for _ in range(4)])
    async with in_front_of(tmp_path, provider, replies) as (code, server):
        message = await code.anthropic().messages.create(
            model="the-model", max_tokens=50, system="Be kind.", messages=[{"role": "user", "content": "Hi"}]
        )
        assert (message.content[0].text, message.stop_reason) == ("Hello there.", "end_turn")  # type: ignore[union-attr]
        assert (message.usage.input_tokens, message.usage.output_tokens) == (30, 4)
        asked = server.requests[-1]
        assert (asked.system, asked.last_text, asked.raw["model"]) == ("Be kind.", "Hi", "the-model")
        assert 50 in {asked.raw.get("max_tokens"), asked.raw.get("max_completion_tokens")}

        completion = await code.openai().chat.completions.create(
            model="standard", messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
        )
        assert completion.choices[0].message.content == "Hello there."
        assert completion.usage is not None
        assert completion.usage.total_tokens == 34
        assert code.context.meter.usage.input_tokens == 60
        assert code.context.meter.steps == 2

        calls, usages = code.of(LlmCalled), code.of(UsageRecorded)
        assert [(call.source, call.model) for call in calls] == [("sandbox", f"{provider}:the-model")] * 2
        assert [usage.total.output_tokens for usage in usages] == [4, 8]
        kept = await code.blobs.get("run_1", [*calls[0].prompt, calls[0].response])
        assert "Hello there." in json.dumps(kept)
        assert not code.of(MessageDelta)


@providers
async def test_streams_come_piece_by_piece_on_both_protocols(tmp_path: Path, provider: str) -> None:
    text = "One two three four five six seven eight nine ten eleven twelve."
    replies = Script([Reply(text, chunk_size=7, input_tokens=30, output_tokens=12) for _ in range(2)])
    async with in_front_of(tmp_path, provider, replies) as (code, _):
        async with code.anthropic().messages.stream(
            model="default", max_tokens=50, messages=[{"role": "user", "content": "Count"}]
        ) as stream:
            pieces = [piece async for piece in stream.text_stream]
            whole = await stream.get_final_message()
        assert ("".join(pieces), len(pieces) > 3) == (text, True)
        assert (whole.usage.input_tokens, whole.usage.output_tokens) == (30, 12)

        chunks = [
            chunk
            async for chunk in await code.openai().chat.completions.create(
                model="flash",
                messages=[{"role": "user", "content": "Count"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert ("".join(said), len([piece for piece in said if piece]) > 3) == (text, True)
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 12


@providers
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_pass_both_ways_on_the_anthropic_protocol(tmp_path: Path, provider: str, stream: bool) -> None:
    calls = [ToolCall("weather", {"city": "Łódź"}), ToolCall("weather", {"city": "Rome"})]
    async with in_front_of(tmp_path, provider, Script([Reply("Let me see.", calls), Reply("Rainy.")])) as (
        code,
        server,
    ):
        messages: list[Any] = [{"role": "user", "content": "Weather?"}]
        asked: Any = {"model": "pro", "max_tokens": 50, "tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "auto"}}
        if stream:
            async with code.anthropic().messages.stream(messages=messages, **asked) as streaming:
                answer = await streaming.get_final_message()
        else:
            answer = await code.anthropic().messages.create(messages=messages, **asked)
        assert answer.stop_reason == "tool_use"
        blocks = [block for block in answer.content if block.type == "tool_use"]
        assert [block.input for block in blocks] == [{"city": "Łódź"}, {"city": "Rome"}]
        results = [{"type": "tool_result", "tool_use_id": block.id, "content": "rain"} for block in blocks]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
        last = await code.anthropic().messages.create(messages=messages, **asked)
        assert last.content[0].text == "Rainy."  # type: ignore[union-attr]
        assert server.requests[0].tool_names == ["weather"]


@providers
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_pass_both_ways_on_the_openai_protocol(tmp_path: Path, provider: str, stream: bool) -> None:
    calls = [ToolCall("weather", {"city": "Łódź"}), ToolCall("weather", {"city": "Rome"})]
    async with in_front_of(tmp_path, provider, Script([Reply("", calls), Reply("Rainy.")])) as (code, _server):
        messages: list[Any] = [{"role": "user", "content": "Weather?"}]
        asked: Any = {"model": "the-model", "tools": [OPENAI_TOOL]}
        if stream:
            async with code.openai().chat.completions.stream(messages=messages, **asked) as streaming:
                async for _ in streaming:
                    pass
                answer: Any = await streaming.get_final_completion()
        else:
            answer = await code.openai().chat.completions.create(messages=messages, **asked)
        assert answer.choices[0].finish_reason == "tool_calls"
        made = answer.choices[0].message.tool_calls
        assert [json.loads(call.function.arguments) for call in made] == [{"city": "Łódź"}, {"city": "Rome"}]
        messages.append({"role": "assistant", "content": None, "tool_calls": [call.model_dump() for call in made]})
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in made]
        last = await code.openai().chat.completions.create(messages=messages, **asked)
        assert last.choices[0].message.content == "Rainy."


@providers
async def test_a_picture_goes_to_the_provider_on_either_protocol(tmp_path: Path, provider: str) -> None:
    async with in_front_of(tmp_path, provider, Script([Reply("A dot.")] * 2)) as (code, server):
        source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
        await code.anthropic().messages.create(
            model="default", max_tokens=50, messages=[{"role": "user", "content": content}]
        )
        url: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        await code.openai().chat.completions.create(
            model="default", messages=[{"role": "user", "content": [url, {"type": "text", "text": "What is it?"}]}]
        )
        for request in server.requests:
            assert PIXEL in json.dumps(request.raw)


async def test_the_playbook_answers_on_both_protocols(tmp_path: Path) -> None:
    async with inside(tmp_path, model="playbook") as code:
        message = await code.anthropic().messages.create(
            model="playbook", max_tokens=9, messages=[{"role": "user", "content": "12 * 12"}]
        )
        assert "144" in message.content[0].text  # type: ignore[union-attr]
        stream = await code.openai().chat.completions.create(
            model="default", messages=[{"role": "user", "content": "12 * 12"}], stream=True
        )
        assert "144" in "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert [call.model for call in code.of(LlmCalled)] == ["playbook", "playbook"]


@providers
async def test_a_budget_that_is_spent_refuses_the_next_call_for_good(tmp_path: Path, provider: str) -> None:
    async with in_front_of(tmp_path, provider, PlaybookResponder(), budget=Budget(tokens=10)) as (code, server):
        hello: Any = [{"role": "user", "content": "Hello, who are you and what can you do for me?"}]
        await code.anthropic().messages.create(model="default", max_tokens=50, messages=hello)
        asked = len(server.requests)
        for stream in (False, True):
            with pytest.raises(anthropic.APIStatusError) as spent:
                await code.anthropic().messages.create(model="default", max_tokens=50, messages=hello, stream=stream)
            assert (spent.value.status_code, spent.value.body["error"]["type"]) == (402, "billing_error")  # type: ignore[index]
            assert "used its budget up" in spent.value.message
            with pytest.raises(openai.RateLimitError, match="used its budget up") as quota:
                await code.openai().chat.completions.create(model="default", messages=hello, stream=stream)
            assert quota.value.code == "insufficient_quota"
        assert len(server.requests) == asked


async def test_no_key_of_either_side_meets_the_other(tmp_path: Path) -> None:
    async with in_front_of(tmp_path, "anthropic", Script([Reply("Hi.")] * 2)) as (code, server):
        client = code.anthropic(default_headers={"authorization": "Bearer sk-inside-secret"})
        raw = await client.messages.with_raw_response.create(
            model="default", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        )
        sent = json.dumps(dict(server.requests[-1].headers))
        assert KEY in sent
        assert "sk-inside-secret" not in sent
        assert KEY not in await raw.text() + str(raw.headers)
        assert "sk-inside-secret" not in json.dumps([event.model_dump(mode="json") for event in code.events])


@providers
async def test_errors_come_in_the_protocols_own_shape(tmp_path: Path, provider: str) -> None:
    failure = Failure(400, f"messages: nonsense, and your key is {KEY}")
    async with in_front_of(tmp_path, provider, Script([Reply(error=failure)] * 2)) as (code, _server):
        hello: Any = [{"role": "user", "content": "Hi"}]
        with pytest.raises(anthropic.NotFoundError, match=r"no model 'gpt-9'.*Use one of: default, flash"):
            await code.anthropic().messages.create(model="gpt-9", max_tokens=9, messages=hello)
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-9'") as unknown:
            await code.openai().chat.completions.create(model="gpt-9", messages=hello)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(anthropic.BadRequestError, match="nonsense") as refused:
            await code.anthropic().messages.create(model="default", max_tokens=9, messages=hello)
        assert KEY not in refused.value.message
        with pytest.raises(openai.BadRequestError, match="nonsense"):
            await code.openai().chat.completions.create(model="default", messages=hello, stream=True)
        assert code.of(LlmCalled) == []
        listed = [model.id async for model in code.openai().models.list()]
        assert {"default", "flash", "standard", "pro", f"{provider}:the-model"} <= set(listed)
        assert [model.id async for model in code.anthropic().models.list()] == listed


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/messages", b"{", "not valid JSON"),
        ("/v1/messages", b"[" * 100_000, "not valid JSON"),
        ("/v1/messages", b"[]", "not a JSON object"),
        ("/v1/messages", b"[" + b"[]," * 1_000_000 + b"[]]", "too many parts"),
        ("/v1/messages", b'{"model": "default", "messages": []}', "max_tokens"),
        ("/v1/messages", b'{"model": 5, "max_tokens": 1}', "model"),
        ("/v1/messages", b'{"model": "default", "max_tokens": 1, "messages": [{"role": "user"}]}', "content"),
        (
            "/v1/messages",
            b'{"model": "default", "max_tokens": 1, "messages": [], "thinking": {"type": "enabled"}}',
            "thinking",
        ),
        (
            "/v1/messages",
            b'{"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "odd"}]}]}',
            "odd",
        ),
        (
            "/v1/messages",
            b'{"model": "d", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}],'
            b'"tools": [{"type": "bash_1", "name": "b"}]}',
            "runs itself",
        ),
        ("/v1/chat/completions", b'{"model": "default"}', "messages"),
        ("/v1/chat/completions", b'{"model": "d", "messages": [{"role": "x"}]}', "role"),
        (
            "/v1/chat/completions",
            b'{"model": "d", "messages": [{"role": "user", "content": "x"}], "n": 3}',
            "n: Not supported",
        ),
        (
            "/v1/chat/completions",
            b'{"model": "d", "messages": [{"role": "user", "content": "x"}], "temperature": "x"}',
            "number",
        ),
    ],
)
async def test_a_malformed_call_is_told_what_is_wrong(tmp_path: Path, path: str, body: bytes, said: str) -> None:
    async with inside(tmp_path, model="playbook") as code:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(code.served.path))) as client:
            answer = await client.post(f"http://gateway{path}", content=body)
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]
        assert code.context.meter.steps == 0


async def test_overload_is_tried_again_and_then_told(tmp_path: Path) -> None:
    replies = Script(
        [Reply(error=Failure(529, retry_after=0.01)), Reply("At last.")] + [Reply(error=Failure(529))] * 2
    )
    async with in_front_of(tmp_path, "anthropic", replies) as (code, _):
        client = code.anthropic(max_retries=0)
        hello: Any = [{"role": "user", "content": "Hi"}]
        message = await client.messages.create(model="default", max_tokens=9, messages=hello)
        assert message.content[0].text == "At last."  # type: ignore[union-attr]
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            await client.messages.create(model="default", max_tokens=9, messages=hello)
        assert overloaded.value.status_code == 529


async def test_an_answer_that_breaks_off_is_an_error_in_the_stream(tmp_path: Path) -> None:
    replies = Script([Reply("One two three four five six", chunk_size=5, drop_after=2)] * 2)
    async with in_front_of(tmp_path, "anthropic", replies) as (code, _):
        hello: Any = [{"role": "user", "content": "Hi"}]
        with pytest.raises(anthropic.APIStatusError):
            async with code.anthropic().messages.stream(model="default", max_tokens=9, messages=hello) as stream:
                await stream.get_final_message()
        with pytest.raises(openai.APIError):
            async for _ in await code.openai().chat.completions.create(model="default", messages=hello, stream=True):
                pass
        async with asyncio.timeout(10):  # the client hears of the end sooner than the books
            while len(code.of(UsageRecorded)) != 2:
                await asyncio.sleep(0.01)


async def test_a_client_that_goes_away_ends_the_call_which_is_booked_all_the_same(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def slow(request: Request) -> Reply:
        asked.set()
        return Reply("word " * 200, delay=30.0)

    async with in_front_of(tmp_path, "anthropic", slow) as (code, server):
        body = {"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "Tell me all" * 40}]}
        for stream in (True, False):
            asked.clear()
            content = json.dumps({**body, "stream": stream}).encode()
            _, writer = await code.served.connect()
            head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            await asked.wait()
            writer.close()
            async with asyncio.timeout(10):
                while server.active or len(code.of(UsageRecorded)) != (1 if stream else 2):
                    await asyncio.sleep(0.01)
        assert code.context.meter.usage.input_tokens > 200
        assert all(usage.call.input_tokens for usage in code.of(UsageRecorded))


async def test_a_revoked_grant_ends_a_model_call_and_refuses_the_next(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def slow(request: Request) -> Reply:
        asked.set()
        return Reply("word " * 200, delay=30.0)

    async with in_front_of(tmp_path, "openai", slow) as (code, _server):
        client = code.openai(max_retries=0)
        hello: Any = [{"role": "user", "content": "Hi"}]
        calling = asyncio.create_task(client.chat.completions.create(model="default", messages=hello))
        await asked.wait()
        await code.served.gateway.revoke(ID, code.grant)
        assert len(code.of(UsageRecorded)) == 1
        with pytest.raises(openai.APIConnectionError):
            await calling
        with pytest.raises(openai.PermissionDeniedError, match="switched off"):
            await client.chat.completions.create(model="default", messages=hello)
        await code.served.gateway.revoke(ID, code.served.grant)
        with pytest.raises(openai.PermissionDeniedError, match="No run uses this sandbox"):
            await client.chat.completions.create(model="default", messages=hello)


async def test_what_all_calls_together_hold_of_the_hosts_memory_is_bounded(tmp_path: Path) -> None:
    limits = GatewayLimits(model_body_bytes=3000, model_bytes=5000)
    async with (
        StandIn(lambda _: Reply("Hi.", first_token_delay=30)) as server,
        serving(tmp_path, Network(), limits=limits) as served,
    ):
        settings = Settings(home=tmp_path, anthropic_api_key=SecretStr(KEY), anthropic_base_url=server.url)
        async with open_embedded(tmp_path) as store:

            async def append(event: EventBase) -> EventBase:
                return event

            context = AgentContext("run_1", "ses_1", Workspace(tmp_path), settings, append, no_sandbox)
            served.gateway.grant(ID, run_grant(context, Models(settings), store.blobs))
            body = {"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 2700}]}
            statuses = []
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(served.path))) as client:
                first = asyncio.create_task(client.post("http://gateway/v1/messages", json=body))
                while not server.active:
                    await asyncio.sleep(0.01)
                statuses.append((await client.post("http://gateway/v1/messages", json=body)).status_code)
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
                body["messages"][0]["content"] *= 2  # type: ignore[index]
                statuses.append((await client.post("http://gateway/v1/messages", json=body)).status_code)
            assert statuses == [429, 413]


async def test_many_calls_at_once_wait_for_each_other(tmp_path: Path) -> None:
    most = 0

    async def watch(request: Request) -> Reply:
        nonlocal most
        most = max(most, server.active)
        await asyncio.sleep(0.02)
        return Reply("Done.")

    async with in_front_of(tmp_path, "anthropic", watch) as (code, server):
        client = code.anthropic()
        hello: Any = [{"role": "user", "content": "Hi"}]
        answers = await asyncio.gather(
            *(client.messages.create(model="default", max_tokens=9, messages=hello) for _ in range(20))
        )
        assert len(answers) == 20
        assert 1 < most <= 4
        assert code.context.meter.steps == 20


async def test_models_can_be_switched_off(tmp_path: Path) -> None:
    async with inside(tmp_path, model="playbook", sandbox_models=False) as code:
        with pytest.raises(anthropic.PermissionDeniedError, match="ORCHESTRION_SANDBOX_MODELS"):
            await code.anthropic().messages.create(
                model="default", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            )
