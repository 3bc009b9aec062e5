"""Errors on stderr: one clear sentence, its remedy, the right exit code; a traceback only where it was asked for."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from orchestrion.cli.text import clean
from orchestrion.core.errors import BudgetSpent, OrchestrionError, RunCancelled

EXIT_USAGE, EXIT_WAITING, EXIT_BUDGET, EXIT_CANCELLED, EXIT_PIPE = 2, 3, 4, 130, 141


def _colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def complain(detail: str, remedy: str = "") -> None:
    """Write an error and its remedy to stderr."""
    mark, end = ("\x1b[1;31m", "\x1b[0m") if _colours() else ("", "")
    sys.stdout.flush()
    print(f"{mark}Error:{end} {clean(detail)}", file=sys.stderr)
    if remedy:
        print(clean(remedy), file=sys.stderr)
    sys.stderr.flush()


def _unexpected(error: BaseException) -> str:
    said = f": {error}" if str(error) else ""
    return f"Something went wrong that should not ({type(error).__name__}{said})."


def explain(error: BaseException) -> int:
    """Tell the user about `error`; return the exit code."""
    if os.environ.get("ORCHESTRION_LOG_LEVEL", "").lower() == "debug":
        traceback.print_exception(error)
    if isinstance(error, OrchestrionError):
        complain(error.detail, error.remedy)
        return error.exit_code
    if isinstance(error, RunCancelled):
        complain("Stopped before the work began.")
        return EXIT_CANCELLED
    if isinstance(error, BudgetSpent):
        complain(
            f"{str(error)[0].upper()}{str(error)[1:]}.", "Raise it with --budget-usd, --budget-tokens or --timeout."
        )
        return EXIT_BUDGET
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        complain("There is no space left where this writes to.", "Free some space and try again.")
        return 1
    complain(
        _unexpected(error), "Set ORCHESTRION_LOG_LEVEL=debug to see where; `orchestrion doctor` checks this machine."
    )
    return 1
