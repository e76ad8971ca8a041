# What a person or CI runs in this repository. `make` alone lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# The first Python that is recent enough; `make PYTHON=...` names another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
SETUP := $(if $(PYTHON),$(PYTHON),python3) deploy/tools/setup
UV := 0.13.9
# The schemas are JSON beside the policies; read as data they would only collide.
REGO := --ignore schemas rego
# OPA gives one test five seconds, which a machine that does more than this may need.
PATIENT := --timeout 120s

.PHONY: help
help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# For users

.PHONY: demo
demo: venv-demo ## Run the demonstration (KEEP=1 leaves it running)
	@OPA="$$($(SETUP) get opa)" && export OPA && $(BIN)/python deploy/demo/run.py

.PHONY: opa
opa: ## Find Open Policy Agent or obtain it, and print where it is
	@$(SETUP) get opa

# For developers

# Two workers, each with servers of its own; a file's tests stay together and in order. What measures time has the
# machine to itself (the marker `alone`). JOBS=0 runs everything in one process, as a debugger needs it.
JOBS ?= 2
PYTEST := -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Coverage is measured while the tests run, in every process but those of tests/e2e, which are run as they are deployed.
.PHONY: test
test: venv-dev postgres browser test-rego ## Obtain what the tests need and run them (ARGS='-k name' chooses, COVERAGE=1 measures)
	@OPA="$$($(SETUP) get opa)" && export OPA && \
	$(if $(COVERAGE),$(BIN)/coverage erase && $(BIN)/coverage run,$(BIN)/python) $(PYTEST) $(ARGS)
	$(if $(COVERAGE),@$(BIN)/coverage combine --quiet && $(BIN)/coverage report $(if $(ARGS),--fail-under=0))

.PHONY: check
check: static coverage ## Run every check: style, types, policies, contract, tests with coverage

.PHONY: coverage
coverage:
	@$(MAKE) test COVERAGE=1

.PHONY: static
static: lint types check-rego lint-rego check-proto ## Run the checks that run no test

.PHONY: lint
lint: venv-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: venv-dev
	$(BIN)/mypy

.PHONY: test-rego
test-rego:
	@opa="$$($(SETUP) get opa)" && "$$opa" test $(PATIENT) $(REGO)

# The schema is named as a file: given its folder, OPA checks only what is annotated, that is, nothing.
.PHONY: check-rego
check-rego:
	@opa="$$($(SETUP) get opa)" && set -x && \
	"$$opa" fmt --list --fail rego && \
	"$$opa" check --strict --schema rego/schemas/input.json $(REGO) && \
	"$$opa" test $(PATIENT) $(REGO) && \
	"$$opa" test $(PATIENT) --coverage $(REGO) | deploy/tools/uncovered

.PHONY: lint-rego
lint-rego:
	@if regal="$$($(SETUP) find regal 2>/dev/null)"; then set -x; "$$regal" lint rego; \
	else echo "skipped: regal is not here (make tools obtains it)"; fi

.PHONY: check-proto
check-proto: venv-dev
	@if buf="$$($(SETUP) find buf 2>/dev/null)"; then set -x; "$$buf" lint proto; \
	else echo "skipped: buf is not here (make tools obtains it)"; fi
	@fresh="$$(mktemp -d)" && trap 'rm -rf "$$fresh"' EXIT && $(call generate,$$fresh) && \
	for file in "$$fresh"/pdp/v1/* pdp/v1/*_pb2*; do name="$${file##*/}"; \
	cmp "$$fresh/pdp/v1/$$name" "pdp/v1/$$name" || { echo "pdp/v1 is not what proto/ generates: run make proto"; exit 1; }; done

# Needs npm, and takes minutes: not part of what must pass before a change lands.
CONFORMANCE := .checkrein/conformance

.PHONY: conformance
conformance: venv-dev ## Run the official suite of MCP, Autobahn's cases and h2spec against the HTTP proxy
	@mkdir -p $(CONFORMANCE) && cp tests/conformance/package.json tests/conformance/package-lock.json $(CONFORMANCE) && \
	cd $(CONFORMANCE) && npm ci --no-audit --no-fund
	@CONFORMANCE=$(CONFORMANCE) H2SPEC="$$(deploy/tools/setup get h2spec)" $(BIN)/python -m pytest \
		tests/conformance/h2spec.py tests/conformance/mcp_suite.py tests/conformance/websocket_compression.py tests/conformance/websocket_cases.py $(ARGS)

MINUTES ?= 30

.PHONY: chaos
chaos: venv-dev postgres ## Compare three ledgers after MINUTES=30 of faults (SEED=n repeats a schedule); docs/chaos.md
	@OPA="$$($(SETUP) get opa)" && export OPA && CHAOS_MINUTES="$(MINUTES)" CHAOS_SEED="$(SEED)" \
		CHAOS_REPORT=docs/chaos.md $(BIN)/python -m pytest -s -m chaos tests/e2e/chaos $(ARGS)

.PHONY: doors
doors: venv-dev ## Take each check at the doors away, one at a time, and see that a test misses it (ARGS=word chooses)
	@$(BIN)/python -m tests.doors.mutations $(ARGS)

.PHONY: proto
proto: venv-dev ## Generate pdp/v1 from proto/
	$(call generate,.)

generate = $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	proto/pdp/v1/*.proto

.PHONY: lock
lock: ## Write the lock files anew from pyproject.toml (UPGRADE=1 raises every version)
	@scratch="$$(mktemp -d)" && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/pip" install --quiet --disable-pip-version-check uv==$(UV) && \
	lock="$$scratch/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate" && \
	lock="$$lock --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)" && \
	$$lock --custom-compile-command 'make lock' --extra dev -o deploy/lock/dev.txt pyproject.toml deploy/lock/build.in && \
	$$lock --custom-compile-command 'make lock' --extra demo -c deploy/lock/dev.txt -o deploy/lock/demo.txt \
		pyproject.toml deploy/lock/build.in

.PHONY: tools
tools: ## Obtain buf and regal, with which make check does more
	@for tool in buf regal; do $(SETUP) get "$$tool" || missing=1; done; test -z "$$missing"

.PHONY: clean
clean: ## Remove what was made here (the cache of OPA is the user's and stays)
	rm -rf .venv .checkrein .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find pdp pep tests deploy -name __pycache__ -prune -exec rm -rf {} +

# What the targets above need

.PHONY: venv-demo venv-dev
venv-demo venv-dev: venv-%:
	@deploy/tools/venv "$(PYTHON)" $*

.PHONY: postgres browser
postgres browser:
	@$(SETUP) $@ >/dev/null
