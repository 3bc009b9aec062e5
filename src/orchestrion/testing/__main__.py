"""`python -m orchestrion.testing serve`: the stand-in as a process of its own, playing the playbook."""

from __future__ import annotations

import argparse
import asyncio
import signal

from orchestrion.testing.playbook import PlaybookResponder
from orchestrion.testing.replies import Reply, Request, Responder
from orchestrion.testing.stand_in import StandIn


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orchestrion.testing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the Anthropic and OpenAI protocols on a loopback port")
    serve.add_argument("--port", type=int, default=0, help="0 takes a free one")
    serve.add_argument("--delay", type=float, default=0.0, help="seconds before each piece of an answer")
    serve.add_argument("--first-token-delay", type=float, default=0.0, help="seconds before an answer begins")
    serve.add_argument("--text", help="answer every call with this text instead of playing the playbook")
    return parser.parse_args()


def _responder(arguments: argparse.Namespace) -> Responder:
    if arguments.text is None:
        return PlaybookResponder(arguments.delay, arguments.first_token_delay)
    reply = Reply(text=arguments.text, delay=arguments.delay, first_token_delay=arguments.first_token_delay)

    def always(_: Request) -> Reply:
        return reply

    return always


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with StandIn(_responder(arguments), port=arguments.port) as server:
        print(f"ANTHROPIC_BASE_URL={server.url}")
        print(f"OPENAI_BASE_URL={server.openai_url}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
