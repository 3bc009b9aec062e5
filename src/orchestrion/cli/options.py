"""Options that several commands share."""

from __future__ import annotations

import sys
from typing import Annotated, Any, TypeAlias

import typer

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Files: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("-f", "--file", metavar="FILE", help="A file the goal is about; may be repeated."),
]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, newest first.")]


def print_json(value: Any) -> None:
    """Print one JSON document on a line of its own, in UTF-8 whatever the locale says."""
    import json

    sys.stdout.flush()
    sys.stdout.buffer.write(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
