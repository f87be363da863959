# The two commands of the README. Both set up .venv first and need nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint live clean

demo: .venv/.demo
	$(BIN)/python experiments/demo.py --out runs/demo

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Exports, adapters and scores beside transformers, PEFT and the lm-evaluation-harness themselves (3 GB of libraries).
live: .venv/.live
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/interop tests/evals/test_harness.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"gptjax needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}: make PYTHON=...")'
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.demo

.venv/.live: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,live]'
	@touch $@

clean:
	rm -rf .venv runs
