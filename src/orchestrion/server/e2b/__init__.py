"""E2B's control plane and edge, served to its unmodified SDKs in front of our sandboxes."""

from __future__ import annotations

from orchestrion.server.e2b.serving import Address, serve

__all__ = ["Address", "serve"]
