# Everything happens in .venv, made on first use from Python 3.11 or newer and nothing else. `make` alone lists the recipes.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := domain contracts models infra activities workflows api sandbox cli migrations benchmarks tests worker.py

# Every stack starts a dozen processes: they find our own modules compiled.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help up demo chaos test bench controls hostile lint fmt lock

help: ## List the recipes
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

up: $(STAMP) ## Start the whole stack and keep it running until Ctrl-C
	@$(BIN)/chama up

demo: $(STAMP) ## Start the stack, drive every story through the API, check the books
	@$(BIN)/chama demo

# How much, how often and with what the chaos run is done.
FLOWS := 1000
SEEDS := 1,2,3
STORIES :=

chaos: $(STAMP) ## Kill, break and delay everything while people invest, then count what was lost (FLOWS= SEEDS= STORIES=)
	@$(BIN)/chama chaos --flows $(FLOWS) --seeds $(SEEDS) --stories "$(STORIES)"

test: lint ## Format, lint, types, import rule and every test
	$(BIN)/pytest -n 3 --no-loadscope-reorder

bench: $(STAMP) ## Measure us beside the bare thing, side by side, and write var/bench.json
	$(BIN)/python -m benchmarks.run

controls: $(STAMP) ## Switch every guard off, one by one, and see that the tests notice
	$(BIN)/python -m tests.controls.run --write-docs

CASES := 20000
hostile: $(STAMP) ## The nightly form of the hostile-input tests: CASES=20000 generated requests and more
	CHAMA_HOSTILE_CASES=$(CASES) $(BIN)/pytest -s tests/hostile

lint: $(STAMP) ## Format, lint, types and the import rule
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

lock: $(STAMP) ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --all-extras --python-version 3.11 pyproject.toml -o requirements.lock

# The stamp is newer than the lock when the environment is complete, so a second run starts at once.
$(STAMP): requirements.lock pyproject.toml
	@sh deploy/venv.sh $(VENV)
	@touch $@
