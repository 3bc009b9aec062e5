"""Shapes what a tool shows: streamed to readers while it runs, bounded for the model when it ends."""

from __future__ import annotations

from orchestrion.core.coalesce import Coalescer
from orchestrion.core.events import ToolOutput
from orchestrion.sandbox.protocols import Output, Stream
from orchestrion.tools.context import RunContext

MODEL_BUDGET = 30_000
_STREAM_BUDGET = 256_000
_INTERVAL = 0.05


def shorten(text: str, limit: int = MODEL_BUDGET) -> str:
    """Cut the middle out of a text that is longer than `limit` characters, and say so; make it fit for sending."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # code may print halves of letters
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out here …]\n{text[-half:]}"


class OutputStream:
    """Turns a sandbox's output into `tool.output` events, up to a bound that is stated when it is reached.

    Args:
        context: The run.
        call_id: The tool call.
    """

    def __init__(self, context: RunContext, call_id: str) -> None:
        self._context = context
        self._call_id = call_id
        self._left = _STREAM_BUDGET
        self._streams: dict[Stream, Coalescer] = {}

    async def __call__(self, output: Output) -> None:
        """Take a piece of output."""
        if self._left <= 0:
            return
        text = output.text[: self._left]
        self._left -= len(output.text)
        if self._left <= 0:
            text += "\n[further output is not shown]\n"
        await self._stream(output.stream).add(text)

    def _stream(self, name: Stream) -> Coalescer:
        if name not in self._streams:

            async def send(text: str) -> None:
                await self._context.emit(ToolOutput(call_id=self._call_id, stream=name, text=text))

            self._streams[name] = Coalescer(send, _INTERVAL)
        return self._streams[name]

    async def close(self) -> None:
        """Pass on what is left."""
        for stream in self._streams.values():
            await stream.close()
