"""What a suite said, compared with what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from lab import ROOT, say

Outcome = Literal["passed", "failed", "skipped"]
Results: TypeAlias = Mapping[str, Outcome]

_DEPENDS = "depends on the host"
_LISTS = ROOT / "tests" / "conformance" / "e2b"


def expected(path: Path) -> dict[str, str]:
    """Read a list: one test a line, and after two blanks and a # the reason why it fails.

    A reason that begins with `depends on the host` is for a test that passes on some machines.

    Raises:
        ValueError: A line gives no reason.
    """
    listed: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        if not line.strip() or line.startswith("#"):
            continue
        name, mark, reason = line.partition("  # ")
        if not (mark and reason.strip()):
            raise ValueError(f"{path.name}: no reason is given for {name.strip()}")
        listed[name.strip()] = reason.strip()
    return listed


def compare(suite: str, results: Results, *, whole: bool = True) -> bool:
    """Say how a suite did; return whether that is as expected.

    Args:
        suite: Its name, and its list's.
        results: What each test did.
        whole: All of the suite was run, so that a listed test that did not run is a mistake in the list.
    """
    listed = expected(_LISTS / f"{suite}.expected_failures.txt")
    failed = {name for name, outcome in results.items() if outcome == "failed"}
    passed = {name for name, outcome in results.items() if outcome == "passed"}
    steady = {name for name, reason in listed.items() if not reason.startswith(_DEPENDS)}
    new, mended = sorted(failed - set(listed)), sorted(passed & steady)
    lost = sorted(set(listed) - failed - passed) if whole else []
    for heading, names in (("failed", new), ("passes but is listed", mended), ("is listed but did not run", lost)):
        for name in names:
            say(f"  {heading}: {name}")
    say(
        f"{suite}: {len(passed)} passed, {len(failed)} failed ({len(failed & set(listed))} of them listed), "
        f"{len(results) - len(passed) - len(failed)} skipped"
    )
    return bool(results) and not (new or mended or lost)
