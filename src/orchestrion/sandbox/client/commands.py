"""Shell commands that end with their caller."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.client.collect import Collector
from orchestrion.sandbox.client.endings import end_of
from orchestrion.sandbox.client.failures import Overdue, gone
from orchestrion.sandbox.client.guest import Guest, Messages, unknown
from orchestrion.sandbox.client.processes import SERVICE, event_of, outputs_of, pid_of, start_message
from orchestrion.sandbox.client.wire import checked
from orchestrion.sandbox.protocols import CommandResult, OnOutput

GRACE = 10
_TIMED_OUT = 124
_REAP_SECONDS = 5
_MARK = "ORCHESTRION_CALL"
# A foreign envd kills only the process that it started. What that started carries a mark in its environment: all of
# it is looked up in /proc and killed, again and again until nothing is left. The shell that does so isn't marked.
_REAP = """\
for round in 1 2 3 4 5 6 7 8; do
  left=
  for environ in /proc/[0-9]*/environ; do
    if grep -qas "$1" "$environ" 2>/dev/null; then
      pid=${environ#/proc/}; kill -9 "${pid%/environ}" 2>/dev/null && left=1
    fi
  done
  [ -z "$left" ] && exit 0
done
exit 1
"""


def milliseconds(seconds: float) -> str:
    """Return a time limit as the wire has it: at most ten digits."""
    return str(max(1, min(int(seconds * 1000), 10**10 - 1)))


def new_mark() -> str:
    """Return a variable for the environment by which everything that a command starts is known again."""
    return f"{_MARK}={secrets.token_hex(16)}"


@dataclass(frozen=True)
class Command:
    """A shell command that ends with its caller.

    Attributes:
        text: For `sh -c`.
        cwd: Directory inside.
        env: Further variables.
        user: Who runs it; None for the default.
        timeout: Seconds.
        mark: Of `new_mark`, for a foreign daemon; None for our own, which minds the time itself and ends everything
            that a command started together with the call.
    """

    text: str
    cwd: str
    env: Mapping[str, str]
    user: str | None
    timeout: float
    mark: str | None

    async def run(self, guest: Guest, on_output: OnOutput | None) -> CommandResult:
        """Run it to its end; see `Sandbox.run_command`.

        After a timeout, a cancel or an error something may go on that bears the mark: `reap` it.
        """
        begin = time.monotonic()
        scope = asyncio.timeout(self.timeout if self.mark else self.timeout + GRACE)
        seen = Collector(on_output, scope)
        code: int | None = None
        try:
            async with scope:
                code = await self._follow(guest, seen)
        except Overdue:
            await seen.finish()
        except TimeoutError:
            if not scope.expired():
                raise
            if self.mark is None:
                raise gone("The sandbox went on past its time.") from None
        return CommandResult(
            exit_code=_TIMED_OUT if code is None else code,
            stdout=seen.text("stdout"),
            stderr=seen.text("stderr"),
            timed_out=code is None,
            seconds=time.monotonic() - begin,
        )

    async def _follow(self, guest: Guest, seen: Collector) -> int:
        headers, env = {}, dict(self.env)
        if self.mark is None:
            headers = {"Orchestrion-Bind": "call", "Connect-Timeout-Ms": milliseconds(self.timeout)}
        else:
            name, _, env[name] = self.mark.partition("=")
        message = start_message(("/bin/sh", "-c", self.text), self.cwd, env)
        messages = await guest.open(f"{SERVICE}/Start", message, user=self.user, headers=headers)
        async with contextlib.aclosing(messages):
            return await _to_the_end(messages, seen)


async def _to_the_end(messages: Messages, seen: Collector) -> int:
    """Take a command's output; return its exit code."""
    code: int | None = None
    pid_of(await anext(aiter(messages), None))
    async for message in messages:
        event = event_of(message)
        if code is not None:
            raise unknown("something after the end of a command")
        if "end" in event:
            code = end_of(checked(event["end"])).exit_code
            continue
        for output in outputs_of(event):
            if output.stream == "pty":
                raise unknown("output of a terminal that nobody asked for")
            await seen.take_bytes(output.stream, output.data)
    if code is None:
        raise unknown("a command without its end")
    await seen.finish()
    return code


async def reap(guest: Guest, mark: str) -> bool:
    """Kill what bears a mark; say whether that could be done."""
    message = start_message(("/bin/sh", "-c", _REAP, "sh", mark), "/")
    try:
        async with asyncio.timeout(_REAP_SECONDS) as scope:
            messages = await guest.open(f"{SERVICE}/Start", message)
            async with contextlib.aclosing(messages):
                return await _to_the_end(messages, Collector(None, scope)) == 0
    except (OrchestrionError, TimeoutError):
        return False
