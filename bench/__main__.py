"""`python -m bench [NAME]…`: run all benches, or those named; exit 1 if a promise is broken."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

import bench
from bench import harness


def main() -> int:
    for module in iter_modules(bench.__path__):
        if not module.name.startswith("_"):
            import_module(f"bench.{module.name}")
    unknown = [name for name in sys.argv[1:] if name not in harness.names()]
    if unknown:
        print(f"No bench is called {', '.join(unknown)}. There are: {', '.join(harness.names())}.", file=sys.stderr)
        return 2
    return 0 if harness.run(sys.argv[1:] or harness.names()) else 1


if __name__ == "__main__":
    sys.exit(main())
