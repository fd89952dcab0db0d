# Everything a person types here is also what CI runs. ARGS is passed on: make test ARGS="-k kicked -x"
PYTHON ?= python3
ARGS ?=
# Test files at a time where all of them run: they wait more than they compute.
TEST_PROCESSES ?= 3
BIN := .venv/bin
CLIENT := static/vendor/socket.io.esm.min.js
MANIFESTS := pyproject.toml constraints.txt setup.py package.json package-lock.json

.DEFAULT_GOAL := help
# One pip at a time, whatever MAKEFLAGS says.
.NOTPARALLEL:
.PHONY: help setup run check format test bench bench-quick pins clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## make .venv with all that the server needs
	@test -f $(CLIENT) || { rm -f .venv/.installed; $(MAKE) --no-print-directory .venv/.installed; }

run: setup ## start a demo server; ARGS="--port 8081"
	@exec $(BIN)/encounters serve --demo $(ARGS)

check: .venv/.installed-dev ## lint, formatting, strict types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/.installed-dev ## format the sources and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

test: .venv/.installed-dev setup ## all tests, on real services; ARGS="tests/store -k messages"
	@$(BIN)/python -m tests.tools
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder)

bench: .venv/.installed-dev setup ## measure against peers, about 40 minutes; writes docs/performance.md
	$(BIN)/python -m bench $(ARGS)

bench-quick: .venv/.installed-dev setup ## the same, small and rough, in three minutes; prints only
	$(BIN)/python -m bench --quick --dry $(ARGS)

pins: ## write constraints.txt anew from what pyproject.toml allows today
	rm -rf build/pins && $(PYTHON) -m venv build/pins
	build/pins/bin/python -m pip install --quiet -e '.[dev]'
	build/pins/bin/python -m pip freeze --exclude-editable > constraints.txt

clean: ## remove what was built or fetched
	rm -rf .venv build dist *.egg-info node_modules static/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Encounters needs Python 3.11 or newer as '$(PYTHON)'; say which with: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "'$(PYTHON) -m venv' failed; on Debian, install python3-venv" >&2; exit 1; }

.venv/.installed: $(MANIFESTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: $(MANIFESTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ .venv/.installed
