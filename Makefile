# Needs make and python3 (3.11 or 3.12, with the venv module); everything else is installed into .venv.
#
#   make demo    edit the demo pictures, write outputs/demo
#   make test    all tests; ARGS="-k masks" narrows them, WORKERS=0 runs them in one process
#   make check   format, lint, spelling, types and the tests of the layers
#   make setup   only the installation

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := editors plugin video bench configs app
WORKERS ?= 2
ARGS ?=
# Threads beyond the number of cores make torch many times slower, and the workers below already fill them.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test check format lint spelling types layers lock

help:
	@sed -n '3,6s/^# *//p' Makefile

setup: $(STAMP)

demo: $(STAMP)
	$(BIN)/maskedit demo --output outputs/demo

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=10 $(ARGS)

check: format lint spelling types layers

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

spelling: $(STAMP)
	$(BIN)/typos

types: $(STAMP)
	$(BIN)/pyright

layers: $(STAMP)
	@$(BIN)/python -m pytest -q tests/test_layers.py tests/test_mirror.py tests/test_house.py

# Resolves the lock file anew, within the bounds of pyproject.toml.
lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@if [ ! -x $(BIN)/python ]; then \
		for name in python3.12 python3.11 python3; do \
			if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then \
				python=$$name; break; \
			fi; \
		done; \
		if [ -z "$${python:-}" ]; then \
			echo "error: expected Python 3.11 or 3.12, found $$(python3 --version 2>/dev/null || echo none): install one of them" >&2; exit 1; \
		fi; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "error: $$python has no venv module: install it (on Debian and Ubuntu: apt install $$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))" >&2; exit 1; \
		fi; \
		echo "making .venv with $$python; the first installation downloads several gigabytes"; \
		"$$python" -m venv .venv; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@# An editable install is invisible to type checkers; these links let them resolve `maskedit.*` in the tests.
	@mkdir -p .venv/typing/maskedit
	@for name in $(PACKAGES); do ln -sfn ../../../$$name .venv/typing/maskedit/$$name; done
	@touch $@
