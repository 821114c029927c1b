# make run: set-up and the main job. make test: set-up and the tests. make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run ui test test-all test-slow mutants bench bench-all screenshots lint format clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

run: $(VENV)/.run  ## set up, compare every way to write one lambda (ARGS= for overrides)
	$(BIN)/python -m experiments.compare $(ARGS)

ui: $(VENV)/.run  ## open the MLflow UI on the runs
	$(BIN)/python -m experiments.ui

PYTEST := $(BIN)/python -m pytest
# Each core has a process that takes one test file after the other.
ON_TENSORFLOW := KERAS_BACKEND=tensorflow $(PYTEST) --numprocesses auto --dist loadfile \
    --no-loadscope-reorder
# Two processes, one for each backend, run the same tests.
ON_JAX_AND_TORCH := $(PYTEST) --dist each \
    --tx popen//env:KERAS_BACKEND=jax --tx popen//env:KERAS_BACKEND=torch

test: $(VENV)/.test lint  ## set up, lint and test: TensorFlow, contracts on JAX and torch
	$(ON_TENSORFLOW) --durations 10
	$(ON_JAX_AND_TORCH) --durations 10 tests/contracts

test-all: $(VENV)/.test lint  ## every test: full factorials, three backends, servers, a browser
	$(ON_TENSORFLOW) --full
	$(ON_JAX_AND_TORCH) --full tests/benchmarks tests/contracts tests/library l2keras
	$(ON_TENSORFLOW) --full tests/system

test-slow: $(VENV)/.test  ## the longest tests: kills, clusters, all of keras.applications
	KERAS_BACKEND=tensorflow $(PYTEST) --full tests/slow

mutants: $(VENV)/.test  ## show which fast test catches each planted fault (ARGS= for names)
	$(BIN)/python -m tests.mutants $(ARGS)

bench: $(VENV)/.run  ## measure every benchmark on TensorFlow (docs/benchmarks.md)
	$(BIN)/python -m benchmarks.step_cost
	$(BIN)/python -m benchmarks.fit_overhead
	$(BIN)/python -m benchmarks.audit_time
	$(BIN)/python -m benchmarks.lazy_embedding
	$(BIN)/python -m benchmarks.tracking_cost
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.whole_way

bench-all: $(VENV)/.test bench  ## the same in every mode, on JAX and torch too (hours)
	$(BIN)/python -m benchmarks.step_cost --mode jit
	$(BIN)/python -m benchmarks.step_cost --mode eager
	for backend in jax torch; do \
	    for mode in jit eager; do \
	        KERAS_BACKEND=$$backend $(BIN)/python -m benchmarks.step_cost --mode $$mode || exit 1; \
	    done; \
	    KERAS_BACKEND=$$backend $(BIN)/python -m benchmarks.sweep || exit 1; \
	done

screenshots: $(VENV)/.test  ## the README's pictures of a sweep
	$(BIN)/python -m tests.screenshots

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and the caches; the runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit("l2keras needs Python 3.11 or newer. Received: " + sys.version.split()[0] + ". Pass make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv pyproject.toml constraints.txt
	$(INSTALL) --editable '.[tensorflow,experiments]'
	@touch $@

$(VENV)/.test: $(VENV)/.venv pyproject.toml constraints.txt
	$(INSTALL) --editable '.[tensorflow,jax,torch,experiments,cluster,test]'
	@touch $@ $(VENV)/.run
