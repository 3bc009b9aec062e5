"""How a process ended, in numbers."""

from __future__ import annotations

import re
import signal

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.client.wire import Message, text_of, whole_of
from orchestrion.sandbox.protocols import ProcessEnd

_STATUS = re.compile(r"signal: ([^()]{1,60}?)(?: \(core dumped\))?")
_SIGNALS = {(signal.strsignal(number) or "").lower(): int(number) for number in signal.Signals}
_UNKNOWN = 255


def end_of(event: Message) -> ProcessEnd:
    """Read a process's `end` event.

    Raises:
        SandboxError: It makes no sense.
    """
    code = whole_of(event, "exitCode", 0)
    status, words = text_of(event, "status", ""), text_of(event, "error", "")[:500]
    if code == -1 or (code == 0 and event.get("exited") is not True):
        code = 128 + _signal(status)
    if not 0 <= code <= _UNKNOWN:
        raise SandboxError("The sandbox sent a result without an exit code.")
    return ProcessEnd(code, words or None)


def _signal(status: str) -> int:
    match = _STATUS.fullmatch(status)
    if match is None:
        raise SandboxError("The sandbox sent a result without an exit code.")
    number = match[1].removeprefix("signal ")
    return int(number) if number.isdecimal() else _SIGNALS.get(number.lower(), _UNKNOWN - 128)
