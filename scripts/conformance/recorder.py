"""A plugin for the suites' own pytest: runs only tests that talk to a server, and writes down what each did."""

from __future__ import annotations

import json
import os
from typing import Any

# Tests that ask for one of these, or are marked as impossible against a bare daemon, need a control plane.
_FIXTURES = frozenset(
    ("sandbox", "async_sandbox", "sandbox_factory", "async_sandbox_factory", "build", "async_build")
)
_WORSE = {"passed": 0, "skipped": 1, "failed": 2}
_outcomes: dict[str, str] = {}


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out what runs without a server."""
    live = [item for item in items if _is_live(item)]
    kept = set(live)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = live


def _is_live(item: Any) -> bool:
    names = set(item.fixturenames)
    if any(name.startswith("mock") for name in names):
        return False  # the server is played
    return bool(_FIXTURES & names) or (
        "monkeypatch" not in names and item.get_closest_marker("skip_debug") is not None
    )


def pytest_runtest_logreport(report: Any) -> None:
    """Note the worst of a test's three phases."""
    before = _outcomes.get(report.nodeid, "passed")
    _outcomes[report.nodeid] = max(before, report.outcome, key=_WORSE.__getitem__)


def pytest_sessionfinish(session: Any) -> None:
    """Write the outcomes, once: the workers' reports all come to the process that started them."""
    if not hasattr(session.config, "workerinput"):
        with open(os.environ["CONFORMANCE_RESULTS"], "w", encoding="utf-8") as out:
            json.dump(_outcomes, out)
