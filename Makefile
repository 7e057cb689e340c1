# Needs Python 3.11 or newer and nothing else: the virtual environment is made on first use, and renewed when setup.py
# or the pinned versions change. `make PYTHON=/path/to/python` chooses the interpreter it is made with.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKDIR ?= runs/quickstart
MODEL ?= checkpoints/smollm2-135m
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# With libtpu, which the tests compile by, jax would look for a TPU.
export JAX_PLATFORMS ?= cpu

.PHONY: quickstart pretrained bench test slow lint format clean

quickstart: $(INSTALLED)
	$(BIN)/python -m experiments.train --config=experiments/configs/quickstart.py --workdir=$(WORKDIR)

pretrained: $(INSTALLED)
	$(BIN)/python -m experiments.pretrained --output=$(MODEL)

bench: $(INSTALLED)
	$(BIN)/python -m experiments.bench.report --output=runs/bench

test: lint
	$(BIN)/python -m pytest -m "not slow" --durations=10 --numprocesses=2 --dist=loadfile

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --durations=10

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

$(INSTALLED): setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; name one by PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]' --constraint constraints.txt
	touch $@
