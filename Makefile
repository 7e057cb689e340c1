# Needs Python 3.11 or newer and nothing else. Each target installs what it needs, and no more, into the virtual
# environment .venv, and again when setup.py or the pinned versions change.

VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
MODEL ?= checkpoints/smollm2-135m
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# With libtpu, which slow tests compile by, jax would look for a TPU.
export JAX_PLATFORMS ?= cpu
# Else every command that a test starts would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help quickstart pretrained bench test slow colab lint format clean

help:
	@echo "make quickstart   train a buyer on this machine's CPU, minutes; report in $(WORKDIR)/report (WORKDIR=DIR)"
	@echo "make pretrained   fetch SmolLM2-135M-Instruct, a small published model, into $(MODEL) (MODEL=DIR)"
	@echo "make bench        measure speed and memory; report in runs/bench"
	@echo "make test         lint and the tests not marked slow, five to thirteen minutes on two cores"
	@echo "make slow         the tests marked slow, an hour or more"
	@echo "make colab        train, evaluate and resume with the versions of Colab's runtime"
	@echo "make lint         check style; make format corrects it"
	@echo "make clean        remove $(VENV)"
	@echo "Every target that needs it creates $(VENV) first. PYTHON=/path/to/python chooses its interpreter."
	@echo "The commands, in that environment: README.md; python -m experiments.train --help"

quickstart: $(VENV)/.package
	$(BIN)/python -m experiments.train --config=experiments/configs/quickstart.py --workdir=$(WORKDIR)

pretrained: $(VENV)/.pretrained
	$(BIN)/python -m experiments.pretrained --output=$(MODEL)

bench: $(VENV)/.test
	$(BIN)/python -m experiments.bench.report --output=runs/bench

test: lint
	NEGOT_SMALL=1 $(BIN)/python -m pytest -m "not slow" --durations=10 --numprocesses=2 --dist=loadfile \
		--no-loadscope-reorder --nbmake colabs/quickstart.ipynb tests

slow: $(VENV)/.slow
	$(BIN)/python -m pytest -m slow --durations=10
	NEGOT_SMALL=1 $(BIN)/python -m pytest --nbmake colabs --ignore=colabs/quickstart.ipynb

# An environment of its own, with the versions of Colab's runtime.
colab: $(VENV)-colab/.package
	$(VENV)-colab/bin/python -m pytest tests/run/test_run.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-colab

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; name one by PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The package alone, or with one of the extras of setup.py. Python compiles what is imported, a small part, by itself.
$(VENV)/.package: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable . --constraint constraints.txt
	touch $@

$(VENV)-colab/.package: setup.py colabs/constraints.txt
	$(PYTHON) -m venv $(VENV)-colab
	$(VENV)-colab/bin/python -m pip install --quiet --editable . hypothesis pytest --constraint colabs/constraints.txt
	touch $@

$(VENV)/.%: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[$*]' --constraint constraints.txt
	touch $@
