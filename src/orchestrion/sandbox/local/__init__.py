"""The `local` provider: namespaces on this machine's own kernel, made by a launcher of our own."""

from __future__ import annotations

from orchestrion.sandbox.local.provider import LocalProvider

__all__ = ["LocalProvider"]
