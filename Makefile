# Everything a developer runs. `make run` and `make test` work on a fresh clone with Python 3.11 or newer and make.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first Python that is new enough; `make PYTHON=python3.13 …` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: help run install test lint types unit test-slow bench docs format clean

help: ## Say what there is.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMP) ## Start a development server; ARGS="--dir DIR --ip IP" are passed on.
	$(BIN)/mailcrane localserve $(ARGS)

install: ## Install again, after pyproject.toml's entry points were changed.
	rm -f $(STAMP)
	$(MAKE) --no-print-directory $(STAMP)

test: lint types unit ## Check style and types, and run the fast tests.

lint: $(STAMP) ## Check style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Check types.
	$(BIN)/mypy

unit: $(STAMP) ## Run the fast tests; ARGS are passed to pytest.
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(STAMP) ## Run the protocol, fault and interoperation suites.
	$(BIN)/python -m pytest -m slow $(ARGS)

bench: $(STAMP) ## Measure, beside other mail servers; results go to bench-results/.
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

docs: $(STAMP) ## Write the reference pages that are made from code.
	$(BIN)/python docs/generate.py

format: $(STAMP) ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo "no environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@
