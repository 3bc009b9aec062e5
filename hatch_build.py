"""What the build adds: dependencies from requirements/core.in, and the certainty that the page is inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class DependenciesFromRequirements(MetadataHookInterface):
    """Fills `dependencies` from the lines of requirements/core.in, so that they are named in one place."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dynamic field.

        Args:
            metadata: The project table, changed in place.
        """
        lines = (Path(self.root) / "requirements" / "core.in").read_text().splitlines()
        metadata["dependencies"] = [line for line in lines if line and not line.startswith("#")]


class PageIsBuilt(BuildHookInterface[Any]):
    """Refuses to build a distribution whose web page is missing."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Look for the built page.

        Args:
            version: `standard` or `editable`; an editable install serves the page from the checkout.
            build_data: Not used.

        Raises:
            FileNotFoundError: The page has not been built.
        """
        page = Path(self.root) / "src" / "orchestrion" / "server" / "static" / "index.html"
        if version == "standard" and not page.is_file():
            raise FileNotFoundError(f"{page} is missing: run `make page` first.")
