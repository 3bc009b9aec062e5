"""The sandbox's `tables` toolkit, imported the way code in the sandbox sees it."""

from __future__ import annotations

import sys
from pathlib import Path

import orchestrion.sandbox

GUEST = Path(orchestrion.sandbox.__path__[0]) / "guest"
if str(GUEST) not in sys.path:
    sys.path.insert(0, str(GUEST))

import tables  # noqa: E402 - the path has to be set first

__all__ = ["GUEST", "tables"]
