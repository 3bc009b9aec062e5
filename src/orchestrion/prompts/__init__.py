"""Prompts, kept outside the code in YAML.

Only our own words go into a system prompt; what comes from users, files, pages or tools goes into later messages.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template

import yaml

__all__ = ["render"]


@cache
def _prompts(name: str) -> dict[str, str]:
    text = (files(__name__) / "builtin" / f"{name}.yaml").read_text(encoding="utf-8")
    return {key: str(value) for key, value in yaml.safe_load(text).items()}


def render(name: str, key: str, **values: str) -> str:
    """Return a prompt with its `$placeholders` filled in.

    Args:
        name: The file in `builtin/`, without `.yaml`.
        key: The prompt in it.
        values: One for each placeholder.

    Raises:
        KeyError: There is no such prompt, or a placeholder has no value.
    """
    return Template(_prompts(name)[key]).substitute(values).strip()
