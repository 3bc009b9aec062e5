"""Runs E2B's own test suites, unmodified, against `orchestrion sandbox serve` in a lab without a network.

    make conformance E2B_REPO=<checkout of e2b-dev/E2B> [E2B_CI_REPO=<checkout of e2b-dev/code-interpreter>]
    make conformance ARGS="python -- -k test_run"

The results are compared with the lists in tests/conformance/e2b: a failure that is on no list, and a listed test that
passes, both fail the run. Nothing of the suites is kept in this repository; they run from a scratch copy.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import checkouts
import javascript
import lab
import python
from results import Results, compare

SUITES = ("python", "code_interpreter", "js", "code_interpreter_js")
_BY_SDK = {"python": python.sdk, "code_interpreter": python.code_interpreter}
_BY_NPM = {"js": javascript.sdk, "code_interpreter_js": javascript.code_interpreter}


def main() -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all by default")
    known, further = _split(sys.argv[1:])
    suites = parser.parse_args(known).suites or list(SUITES)
    if unknown := set(suites) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if not lab.inside():
        return lab.enter(_prepare(suites))
    return _run(suites, further)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Part our words from those for the suites' own runner."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _prepare(suites: list[str]) -> dict[str, str]:
    """Fetch what needs a network, which the lab has not."""
    code = any(suite.startswith("code") for suite in suites)
    found = {"E2B_REPO": str(checkouts.e2b())}
    if code:
        found["E2B_CI_REPO"] = str(checkouts.code_interpreter())
    for suite in suites:
        if suite in _BY_NPM:
            javascript.install(suite, Path(found["E2B_REPO" if suite == "js" else "E2B_CI_REPO"]))
    return found


def _run(suites: list[str], further: list[str]) -> int:
    bad = 0
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch, lab.endpoint() as environment:
        for suite in suites:
            lab.say(f"running {suite}")
            bad += not compare(suite, _results(suite, Path(scratch), environment, further), whole=not further)
    return 1 if bad else 0


def _results(suite: str, scratch: Path, environment: dict[str, str], further: list[str]) -> Results:
    if suite in _BY_SDK:
        repository = os.environ["E2B_REPO" if suite == "python" else "E2B_CI_REPO"]
        return _BY_SDK[suite](Path(repository), scratch, environment, further)
    return _BY_NPM[suite](environment, further)


if __name__ == "__main__":
    sys.exit(main())
