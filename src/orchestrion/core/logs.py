"""Structured logs on standard error, with the ids of the run, the session and the request they belong to."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable
from typing import TextIO, cast

import structlog
from structlog.types import Processor

from orchestrion.core.settings import Settings

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_SECRET_NAME = re.compile(r"(_|^)(KEY|KEYS|TOKEN|SECRET|PASSWORD)$")
_SHORTEST_SECRET = 8
_MASK = "••••"


class _SafeStream:
    """What log lines are written to: no key gets through, and nothing that steers the terminal they are read on.

    Args:
        stream: Where they go.
        secrets: What is masked.
    """

    def __init__(self, stream: TextIO, secrets: Iterable[str]) -> None:
        self._stream = stream
        # The longest first: one may be the beginning of another.
        self._secrets = sorted({one for one in secrets if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def write(self, text: str) -> int:
        """Write a line."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return self._stream.write(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text))

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()


def _secrets(settings: Settings) -> Iterable[str]:
    """Return the keys that this process knows: its settings', and what the environment holds for providers."""
    for value in (settings.anthropic_api_key, settings.openai_api_key, *settings.api_keys):
        yield value.get_secret_value() if value else ""
    yield from (value for name, value in os.environ.items() if _SECRET_NAME.search(name))


class _OneLine(logging.Formatter):
    """Keeps a library's message on one line, so that nothing in it can pass for a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.replace("\n", "\\n")
        return super().formatMessage(record)


def configure_logs(settings: Settings) -> None:
    """Set up logging for this process, ours and that of libraries.

    Tracebacks never show local variables: they could hold keys; and what is written has its keys masked once more.

    Args:
        settings: `log_level` and `log_format` count.
    """
    level = getattr(logging, settings.log_level.upper())
    stream = _SafeStream(sys.stderr, _secrets(settings))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        last: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, stream)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_OneLine("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))
