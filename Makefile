# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE ?= 1
# Files of tests side by side: system tests mostly wait. In their order, so that the long ones go first.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
LOCKED := --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate --quiet

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test chaos check bench cluster lock system clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/.runtime ## create .venv with the `fermata` command

install-dev: .venv/.dev

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 2; }
	@echo "creating .venv"
	@$(PYTHON) -m venv .venv

.venv/.runtime: .venv/bin/python requirements.lock pyproject.toml
	@echo "installing the locked runtime packages into .venv (about a minute the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	@echo "installing the locked development packages into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: install ## three releases on the simulated world: good, rolled back, denied
	@$(BIN)/fermata demo

system: ## Debian packages and binaries that the full tests use, where apt-get runs as root
	@sh scripts/system-packages.sh

cluster: install-dev ## build (once) and start a real Kubernetes control plane; Ctrl-C stops it
	@$(BIN)/python -m tests.cluster up --rollouts

test: install-dev system ## set everything up and run all tests
	@$(BIN)/python -m tests.cluster build || echo "the test cluster is not available; its tests are named at the end"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not alone"
	@$(BIN)/python -m pytest -m alone -rP

chaos: install-dev system ## of the tests only those that kill, pause and cut at every superstep and effect
	@$(BIN)/python -m pytest tests/chaos

check: install-dev ## ruff, mypy --strict, import-linter, size of modules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/module_sizes.py

bench: install-dev system ## paired ratios against bare PostgreSQL, bare LangGraph and DBOS
	@$(BIN)/python -m bench

# The runtime's versions are those the tests ran with: the wider set is solved first and holds the smaller one.
lock: ## rewrite the lock files (needs uv)
	uv pip compile $(LOCKED) --group build --group dev pyproject.toml -o requirements-dev.lock
	uv pip compile $(LOCKED) --group build --constraint requirements-dev.lock pyproject.toml -o requirements.lock

clean: ## remove what was generated (not .venv)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache test-artifacts
