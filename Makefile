# Two commands do everything on a fresh machine: `make demo` and `make test`. Each creates .venv with pinned versions first;
# the second time nothing is installed.

PYTHON ?= python3
# Package index to take torch from, where the default one is not wanted: on most machines the default index has torch's
# CUDA build, which works as well and is some gigabytes larger. make demo TORCH_INDEX=<URL of an index with CPU builds>
TORCH_INDEX ?=
TORCH = torch==2.13.0

CHROMIUM ?= chromium

VENV = .venv
RUN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
SITE = $(VENV)/.site
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Tests start hundreds of processes: where this is set, each would compile the whole package again.
unexport PYTHONDONTWRITEBYTECODE

# Two processes run the tests; those of one group (tests/conftest.py) stay together.
PARALLEL = --numprocesses 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check bench coverage pair natural docs page pictures site clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): requirements-cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch, then the pinned packages (a few minutes, once)."
	@$(RUN)/pip install --quiet --constraint requirements-cpu.lock $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@# Without dependency resolution: SGLang's own metadata asks for CUDA packages that the CPU path never imports.
	@$(RUN)/pip install --quiet --no-deps --requirement requirements-cpu.lock
	@$(RUN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(SITE): docs/site/requirements.lock $(INSTALLED)
	@$(RUN)/pip install --quiet --no-deps --requirement docs/site/requirements.lock
	@touch $@

demo: $(INSTALLED) ## The whole method on the bundled pair, in a few minutes: demo/report.md, demo/traces.duckdb.
	@$(RUN)/rrti demo

test: check $(SITE) ## Style, types and every test that is not slow; starts two real SGLang servers.
	$(RUN)/python -m pytest $(PARALLEL) -m "not slow"

test-slow: $(INSTALLED) $(SITE) ## The exhaustive tests as well, SmolLM2 on real servers among them; what is skipped says why.
	$(RUN)/python -m pytest $(PARALLEL) -rs

check: $(INSTALLED) ## Style and strict types.
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	@# The package is spread over five folders; put them together for the type checker.
	@rm -rf build/typecheck && mkdir -p build/typecheck/rrti_sgl
	@ln -s $(CURDIR)/rrti_sgl/* $(CURDIR)/programs $(CURDIR)/db $(CURDIR)/migrations $(CURDIR)/cli build/typecheck/rrti_sgl/
	MYPYPATH=build/typecheck $(RUN)/mypy -p rrti_sgl

bench: $(INSTALLED) ## Decoding on real servers, statistics of a 10-million-token store, the store itself: build/bench.json.
	$(RUN)/python benchmarks/decoding.py
	$(RUN)/python benchmarks/store_statistics.py
	$(RUN)/python benchmarks/many_runs.py
	$(if $(wildcard demo/traces.duckdb),$(RUN)/python benchmarks/commands.py)
	$(RUN)/python benchmarks/store.py $(if $(wildcard demo/traces.duckdb),--demo demo/traces.duckdb)

pair: $(INSTALLED) ## Train the bundled pair again, into build/pair.
	PYTHONPATH=benchmarks $(RUN)/python -m pair_training --out build/pair

natural: $(INSTALLED) ## A pair of natural language and the whole method on it: build/natural. FROM_SCRATCH=1 trains it again.
	PYTHONPATH=benchmarks $(RUN)/python -m natural_pair --out build/natural $(if $(FROM_SCRATCH),--from-scratch)
	$(RUN)/rrti experiment benchmarks/natural_pair/natural.toml
	PYTHONPATH=benchmarks $(RUN)/python -m natural_pair.causality build/natural
	$(RUN)/rrti stats causality --db build/natural/experiment/traces.duckdb
	$(RUN)/rrti sql --db build/natural/experiment/traces.duckdb -- "$$(cat benchmarks/natural_pair/kinds.sql)"
	$(RUN)/rrti report --db build/natural/experiment/traces.duckdb --out build/natural/report

coverage: $(INSTALLED) ## How often each interval holds its number, by simulation: db/analysis/coverage.csv, docs/statistics.md.
	OMP_NUM_THREADS=1 $(RUN)/python benchmarks/interval_coverage.py
	$(RUN)/rrti stats --definitions > docs/statistics.md

docs: $(INSTALLED) ## Write the reference pages that are generated from the code.
	$(RUN)/rrti db schema > docs/schema.md
	$(RUN)/rrti stats --definitions > docs/statistics.md
	$(RUN)/python docs/api_page.py > docs/api.md
	$(RUN)/typer rrti_sgl.cli.main utils docs --name rrti --title Commands > docs/commands.md

page: ## Build the explorer's page from its TypeScript; needs Node 20 and npm, which nobody else does.
	cd programs/explorer/front && npm ci --ignore-scripts --no-audit --no-fund && npm run --silent build

pictures: $(INSTALLED) ## The README's pictures, from the demonstration's store; needs Chromium.
	$(RUN)/python docs/terminal_picture.py docs/figures/terminal.svg demo "rrti samples guided --flipped --limit 4" "rrti show SAMPLE"
	$(RUN)/rrti report --db demo/traces.duckdb --out build/pictures
	@# A frame scrolls to its section; a page that was scrolled is drawn empty.
	echo '<body style="margin: 0"><iframe src="report.html#flips" width="1000" height="800" frameborder="0">' > build/pictures/frame.html
	$(CHROMIUM) --headless --no-sandbox --hide-scrollbars --window-size=1000,800 --screenshot=docs/figures/report.png \
	  file://$(CURDIR)/build/pictures/frame.html
	@# The greedy guided solution with most changed tokens, at the one of largest score.
	at=$$($(RUN)/rrti sql --csv --db demo/traces.duckdb "SELECT run_id || '/' || sample_id || '?at=' || position \
	    FROM tokens JOIN samples USING (run_id, sample_id) JOIN runs USING (run_id) \
	    WHERE program = 'guided' AND temperature = 0 AND correct AND fired AND base_token_id <> token_id \
	    ORDER BY n_changed DESC, n_takeovers DESC, problem_id, score DESC LIMIT 1" | tail -n 1 | tr -d '"\r') && \
	  id=$${at##*/} && $(RUN)/rrti view demo/traces.duckdb --export build/pictures/explorer --sample $${id%%\?*} && \
	  $(CHROMIUM) --headless --no-sandbox --hide-scrollbars --virtual-time-budget=5000 --window-size=1280,670 \
	    --screenshot=docs/figures/explorer.png "file://$(CURDIR)/build/pictures/explorer/index.html#/sample/$$at"

site: $(SITE) ## The documentation as a site: build/site/index.html.
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml

clean: ## Remove what was built and installed.
	rm -rf $(VENV) build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
