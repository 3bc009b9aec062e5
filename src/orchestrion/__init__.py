"""Orchestrion: a self-hosted agent platform.

Importing the package costs next to nothing; each room is imported where it is used.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
