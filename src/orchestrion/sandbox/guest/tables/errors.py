"""What goes wrong with a table, in one sentence."""

from __future__ import annotations


class TableError(ValueError):
    """A file that holds no table that can be read, or a table that can't be used as asked; the message says why."""
