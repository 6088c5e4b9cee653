# Each target does its own set-up in .venv; nothing else is needed but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-train test-server lint bench

demo: $(VENV)/.installed-train
	$(BIN)/gristmill demo -o gristmill-demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What needs torch (skipped by `test` where it is absent): the embedded model and TRL's trainers, on this machine's CPU.
test-train: $(VENV)/.installed-train
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/test_tiny_model.py tests/test_trl.py tests/test_local.py tests/test_demo.py \
		tests/test_loop.py tests/test_loop_killed.py tests/test_tiny_trials.py

# What needs a real server (skipped by `test` where it is absent): `transformers serve` with a tiny model.
test-server: $(VENV)/.installed-train
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'transformers[serving]'
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

$(VENV)/.installed-train: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,train]'
	touch $@
