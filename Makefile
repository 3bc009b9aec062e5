# Two commands are enough: `make run` carries a goal to its finished report, `make test` runs every test.
# Each sets up what it needs first and says so; a second time there is nothing to do.

PYTHON ?= python3
SETUP  := $(PYTHON) -B scripts/bootstrap
IN     := .venv/bin

# GOAL and FILE are taken as they are written: neither make nor the shell looks into them.
ifeq ($(origin GOAL),undefined)
GOAL := Analyse this table: what is in it, how the numbers behave, and what stands out. Show it with charts.
FILE ?= examples/sales.csv
endif
override GOAL := $(value GOAL)
override FILE := $(value FILE)
export GOAL FILE

.PHONY: help run test serve check conformance bench setup page wheel reference lock clean
.SILENT:

help:  ## this list
	sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST))

run:  ## set up, then one real goal to its report: make run GOAL="…" FILE=path
	$(SETUP) run
	$(IN)/orchestrion run "$$GOAL" $${FILE:+-f "$$FILE"}

test:  ## set up, then every test
	$(SETUP) test
	$(IN)/python -m pytest -n 2 --dist loadfile $(TESTS)

serve:  ## the web page and the API on http://127.0.0.1:8700
	$(SETUP) serve
	exec $(IN)/orchestrion serve

check:  ## style, types, import rules, dead code, the page, the documentation's examples
	$(SETUP) check
	$(IN)/ruff check .
	$(IN)/ruff format --check .
	$(IN)/python -m mypy
	$(IN)/python -m mypy scripts/bootstrap
	MYPYPATH=scripts/bootstrap $(IN)/python -m mypy scripts/conformance
	PATH="$(CURDIR)/$(IN):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(IN)/pyright
	$(IN)/lint-imports
	$(IN)/python -m vulture
	$(IN)/python -m pytest tests/unit/test_docs.py tests/integration/test_docs_examples.py

conformance:  ## E2B's own suites against our endpoint: make conformance E2B_REPO=checkout
	$(SETUP) conformance
	$(IN)/python -B scripts/conformance $(ARGS)

bench:  ## every figure of docs/performance.md, beside its yardstick
	$(SETUP) run
	$(IN)/python -m bench

setup:  ## everything for working on Orchestrion, and nothing more
	$(SETUP) test

page:  ## build the web page only
	$(SETUP) serve

wheel: page  ## dist/*.whl and dist/*.tar.gz, with the page inside
	$(SETUP) check
	$(IN)/python -m build --no-isolation

reference:  ## write docs/reference from the code
	$(SETUP) run
	$(IN)/python scripts/reference.py

lock:  ## compile requirements/*.in into hash-pinned lock files
	$(SETUP) run
	for name in bootstrap node core sandbox dev conformance; do \
	  echo "requirements/$$name.lock"; \
	  (cd requirements && ../$(IN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url $(ARGS) $$name.in -o $$name.lock) || exit 1; \
	done

clean:  ## remove all that set-up made
	rm -rf .venv frontend/node_modules src/orchestrion/server/static dist build
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
