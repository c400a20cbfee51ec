# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs.

PYTHON ?= python3
BIN := .venv/bin
# pip's own notices are no news here.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-slow lint docs format clean
.DEFAULT_GOAL := demo

demo: .venv/installed  ## render examples/jobs.csv on the real weights into renders/
	$(BIN)/nst-jax batch examples/jobs.csv --output-dir renders --size 256 --steps 60

test: .venv/installed-dev lint docs  ## everything that is quick
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: .venv/installed-dev  ## what is slow by nature
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: .venv/installed-dev  ## the pages of docs/ and README.md as a site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## what the commands above have made
	rm -rf .venv renders site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nst_jax needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(PIP) install --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install --editable '.[dev]'
	touch $@
