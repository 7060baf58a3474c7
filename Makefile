# Verbs only; the logic lives in `iqarena` and in the tests.
PYTHON ?= python3
BIN := .venv/bin

help:            ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

setup: .venv/ready  ## virtual environment in .venv with pinned packages; quick when it is there

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,torchattacks]'
	@touch $@

# pyiqa asks for many large packages; its architectures import these alone (12 MB to download)
.venv/pyiqa: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps pyiqa openai-clip einops facexlib ftfy regex setuptools wcwidth
	@touch $@

# 80 MB to download; without it, as where there is none for this Python or platform, its tests are skipped
.venv/ray: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ray && touch $@ || echo 'no Ray: its tests are skipped'

bench: setup     ## the main job: the pocket suite, two to six minutes on two cores
	$(BIN)/iqarena run pocket

RUN ?= results/runs/pocket

leaderboard: setup  ## boards and page of a run from its rows: make leaderboard RUN=results/runs/pocket
	$(BIN)/iqarena report $(RUN)

ABLATIONS := ablation_filters ablation_sigma_samples ablation_sources ablation_budget_steps

ablation: setup  ## the four ablation suites, one after the other
	for suite in $(ABLATIONS); do $(BIN)/iqarena run $$suite || exit; done

test: .venv/pyiqa .venv/ray  ## all tests but the slow ones, on all cores
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

slow: .venv/pyiqa .venv/ray  ## the slow tests
	$(BIN)/python -m pytest -m slow

fuzz: .venv/pyiqa  ## bad input of every kind, about 7,000 cases, others each time
	IQARENA_FUZZ=16 $(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/fuzz

soak: setup      ## one run killed 500 times while its disk fails, against the same run left alone
	$(BIN)/python tests/soak.py

check: setup     ## style, types, import directions
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --project . && $(BIN)/lint-imports

docs: setup      ## the generated tables in the READMEs
	$(BIN)/python -m iqarena.tools.docs attacks/README.md bench/README.md models/README.md

speed: setup     ## wall time outside model evaluations, growth, and ours beside torchattacks
	$(BIN)/iqarena speed && $(BIN)/iqarena speed torchattacks && \
		$(BIN)/iqarena speed --limit 8 --growth results/runs/growth

# The figures that a README shows; all others come from the rows, by iqarena report FOLDER --out OTHER
SHOWN := growth/plots/growth.png pocket/plots/attacks.png transfer/plots/attacks.png ablation_filters/plots/main_effects.png query/plots/cost_gain.png

reference: setup ## run the suites with committed evidence afresh into results/reference (those that need no download)
	for suite in pocket query relatives transfer transfer_ssim $(ABLATIONS) defenses; do \
		$(BIN)/iqarena run $$suite --overwrite always --out results/reference/$$suite || exit; done
	cd results/reference && rm -rf */gallery */index.html */report.json */settled.json && \
		find . -path '*/plots/*' $(foreach figure,$(SHOWN),! -path './$(figure)') -delete

clean:           ## remove what make and runs have made
	rm -rf .venv results/runs results/training .pytest_cache .ruff_cache build

.PHONY: help setup bench leaderboard ablation test slow fuzz soak check docs speed reference clean
