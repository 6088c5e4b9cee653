# Each target does its own set-up in .venv; nothing else is needed but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-server lint bench

demo: $(VENV)/.installed
	$(BIN)/gristmill demo -o gristmill-demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What needs a real server (skipped by `test` where it is absent): `transformers serve` with a tiny model.
test-server: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]' 'transformers[serving]'
	$(BIN)/python -m pytest -n 0 tests/test_real_server.py tests/test_served.py

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python bench/all.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	touch $@
