"""The model's provider of the benches: the stand-in, at zero delay, in a process of its own."""

from __future__ import annotations

import asyncio
import sys

from orchestrion.testing import Reply, Request, StandIn

COMMAND = [sys.executable, "-m", "bench.provider"]
READY = r"^URL=(\S+)"
MODEL = "claude-haiku-5-5"
_SENTENCE = "Every word of this answer must arrive, once and in order. "


def answer(message: str) -> str:
    """Return the answer to `message`: long enough for many pieces, and different for each."""
    return f"You said: {message}. {_SENTENCE * 8}End of the answer to: {message}."


def _respond(request: Request) -> Reply:
    return Reply(text=answer(request.last_text.strip()))


async def _serve() -> None:
    async with StandIn(_respond, keep=1) as server:
        print(f"URL={server.url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
