# Everything runs in a virtual environment of its own. Override either of these, for example
# `make test PYTHON=python3.12 VENV=.venv312`.
PYTHON ?= python3
VENV ?= .venv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup report test test-all check docs gate baseline clean

PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt
# A stamp is written after the install that it stands for, never before.
RUN_STAMP := $(VENV)/.harness-installed
TEST_STAMP := $(VENV)/.harness-installed-test
# The project's check of itself; what it leaves is out of version control.
GATE := $(PY) -P -m harness check benchmarks.yaml --baseline tests/baseline.json \
	--devices cpu --output reports/gate

# One test more at a time than there are cores, for many wait for processes; four at most. Those of
# a file share what it sets up, so they stay together, and files with slow tests begin first
# (tests/conftest.py).
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
SIDE_BY_SIDE := -n $$(( $(CORES) < 4 ? $(CORES) + 1 : 4 )) --dist loadfile --no-loadscope-reorder
# $(call pytest,OPTIONS): run the tests that are so selected, of which there may be none (status 5).
# -P: the tests see what an installed harness sees, without the folders of this checkout.
pytest = $(PY) -P -m pytest $(1) || [ $$? -eq 5 ]

# $(call need_python,INTERPRETER): stop with a clear line unless it is Python 3.11 or newer.
need_python = v=$$($(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
	|| { echo "error: cannot run '$(1)'; name a Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }; \
	$(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "error: '$(1)' is Python $$v, and 3.11 or newer is needed: make PYTHON=... VENV=..." >&2; exit 1; }

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(RUN_STAMP) ## Make the virtual environment and install what a run needs

report: $(RUN_STAMP) ## Set up, run benchmarks.yaml and write its report to reports/
	$(PY) -m harness run benchmarks.yaml

test: $(TEST_STAMP) ## Set up, lint, check types, run the tests and the gate
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy -n 2
	$(VENV)/bin/lint-imports --no-cache
	$(call pytest,$(SIDE_BY_SIDE) -m "not exhaustive and not serial")
	@$(MAKE) --no-print-directory gate

# Many kills, all pages of the documentation, error rates over many draws, benchmarks, and more
# examples of what is true of all inputs: a release runs them, and they take as long again.
test-all: test ## Run `make test`, then the tests that it leaves out
	$(call pytest,$(SIDE_BY_SIDE) --hypothesis-profile=exhaustive \
		-m "(exhaustive or hypothesis) and not serial")
	$(call pytest,-m serial)

check: $(TEST_STAMP) ## Set up, lint and check types; no tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache

docs: $(TEST_STAMP) ## Set up and build the site from docs/ to build/docs
	$(PY) -m sphinx -q -W --keep-going docs build/docs
	@echo "Site: build/docs/index.html"

# Seconds depend on the machine and on who else uses it, so they only warn. Counts and losses fail.
gate: $(TEST_STAMP) ## Set up and compare what benchmarks.yaml does with tests/baseline.json
	@status=0; $(GATE) --warn time || status=$$?; \
	if [ $$status -eq 3 ]; then \
		echo "gate: passes, but not all of it could be judged; the reasons stand above"; \
	else \
		exit $$status; \
	fi

baseline: $(TEST_STAMP) ## Set up and write tests/baseline.json anew; review what changed
	$(GATE) --update

clean: ## Remove the virtual environment, caches and build output (reports stay)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find harness optimizers datasets tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@# Only an environment that `make` made is removed.
	if [ -e "$(VENV)/.harness-made" ]; then rm -rf "$(VENV)"; fi

# $(call install,WHAT,WHO): install WHAT, which is what WHO needs. An environment that is there and
# has pip is used as it is; anything less is made anew.
define install
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		$(call need_python,$(PYTHON)); \
		echo "Making a virtual environment in $(VENV) (Python $$v)" \
		&& $(PYTHON) -m venv "$(VENV)" \
		&& touch "$(VENV)/.harness-made"; \
	fi
	@$(call need_python,$(PY))
	@echo "Installing what $(2) into $(VENV) (the first time takes a minute or more: torch is large)"
	@$(PIP_INSTALL) -e '$(1)'
endef

$(RUN_STAMP): pyproject.toml constraints.txt
	$(call install,.,a run needs)
	@touch $@

# What the tests need is what a run needs and more, so it is looked for and installed at once.
$(TEST_STAMP): pyproject.toml constraints.txt
	$(call install,.[test],the tests need)
	@touch $(RUN_STAMP) $@
