"""The terminal: lines, streamed text and, where there is a real terminal, one status line at the bottom.

Without a terminal it writes plain lines and no control codes at all.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from orchestrion.cli.stream import MarkdownStream
from orchestrion.cli.text import clean, one_line, seconds

_SYMBOLS = {"done": "✓", "failed": "✗", "active": "▸", "tool": "●", "tail": "│", "file": "+", "spin": "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"}
_ASCII = {"done": "ok", "failed": "x", "active": ">", "tool": "*", "tail": "|", "file": "+", "spin": "|/-\\"}
_DIM = "\x1b[2m"


class _Console(Console):
    """Rich's console, but it does not end the process when the reader has gone: a run must be stopped first."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Screen:
    """Writes to a terminal or to whatever stdout is.

    Args:
        file: Where to write; stdout by default.
        width: Columns, instead of asking the terminal.
        terminal: Whether it is one, instead of asking.
    """

    def __init__(self, file: TextIO | None = None, *, width: int | None = None, terminal: bool | None = None) -> None:
        self.console = _Console(
            file=file or sys.stdout, highlight=False, markup=False, emoji=False, width=width, force_terminal=terminal
        )
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        unicode = (self.console.encoding or "").lower().startswith("utf")
        self._symbols = _SYMBOLS if unicode else _ASCII
        self._stream: MarkdownStream | None = None
        self._status = ""
        self._since = 0.0
        self._drawn = False

    @property
    def width(self) -> int:
        """Columns to fill."""
        return self.console.width

    def symbol(self, name: str) -> str:
        """Return a sign that this terminal can show."""
        return self._symbols[name]

    def line(self, *parts: str | tuple[str, str], indent: str = "", hang: int = 0) -> None:
        """Write one line, broken between words where the terminal is too narrow.

        Args:
            parts: Texts, or pairs of text and style.
            indent: Stands before the line, and before each further line it is broken into.
            hang: Blanks before those further lines, in addition.
        """
        self._end_open()
        text = Text.assemble(*((clean(p), "") if isinstance(p, str) else (clean(p[0]), p[1]) for p in parts))
        if not self.live:
            self.console.print(Text(indent) + text, soft_wrap=True)
            return
        rows = [text]
        if cell_len(indent) + text.cell_len > self.width:
            rows = list(text.wrap(self.console, max(self.width - len(indent) - hang, 10)))
        for number, row in enumerate(rows):
            row.rstrip()
            self.console.print(Text.assemble((indent, "dim"), " " * (hang if number else 0), row), soft_wrap=True)

    def path(self, text: str, note: str = "") -> None:
        """Write a path on a line of its own, never broken, so that it can be copied."""
        self._end_open()
        self.console.print(Text.assemble(clean(text), (f"  {note}" if note else "", "dim")), soft_wrap=True)

    def gap(self) -> None:
        """Leave a line free."""
        self._end_open()
        self._write("\n")

    def stream(self, text: str, *, dim: bool = False) -> None:
        """Write the next piece of a text that is still growing."""
        if self._stream is None:
            self._erase()
            styled = self.live and self.console.color_system is not None
            width = self.width if self.live else 0
            self._stream = MarkdownStream(self._write, width=width, styled=styled, style=_DIM if dim else "")
        self._stream.feed(clean(text))
        self.console.file.flush()

    def end_stream(self) -> None:
        """The text is complete."""
        self._end_open()

    def status(self, text: str) -> None:
        """Say what is going on just now; empty for nothing."""
        self._erase()
        self._status, self._since = text, time.monotonic()

    def tick(self) -> None:
        """Draw the status line anew; called some ten times a second."""
        if not self.live or not self._status or self._stream is not None:
            return
        gone = time.monotonic() - self._since
        wheel = self.symbol("spin")
        sign = wheel[int(time.monotonic() * 10) % len(wheel)]
        row = one_line(f"{sign} {self._status} {seconds(gone) if gone >= 2 else ''}", self.width - 2)
        dim, end = (_DIM, "\x1b[0m") if self.console.color_system else ("", "")
        self._write(f"\r{dim}{row}{end}\x1b[K")
        self.console.file.flush()
        self._drawn = True

    def close(self) -> None:
        """End what is open and take the status line away."""
        self._status = ""
        self._end_open()
        self.console.file.flush()

    def _end_open(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()
        self._erase()

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r\x1b[2K")
            self._drawn = False

    def _write(self, text: str) -> None:
        self.console.file.write(text)


def is_interactive() -> bool:
    """Whether a person sits at stdin and stdout."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
