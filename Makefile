# Every recipe makes what it needs: a fresh machine with Python 3.11+ and make can start anywhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed
INSTALLED := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The build of torch that the recipes install; `make demo TORCH='torch>=2.8'` takes the newest.
TORCH ?= torch==2.13.0
ROOMS := trials models datasets service
CODE := $(ROOMS) tests docs/tools

.DEFAULT_GOAL := help
.PHONY: help demo test slow chaos browser wheel lint fix types bench reports corpus judge benchmark-detectors lock clean

help:  ## list the recipes
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

# Running needs some 80 packages, developing twice as many: `make demo` installs the first alone.
$(RUNTIME): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt '$(TORCH)' -e .
	touch $@

$(INSTALLED): pyproject.toml constraints-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints-dev.txt '$(TORCH)' -e '.[dev]'
	touch $(RUNTIME) $@

demo: $(RUNTIME)  ## run examples/quickstart.yaml on a local Ray and print the verdicts
	$(BIN)/sickbay run examples/quickstart.yaml

# Three processes take a file of tests each: on two cores one of them mostly waits for Ray.
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)  ## the default test suite: CPU, offline
	$(BIN)/python -m pytest $(PARALLEL)

slow: $(INSTALLED)  ## what takes minutes or kills processes
	$(BIN)/python -m pytest $(PARALLEL) -m 'slow and not chaos and not gpu and not browser'
	$(BIN)/python -m pytest $(PARALLEL) -m 'chaos and not gpu and not browser'

KILLS ?= 300
chaos: $(INSTALLED)  ## kill what runs sweeps at random, KILLS=300 times (or for MINUTES=), look for lost or doubled rows
	KILLS=$(KILLS) MINUTES=$(MINUTES) SEED=$(SEED) $(BIN)/python tests/support/soak.py

browser: $(INSTALLED)  ## the page in a real Chromium, where one is installed
	$(BIN)/python -m pytest -m browser

wheel:  ## build the wheel, install it alone in a fresh environment and use it from there
	PYTHON='$(PYTHON)' TORCH='$(TORCH)' tests/wheel_smoke.sh

lint: $(INSTALLED)  ## style and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

fix: $(INSTALLED)  ## mend what lint can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# Type checkers do not follow setuptools' package-dir: show them the rooms below one folder.
types: $(INSTALLED)  ## mypy --strict over the rooms
	mkdir -p build/types/sickbay
	for room in $(ROOMS); do ln -sfn ../../../$$room build/types/sickbay/$$room; done
	for file in service/front/*.py; do ln -sfn ../../../$$file build/types/sickbay/; done
	MYPYPATH=build/types $(BIN)/mypy -p sickbay

bench: $(INSTALLED)  ## measured claims: ratios taken side by side in one run; BENCH="lanes page" runs these alone
	$(BIN)/python -m tests.benchmarks $(BENCH)

reports: $(INSTALLED)  ## run the specs behind docs/reports.md (hours on one core, resumes) and write it
	for spec in examples/reports/*.yaml; do $(BIN)/sickbay run $$spec --store build/reports || exit; done
	$(BIN)/python -m docs.tools.reports_page build/reports

corpus: $(INSTALLED)  ## run the fault corpus anew (about two hours on one core, resumes) and store it as one file
	$(BIN)/python -m docs.tools.corpus generate
	$(BIN)/python -m docs.tools.corpus collect

judge: $(INSTALLED)  ## train the judge anew from the stored corpus (minutes on one core)
	$(BIN)/python -m docs.tools.judge

benchmark-detectors: $(INSTALLED)  ## judge the stored corpus and write docs/benchmark.md
	$(BIN)/python -m docs.tools.corpus page

# A resolver writes the locks, from the index alone. torch and what a CUDA build of it brings stay out of
# them: whose machine it is chooses the build. `constraints-dev.txt` adds to the runtime lock, never differs.
lock: $(INSTALLED)  ## resolve pyproject.toml anew into constraints.txt and constraints-dev.txt
	for extras in '' '-dev'; do \
		$(BIN)/uv pip compile pyproject.toml $${extras:+--extra dev --constraint constraints.txt} --quiet \
			--python-version 3.11 --no-header --no-annotate --no-emit-package torch \
			-o constraints$$extras.txt && \
		sed -i -E '/^(nvidia-|cuda-|triton==)/d' constraints$$extras.txt || exit; \
	done

clean:  ## remove everything that a recipe made
	rm -rf $(VENV) build dist *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
