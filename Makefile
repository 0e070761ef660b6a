# Every chore of this project is one word. Needs Python 3.10 or newer, git and make; all else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Small tests share nothing and run side by side; those of a whole Airflow take all that a machine has.
SMALL_TESTS := tests/unit tests/integration tests/contract
AIRFLOW_TESTS := tests/e2e tests/chaos
PYTEST_ARGS ?=
N ?= 10
VERSIONS ?=
BENCHMARKS ?=

# uv then trusts what the system trusts, as pip does.
export UV_SYSTEM_CERTS ?= true

# uv is quick and compares what it downloads with the hashes of constraints.txt, but knows nothing of pip's configuration.
# Where it cannot install, pip does, with the same pins, unless a hash was wrong. It takes no hashes: with any, it refuses
# editable installs.
define install
@echo "Installing $(1)"
@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
	--constraints constraints.txt --build-constraints constraints.txt $(1) 2> $(VENV)/uv.log \
|| { cat $(VENV)/uv.log >&2; if grep -q "Hash mismatch" $(VENV)/uv.log; then exit 1; fi; \
	echo "uv could not: pip tries, with the same pins, but without their hashes"; \
	sed -e '/--hash=/d' -e 's/ \\$$//' constraints.txt > $(VENV)/pins.txt \
	&& $(BIN)/python -m pip install --quiet --constraint $(VENV)/pins.txt --upgrade pip \
	&& $(BIN)/python -m pip install --quiet --constraint $(VENV)/pins.txt $(1); }
@touch $@
endef

.PHONY: help install demo ui test test-distributed test-browser test-gateway test-matrix test-oldest soak lint format bench docs build constraints clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed-tests ## Install Airflow, the provider and what checks and tests need into .venv

demo: $(VENV)/installed ## Run the nightly example Dag in a real Airflow against the emulator
	@$(BIN)/python scripts/demo.py

ui: $(VENV)/installed-ui ## Start Airflow's UI with the example Dags, against the emulator
	@$(BIN)/python scripts/ui.py

test: lint ## Run all checks and tests; PYTEST_ARGS adds pytest options
	$(BIN)/python -m pytest $(SMALL_TESTS) --numprocesses auto --maxprocesses 4 $(PYTEST_ARGS)
	$(BIN)/python -m pytest $(AIRFLOW_TESTS) $(PYTEST_ARGS)

test-gateway: $(VENV)/installed-gateway ## Run batches through a real LiteLLM proxy in front of the emulator
	$(BIN)/python -m pytest tests/gateway $(PYTEST_ARGS)

test-browser: $(VENV)/installed-browser ## Look at the page of batches with Chromium, which must be installed; VERSIONS="3.1.3" adds older Airflows
	$(BIN)/python -m pytest tests/browser $(PYTEST_ARGS)
	$(if $(VERSIONS),$(BIN)/python scripts/matrix.py --browser $(VERSIONS))

test-distributed: $(VENV)/installed-distributed ## Run the Dags on PostgreSQL, Celery and Redis, and kill parts of it
	$(BIN)/python -m pytest tests/distributed $(PYTEST_ARGS)

test-matrix: $(VENV)/uv ## Run the tests on every supported Airflow; VERSIONS="3.0.6 3.1.3" chooses
	$(BIN)/python scripts/matrix.py $(VERSIONS)

test-oldest: $(VENV)/uv ## Run what differs most between versions on the oldest Airflow and Python
	$(BIN)/python scripts/matrix.py --quick 3.0.6

soak: $(VENV)/installed-tests ## Repeat the chaos suite; N says how often
	@for turn in $$(seq $(N)); do echo "Turn $$turn of $(N)"; \
		$(BIN)/python -m pytest tests/chaos $(PYTEST_ARGS) || exit 1; done

lint: $(VENV)/installed-tests ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-tests ## Put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-bench ## Measure what the documentation claims; BENCHMARKS="waiting detection" chooses
	@$(BIN)/python -m benchmarks $(BENCHMARKS)

docs: $(VENV)/installed-docs ## Build the documentation's site into site/; a broken link is an error (Python 3.11 or newer)
	@$(BIN)/python scripts/docs_site.py

build: $(VENV)/installed-build ## Build the wheel and the source distribution into dist/, and check both
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents --toplevel airflow_provider_mistral_batch dist/*.whl

constraints: $(VENV)/uv ## Pin the newest versions that fit pyproject.toml, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.10 --no-annotate \
		--custom-compile-command "make constraints" --no-emit-index-url --no-emit-find-links \
		--all-extras --group bench --group browser --group build --group distributed --group docs --group install --group lint \
		--group sdk --group stores --group test pyproject.toml -o constraints.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-annotate \
		--custom-compile-command "make constraints" --no-emit-index-url --no-emit-find-links \
		tests/gateway/requirements.in -o tests/gateway/requirements.txt

clean: ## Remove everything that these targets made
	rm -rf $(VENV) .airflow benchmarks/results build dist site *.egg-info .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/uv: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing); Python 3.10 or newer is needed:" \
			"name one with 'make PYTHON=python3.12 ...'"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' constraints.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	@touch $@

$(VENV)/installed: $(VENV)/uv pyproject.toml setup.cfg constraints.txt
	$(call install,--editable ".[emulator]")

# What the example Dags need.
$(VENV)/installed-ui: $(VENV)/installed
	$(call install,--editable ".[emulator$(comma)parquet$(comma)sql]" apache-airflow-providers-sqlite)

$(VENV)/installed-tests: $(VENV)/installed
	$(call install,--editable ".[common-ai$(comma)costs$(comma)emulator$(comma)parquet$(comma)sql$(comma)zstd]" --group lint --group sdk --group test)

$(VENV)/installed-distributed: $(VENV)/installed-tests
	$(call install,--editable ".[emulator]" --group distributed)

$(VENV)/installed-browser: $(VENV)/installed-tests
	$(call install,--editable ".[emulator]" --group browser)

# LiteLLM pins what Airflow pins otherwise, so it has an environment of its own.
$(VENV)/installed-gateway: $(VENV)/installed-tests tests/gateway/requirements.txt
	@echo "Installing LiteLLM into $(VENV)/gateway"
	@$(BIN)/python -m venv $(VENV)/gateway
	@$(BIN)/uv pip install --quiet --python $(VENV)/gateway/bin/python --requirement tests/gateway/requirements.txt \
	|| { echo "uv could not: pip tries, with the same pins"; \
		$(VENV)/gateway/bin/python -m pip install --quiet --requirement tests/gateway/requirements.txt; }
	@touch $@

$(VENV)/installed-docs: $(VENV)/uv pyproject.toml constraints.txt
	$(call install,--group docs)

$(VENV)/installed-build: $(VENV)/uv pyproject.toml constraints.txt
	$(call install,--group build)

$(VENV)/installed-bench: $(VENV)/installed
	$(call install,--editable ".[emulator$(comma)parquet$(comma)sql$(comma)zstd]" --group bench)

comma := ,
