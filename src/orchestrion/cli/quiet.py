"""Logs kept off the user's screen."""

from __future__ import annotations

import logging

import structlog
from structlog.types import EventDict, WrappedLogger

from orchestrion.core.settings import Settings


def calm_logs(settings: Settings) -> None:
    """Log errors only, unless the user set a level, and tracebacks only at `debug`.

    Retries, degradations and failures of a run are told by its events; a log line would say them a second time.
    """
    if settings.log_level == "debug":
        return
    structlog.configure(processors=[_without_traceback, *structlog.get_config()["processors"]])
    if "log_level" not in settings.model_fields_set:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        logging.getLogger().setLevel(logging.ERROR)


def _without_traceback(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event.pop("exc_info", None)
    return event
