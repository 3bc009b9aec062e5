"""`orchestrion doctor`: what works, what is degraded, how to mend it."""

from __future__ import annotations

from orchestrion.cli.options import AsJson


def doctor(as_json: AsJson = False) -> int:
    """Check this machine line by line; exit 1 if something essential is missing."""
    from orchestrion.cli.checkup import checkup

    return checkup(as_json=as_json)
