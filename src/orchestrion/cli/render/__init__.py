"""Events for people: one renderer per type of event, each in a file of its own."""

from __future__ import annotations

from orchestrion.cli.render.registry import RENDERERS, render
from orchestrion.cli.render.view import View

__all__ = ["RENDERERS", "View", "render"]
