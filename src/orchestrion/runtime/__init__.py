"""Sessions, runs, the supervisor, the hybrid flow, and what goes on after a crash."""

from orchestrion.runtime.health import Check
from orchestrion.runtime.runtime import Runtime

__all__ = ["Check", "Runtime"]
