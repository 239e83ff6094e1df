# The commands of this project. Everything is installed into .venv and nowhere else.
#
#   make demo         the README's sweep on the embedded model
#   make test         pytest, one file more at a time than there are processors
#   make test-slurm   the tests that bring up a real SLURM; they skip where it is not installed
#   make bench        the benchmarks that compare, small and once: that they run
#   make check        ruff and mypy
#   make venv         only the environment

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

PROCESSORS := $(shell getconf _NPROCESSORS_ONLN)
SPREAD := --dist loadfile --no-loadscope-reorder

# tests start hundreds of processes, and each would compile the project's modules again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv demo test test-slurm bench check

venv: .venv/installed

demo: .venv/installed
	$(BIN)/python -m sweep method=sparsegpt,wanda calib=c4,alpaca -m

# one more than there are processors, because some wait for browsers, servers and other processes
test: .venv/installed-test
	$(BIN)/python -m pytest -m "not slurm" --numprocesses $$(($(PROCESSORS) + 1)) --maxprocesses 8 \
		--durations 20 $(SPREAD)

# more than there are processors, because they wait for SLURM much of the time
test-slurm: .venv/installed-test
	$(BIN)/python -m pytest -m slurm --numprocesses 4 $(SPREAD)

bench: .venv/installed-test
	for name in metrics memory compress gpu plan share; do \
		$(BIN)/python -m benchmarks.$$name --quick || exit 1; \
	done

check: .venv/installed-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) --editable '.[test]'
	@touch $@

.venv/installed-check: .venv/installed
	$(INSTALL) --editable '.[check]'
	@touch $@
