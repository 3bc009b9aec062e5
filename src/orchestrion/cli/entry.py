"""Where `orchestrion` starts: run the command, turn whatever happens into an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from typer.exceptions import Abort, TyperException

from orchestrion.cli.app import app
from orchestrion.cli.errors import EXIT_CANCELLED, EXIT_PIPE, EXIT_USAGE, complain, explain


def main() -> None:
    """Run the command line and leave with its exit code."""
    _mend_streams()
    if sys.flags.optimize > 1:
        complain("Python's -OO takes away what agents' tools are described with.", "Run without -OO.")
        sys.exit(EXIT_USAGE)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        silence_stdout()
        code = code or EXIT_PIPE
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    try:
        result = app(arguments, prog_name="orchestrion", standalone_mode=False)
    except TyperException as error:
        return _misused(error)
    except Abort:
        return EXIT_CANCELLED
    except SystemExit as left:  # Typer leaves this way when the reader of our output has gone.
        silence_stdout()
        return EXIT_PIPE if left.code == 1 else int(left.code or 0)
    except Exception as error:
        return explain(error)
    return result if isinstance(result, int) else 0


def silence_stdout() -> None:
    """Send what is still to be written nowhere: whoever read our output has gone, and that is no error."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mend_streams() -> None:
    """A closed stream (`>&-`) takes what is written nowhere; one that can't show a letter shows a question mark."""
    sys.stdout = sys.stdout or io.TextIOWrapper(io.FileIO(os.devnull, "w"))
    sys.stderr = sys.stderr or io.TextIOWrapper(io.FileIO(os.devnull, "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _misused(error: TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # the help was printed
        return EXIT_USAGE
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "orchestrion"
    said = error.format_message().replace("Value error, ", "").replace("\n", " ").strip()
    complain(said if said.endswith((".", "?", "!")) else f"{said}.", f"`{path} --help` shows how to use it.")
    return error.exit_code
