# The four commands of this project. Everything is installed into .venv and nowhere else.
#
#   make demo    the README's sweep on the embedded model
#   make test    pytest, four files at a time: some only wait for SLURM
#   make check   ruff and mypy
#   make venv    only the environment

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: venv demo test check

venv: .venv/installed

demo: .venv/installed
	$(BIN)/python -m sweep method=sparsegpt,wanda calib=c4,alpaca -m

test: .venv/installed-test
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

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
