"""The example of the guide to E2B's SDKs, run with the real SDK against a real endpoint."""

from __future__ import annotations

import re
from pathlib import Path

from endpoint_support import needs_sdk, serving

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "e2b.md"

pytestmark = needs_sdk


def test_the_guides_example_runs(tmp_path: Path) -> None:
    [example] = re.findall(r"^```py\n(.*?)^```$", GUIDE.read_text(), flags=re.MULTILINE | re.DOTALL)
    with serving(tmp_path) as endpoint:
        assert endpoint.sdk(example) == "42"
