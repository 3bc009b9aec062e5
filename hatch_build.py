"""Reads the package's dependencies from requirements/core.in, so that they are named in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class DependenciesFromRequirements(MetadataHookInterface):
    """Fills `dependencies` from the lines of requirements/core.in."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dynamic field.

        Args:
            metadata: The project table, changed in place.
        """
        lines = (Path(self.root) / "requirements" / "core.in").read_text().splitlines()
        metadata["dependencies"] = [line for line in lines if line and not line.startswith("#")]
