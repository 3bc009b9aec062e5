"""Streamed Markdown on a terminal: written as it comes, broken between words, with a little emphasis.

It is not a Markdown renderer. Those need the whole text; here the first word must be on the screen when it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.cells import cell_len

_PIECE = re.compile(r"\n|[ \t]+|[^ \t\n]+")
_OPEN = re.compile(r"^([(\[\"'“_]*)\*\*(?=[^\s*])")
_CLOSE = re.compile(r"(?<=[^\s*])\*\*([)\]\"'”_.,;:!?…]*)$")
_CLOSE_GLUED = re.compile(r"(?:(?<=[^\s*])|^)\*\*([)\]\"'”_.,;:!?…]*)$")
_BULLET = re.compile(r"^([-*+•]|\d{1,3}[.)])$")
_RESET = "\x1b[0m"
# A word this near to the edge waits until it is whole, for it may have to go to the next line.
_MARGIN = 20


class MarkdownStream:
    """Writes text that comes in pieces.

    Args:
        write: Where it goes.
        width: Columns of the terminal; 0 leaves every line as it is.
        styled: Whether escape sequences for bold are welcome.
        style: An escape sequence for all of it, such as dim.
    """

    def __init__(
        self, write: Callable[[str], None], *, width: int = 0, styled: bool = False, style: str = ""
    ) -> None:
        self._write = write
        self._width = width
        self._styled = styled
        self._style = style if styled else ""
        self._pending = ""
        self._fenced = False
        self._bold = False
        self._new_line()

    def _new_line(self) -> None:
        self._column = 0
        self._indent = 0
        self._space = ""
        self._start = True
        self._glued = False
        self._verbatim = self._fenced
        self._heading = False

    @property
    def open(self) -> bool:
        """Whether the cursor stands in the middle of a line."""
        return self._column > 0

    def feed(self, text: str) -> None:
        """Write the next piece."""
        if not self._width:
            self._write(text)
            self._column = len(text) - text.rfind("\n") - 1 + (0 if "\n" in text else self._column)
            return
        self._pending += text
        pieces = _PIECE.findall(self._pending)
        self._pending = ""
        for index, piece in enumerate(pieces):
            if piece == "\n":
                self._break()
            elif piece.isspace():
                self._space, self._glued = self._space + piece, False
            elif index < len(pieces) - 1 or self._may_go(piece):
                self._word(piece, whole=index < len(pieces) - 1)
            else:
                self._pending = piece

    def close(self) -> None:
        """Write what was held back and end the line."""
        if self._pending:
            self._word(self._pending, whole=True)
            self._pending = ""
        if self.open:
            self._write("\n")
        self._bold = False
        self._new_line()

    def _may_go(self, word: str) -> bool:
        """Whether an unfinished word can be written now without regret."""
        if word[-1] in "*`":
            return False
        if self._start:
            return word[0].isalpha()
        return self._column + cell_len(self._space + word) < self._width - _MARGIN

    def _break(self) -> None:
        if self._start:
            self._bold = False  # an empty line ends a paragraph, and any emphasis left open in it
        self._write("\n")
        self._new_line()

    def _word(self, word: str, *, whole: bool) -> None:
        if self._start and self._opens_line(word):
            return
        if not self._verbatim and not self._glued:
            self._place(word)
        else:
            self._put(self._space)
        self._space, self._start = "", False
        self._put(word)
        self._glued = not whole

    def _opens_line(self, word: str) -> bool:
        """Take note of what the first word says about its line; True if it is not to be written."""
        if word.startswith("```"):
            self._fenced = not self._fenced
            self._verbatim = True
        elif not self._verbatim and word.startswith("|"):
            self._verbatim = True
        elif not self._verbatim and self._styled and set(word) == {"#"} and len(word) <= 6:
            self._heading, self._start, self._space = True, False, ""
            return True
        elif not self._verbatim and _BULLET.match(word):
            self._indent = len(self._space) + len(word) + 1
        return False

    def _place(self, word: str) -> None:
        """Go to the next line if the word does not fit on this one, else write the space before it."""
        marks = word.count("**") * 2 if self._styled else 0
        needed = self._column + len(self._space) + cell_len(word) - marks
        if self._column > self._indent and needed > self._width:
            self._write("\n" + " " * self._indent)
            self._column = self._indent
        elif self._column or not self._heading:
            self._put(self._space)

    def _put(self, text: str) -> None:
        if not text:
            return
        text, style = self._dress(text) if self._styled and not text.isspace() and not self._verbatim else (text, "")
        self._column += cell_len(text)
        self._write(f"{style}{text}{_RESET}" if style and text else text)

    def _dress(self, text: str) -> tuple[str, str]:
        """Return the text without its marks of emphasis, and the escape sequence that shows them."""
        if not self._glued:
            text, opened = _OPEN.subn(r"\1", text)
            self._bold = self._bold or bool(opened)
        bold = self._bold or self._heading
        if self._bold:
            text, closed = (_CLOSE_GLUED if self._glued else _CLOSE).subn(r"\1", text)
            self._bold = not closed
        return text, self._style + ("\x1b[1m" if bold else "")
