# Two commands on a fresh machine: `make demo`, `make test`. Every target sets up what it needs.
PYTHON ?= python3
STRATEGY ?= planted_edge
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
READY := $(VENV)/.ready
export UV_PYTHON_DOWNLOADS := never
export DO_NOT_TRACK := 1

.PHONY: setup demo test test-all dev check bench lint format clean

setup: $(READY)

.uv/bin/uv:
	@echo "uv is not installed: fetching it with pip into .uv/"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --target .uv uv==$(UV_VERSION)

$(READY): pyproject.toml uv.lock $(filter .uv/bin/uv,$(UV))
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"quant_assets needs Python 3.11 to 3.13, found {v.major}.{v.minor} at {sys.executable}. To do: make PYTHON=python3.12 demo")'
	@echo "installing the locked dependencies into $(VENV)/"
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --locked --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

demo: setup
	@$(BIN)/quant-assets demo

test: setup
	@$(BIN)/pytest

test-all: setup
	@$(BIN)/pytest -m ""

dev: setup
	@$(BIN)/quant-assets ui

check: setup
	@$(BIN)/dagster definitions validate -w workspace.yaml
	@$(BIN)/quant-assets run --strategy $(STRATEGY)
	@$(BIN)/quant-assets check --strategy $(STRATEGY)

bench: setup
	@$(BIN)/python -m quant_assets_tests.benchmarks

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .uv .quant_assets .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
