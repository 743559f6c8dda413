# Every target wraps a few commands that also work without make.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help install search test test-examples coverage check laws ablation record bench-search bench-search-final bench-search-ablation bench-search-transfer bench-search-real chaos screenshots docs constraints clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/installed  ## Make .venv with the pinned stack

.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

search: install  ## Search networks on handwritten digits, then show the leaderboard
	$(BIN)/archscout search digits

check: install  ## Lint, format, types, layers and words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell -D - *.md Makefile docs search_spaces workers orchestrator tests benchmarks examples

test: check  ## All checks, then the tests
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not examples"

test-examples: install  ## The example notebook and the five commands of the README, from first step to last
	$(BIN)/pytest -n 2 --dist loadfile -m examples

coverage: install  ## The tests with branch coverage, which takes a third longer
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

laws: install  ## Test the invariants of the search spaces on 10,000 candidates each; resumable, results in laws/ (SAMPLES, PROCESSES)
	LAWS_SAMPLES=$(or $(SAMPLES),10000) OMP_NUM_THREADS=1 $(BIN)/python tests/laws/laws.py --processes $(or $(PROCESSES),2)
	LAWS_SAMPLES=$(or $(SAMPLES),10000) $(BIN)/pytest tests/laws/test_digest_laws.py -o timeout=0

ablation: install  ## Hybrids and gates against plain networks of equal FLOPs on Fashion-MNIST; resumable, results in ablation/ (EPOCHS, SEEDS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ablation.py --epochs $(or $(EPOCHS),5) --seeds $(or $(SEEDS),3)

.venv/bench-installed: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

record: .venv/bench-installed  ## Record trainings for the search benchmark; resumable, continues benchmarks/search/results/recordings (UNTIL, SHARD)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search.recordings.record --until $(or $(UNTIL),150) --shard $(or $(SHARD),0/1)

bench-search: .venv/bench-installed  ## Our search and its peers in simulated time, development tasks; resumable, results in results/search/ (SHARD)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search.measure --shard $(or $(SHARD),0/1)
	$(BIN)/python -m benchmarks.search.compare
	$(BIN)/python -m benchmarks.search.confirmed

bench-search-final: .venv/bench-installed  ## The same on the tasks kept for releases, 20 seeds; once a release (SHARD)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search.measure --final --shard $(or $(SHARD),0/1)
	$(BIN)/python -m benchmarks.search.compare --final

bench-search-ablation: .venv/bench-installed  ## Our search without each of its ingredients in simulated time; resumable, results in results/search-ablation/ (SEEDS, SHARD)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search.ablation --seeds $(or $(SEEDS),3) --shard $(or $(SHARD),0/1)

bench-search-transfer: .venv/bench-installed  ## Searches that start from a study on related, unrelated or reversed data in simulated time; resumable, results in results/search-transfer/ (SEEDS, SHARD)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search.transfer --seeds $(or $(SEEDS),20) --shard $(or $(SHARD),0/1)

bench-search-real: .venv/bench-installed  ## Real searches of this and other methods, confirmed and tested; resumable, results in results/search-real/ (TODAY, SEEDS, SHARD)
	for step in search evaluate table; do OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search.real $$step --seeds $(or $(SEEDS),3) --shard $(or $(SHARD),0/1) $(if $(TODAY),--checkout today=$(TODAY),--methods ours optuna) || exit; done

chaos: install  ## Kill searches hundreds of times on both databases; results in chaos/ (KILLS, STEERED_KILLS, RAY_KILLS, RACES, STOCK, SEED, SHARD)
	PYTHONPATH=.:tests $(BIN)/python tests/chaos/chaos.py --controls --promotions --kills $(or $(KILLS),300) --steered-kills $(or $(STEERED_KILLS),100) --ray-kills $(or $(RAY_KILLS),50) --races $(or $(RACES),100) --stock $(or $(STOCK),2) --seed $(or $(SEED),1) --shard $(or $(SHARD),0/1)

.venv/docs-installed: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: .venv/docs-installed  ## Build the documentation as a site in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

constraints: install .venv/docs-installed  ## Pin what is installed now
	@{ echo "# Every package of the tested stack, pinned. Make it again with \`make constraints\` after changing pyproject.toml."; \
	   $(BIN)/pip freeze --all --exclude-editable | grep -viE '^pip==' | sed 's/+cpu$$//'; } > constraints.txt

screenshots: install  ## Search, promote, and take the screenshots in docs/screenshots with Chromium
	PYTHONPATH=.:tests $(BIN)/python docs/make_screenshots.py docs/screenshots

clean:  ## Remove the environment and caches of tools; studies in mlruns/ stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage site
