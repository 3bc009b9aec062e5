"""Sandboxes in E2B's cloud, or at any endpoint that speaks its protocol."""

from __future__ import annotations

from orchestrion.sandbox.e2b.provider import E2BProvider

__all__ = ["E2BProvider"]
