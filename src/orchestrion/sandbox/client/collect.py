"""What a call gathers while it runs: output for the caller and, to a bound, for the result."""

from __future__ import annotations

import asyncio
import codecs
from typing import TypeAlias

from orchestrion.sandbox.client.capture import Capture
from orchestrion.sandbox.protocols import OnOutput, Output, Stream

Decoder: TypeAlias = codecs.IncrementalDecoder
_UTF8 = codecs.getincrementaldecoder("utf-8")


class Collector:
    """Takes a call's output.

    Args:
        on_output: The caller's, who may take its time: that doesn't count as the call's.
        scope: The call's deadline.
    """

    def __init__(self, on_output: OnOutput | None, scope: asyncio.Timeout) -> None:
        self._on_output = on_output
        self._scope = scope
        self._captures: dict[Stream, Capture] = {"stdout": Capture(), "stderr": Capture()}
        self._decoders: dict[Stream, Decoder] = {"stdout": _UTF8("replace"), "stderr": _UTF8("replace")}

    async def take(self, stream: Stream, text: str) -> None:
        """Take a piece of text."""
        if not text:
            return
        self._captures[stream].add(text)
        if self._on_output is None:
            return
        loop = asyncio.get_running_loop()
        begin, deadline = loop.time(), self._scope.when()
        self._scope.reschedule(None)
        await self._on_output(Output(stream, text))
        if deadline is not None:
            self._scope.reschedule(deadline + loop.time() - begin)

    async def take_bytes(self, stream: Stream, data: bytes) -> None:
        """Take bytes, which may end in the middle of a character."""
        await self.take(stream, self._decoders[stream].decode(data))

    async def finish(self) -> None:
        """Take what is left of broken characters."""
        for stream, decoder in self._decoders.items():
            await self.take(stream, decoder.decode(b"", final=True))

    def text(self, stream: Stream) -> str:
        """Return what was kept."""
        return self._captures[stream].text()
