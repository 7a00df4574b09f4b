# Every target does its own set-up: python3 (3.11 or newer), make and git are enough.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
PROGRAMS := parallel:parallel task-spooler:tsp nq:nq redis-tools:redis-check-rdb strace:strace  # Debian's name:the program
BIN := $(VENV)/bin
# Not the installed script: pip cannot write one that works below a path with a quote in it.
RUN := $(BIN)/python -m orchestrator.cli
T ?=
ARGS ?=

.PHONY: help demo start stop add status watch test cover fast check bench bench-quick crash clean schemas
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# One stamp a set of packages; written anew when pyproject.toml changes.
$(VENV)/base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q orchestrator
	@touch $@

$(VENV)/test: $(VENV)/base
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,check]'
	@touch $@

# What `make bench` compares with, in a venv of its own. What cannot be had is left out, and its row says so.
$(BENCH)/ready: $(VENV)/base
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@echo "setting up $(BENCH) …"
	@$(BENCH)/bin/python -m pip install -q --disable-pip-version-check -e '.[bench,mcp]'
	@$(BENCH)/bin/python -m pip install -q --disable-pip-version-check -e '.[peers]' || true
	@for one in $(PROGRAMS); do command -v $${one#*:} >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  { test -e $(BENCH)/updated || { apt-get update -q; touch $(BENCH)/updated; }; apt-get install -q -y --no-install-recommends $${one%:*}; } >/dev/null 2>&1 || true; }; done
	@touch $@

demo: $(VENV)/base  ## a small real pipeline on this very repository, in demo/
	@$(BIN)/python examples/demo.py $(ARGS)

start: $(VENV)/base  ## start the dispatcher here
	@$(RUN) start $(ARGS)

stop: $(VENV)/base  ## stop it (waits for its runs)
	@$(RUN) stop $(ARGS)

# The text as it was typed: make would expand a dollar sign in it.
add: export TEXT = $(value T)
add: $(VENV)/base  ## make add T="Fix the login" [ARGS="--priority high"]
	@$(if $(strip $(T)),,$(error say what to do: make add T="Fix the login"))$(RUN) add $(ARGS) -- "$$TEXT"

status: $(VENV)/base  ## what runs, what waits, what needs you
	@$(RUN) status

watch: $(VENV)/base  ## the same, again every two seconds
	@$(RUN) status --watch

test: $(VENV)/test  ## all tests
	@$(BIN)/python -m pytest -n 4 $(ARGS)

cover: $(VENV)/test  ## the same with the coverage of the core, also of the processes that tests start
	@$(BIN)/python -m pytest -n 4 --cov=orchestrator --cov-report=term $(ARGS)

# In memory where there is such a folder: what a disk costs is not looked for here.
fast: $(VENV)/test  ## the inner ring: under ten seconds
	@TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo "$${TMPDIR:-/tmp}") $(BIN)/python -m pytest -m "fast and not heavy" -n 2 tests/unit tests/house $(ARGS)

check: $(VENV)/test  ## lint, types, import floors, docs in step with the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q orchestrator docs examples bench crash
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -m house

bench: $(BENCH)/ready  ## measure ours and others on the same work, and write docs/performance.md
	@$(BENCH)/bin/python bench/bench.py --write $(ARGS)

bench-quick: $(BENCH)/ready  ## the rows that tell most, in a minute; writes nothing
	@$(BENCH)/bin/python bench/bench.py --quick $(ARGS)

crash: $(VENV)/test  ## kill everything everywhere, and count what was lost or doubled
	@$(BIN)/python crash/crash.py $(ARGS)

schemas: $(VENV)/base  ## write the JSON Schemas anew from the models
	@$(BIN)/python -m orchestrator.schemas

clean:  ## remove what these targets made; never tasks/ or context/
	rm -rf $(VENV) $(BENCH) demo build dist .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
