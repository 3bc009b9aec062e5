"""`python -m bench`: the harness prints what was measured and notices a broken promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SCRIPT = """
from bench.harness import Figure, bench, run

@bench("sample")
async def sample():
    return [Figure("first token", 12, "ms", 6, "raw", at_most={limit}), Figure("done", 5, "s")]

raise SystemExit(0 if run(["sample"]) else 1)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_figure_is_printed_beside_its_yardstick() -> None:
    done = python("-c", _SCRIPT.format(limit=20))
    assert done.returncode == 0, done.stderr
    for part in ("12.00 ms", "6.00 ms (raw)", "×2.00", "≤ 20 ms: kept", "5.00 s"):
        assert part in done.stdout


def test_a_broken_promise_fails() -> None:
    done = python("-c", _SCRIPT.format(limit=11))
    assert (done.returncode, "BROKEN" in done.stdout) == (1, True)


def test_an_unknown_bench_is_refused_with_the_names() -> None:
    done = python("-m", "bench", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "hello" in done.stderr
