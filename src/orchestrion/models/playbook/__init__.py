"""The built-in playbook: what answers when no model key is set. It is not a language model, and says so."""

from __future__ import annotations

from orchestrion.models.playbook.model import LABEL, PlaybookModel

__all__ = ["LABEL", "PlaybookModel"]
