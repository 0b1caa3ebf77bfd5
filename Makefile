# Two commands: `make up` and `make test`. Everything is installed into .venv by pip from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: up test test-full bundle bench lint clean

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Crosswind needs Python 3.11 or newer; set PYTHON=/path/to/it" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -e . -c constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) install -q -e '.[dev,train]' -c constraints.txt
	@touch $@

.venv: $(VENV)/.base

up: $(VENV)/.base
	@exec $(BIN)/crosswind up

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -m "not full" --durations=15

test-full: $(VENV)/.dev lint
	$(BIN)/python -m pytest

DATA ?= ../shared/data
MINUTES ?= 0
bundle: $(VENV)/.dev
	$(BIN)/crosswind train --data $(DATA) --out runs/shipped --minutes $(MINUTES)
	$(BIN)/crosswind export runs/shipped --out models/bundle --name crosswind-e5-small
	$(BIN)/python -m crosswind.models.projection models/bundle --data $(DATA)
	$(BIN)/python bench/model.py --data $(DATA) --card docs/model-card.md

bench: $(VENV)/.dev
	for bench in bench/*.py; do $(BIN)/python $$bench || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
