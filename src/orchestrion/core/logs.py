"""Structured logs on standard error, with the ids of the run, the session and the request they belong to."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.types import Processor

from orchestrion.core.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Set up logging for this process, ours and that of libraries.

    Tracebacks never show local variables: they could hold keys.

    Args:
        settings: `log_level` and `log_format` count.
    """
    level = getattr(logging, settings.log_level.upper())
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))
