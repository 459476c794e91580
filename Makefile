# `make` lists the targets. Settings can be given on the command line: make report PROFILE=full

PYTHON    ?= python3.11
PROFILE   ?= quick
NOTEBOOKS ?=
MODELS    ?=
PROTOCOLS ?=
FOLDS     ?=
BUDGET    ?=
SCHEDULER ?=
MISSING   ?=
ARCHIVES  ?=
STUDY     ?= canonical
MODEL     ?= transformer
TRIALS    ?= 40
EPOCHS    ?=

export TF_CPP_MIN_LOG_LEVEL  ?= 2
export TF_ENABLE_ONEDNN_OPTS ?= 1

BIN   := .venv/bin
STAMP := .venv/.requirements-installed

.DEFAULT_GOAL := help
.PHONY: help venv report test lab data smoke lint bench grid reference study search bundle collect validity publish table2 clean

help:  ## list the targets
	@echo "make TARGET [SETTING=value ...]"
	@sed -n 's/^\([a-z0-9]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12
	@echo "PROFILE is smoke, quick (default) or full."

venv: $(STAMP)  ## create .venv and install requirements.txt

$(STAMP): requirements.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found; the project needs Python 3.11."; \
	  echo "  Debian, Ubuntu:  apt-get install python3.11 python3.11-venv"; \
	  echo "  macOS:           brew install python@3.11"; \
	  echo "  anywhere:        uv python install 3.11"; \
	  echo "Or name one that is elsewhere:  make PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version), but the project needs Python 3.11: make PYTHON=python3.11"; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)

report: $(STAMP)  ## train what is missing, run the notebooks, write report/index.html (PROFILE, NOTEBOOKS="01 10")
	$(BIN)/python -m ser_utils.report.build --profile $(PROFILE) $(if $(NOTEBOOKS),--notebooks $(NOTEBOOKS))

smoke: $(STAMP)  ## the same, tiny and on the small synthetic corpus, into report/smoke
	$(BIN)/python -m ser_utils.report.build --profile smoke --output report/smoke

test: export MPLBACKEND = Agg
test: $(STAMP)  ## the tests, a file a core at a time, with coverage
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --cov=ser_utils --cov-fail-under=90

lint: $(STAMP)  ## ruff over the code and the notebooks
	$(BIN)/ruff check .

lab: $(STAMP)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

data: $(STAMP)  ## download RAVDESS speech (208 MB), or check it when it is there
	$(BIN)/python -m ser_utils.data.ravdess download

grid: PROFILE = full
grid: $(STAMP)  ## train many full runs (MODELS, PROTOCOLS, FOLDS, BUDGET, SCHEDULER, MISSING=1: not those in results/)
	$(BIN)/python -m ser_utils.training.grid --profile $(PROFILE) \
	  $(if $(MODELS),--models $(MODELS)) $(if $(PROTOCOLS),--protocols $(PROTOCOLS)) \
	  $(if $(FOLDS),--folds $(FOLDS)) $(if $(BUDGET),--budget $(BUDGET)) \
	  $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(MISSING),--missing)

reference: PROFILE = full
reference: $(STAMP)  ## the rows to hold the networks against: most frequent class, logistic regression, SVM (2 minutes)
	$(BIN)/python -m ser_utils.evaluation.reference --profile $(PROFILE)

search: PROFILE = full
search: $(STAMP)  ## search a recipe on validation folds (MODEL, TRIALS, EPOCHS, BUDGET); goes on where it stopped
	$(BIN)/python -m ser_utils.studies.search --model $(MODEL) --profile $(PROFILE) --trials $(TRIALS) \
	  $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(BUDGET),--budget $(BUDGET))

study: $(STAMP)  ## train the variants of a study (STUDY, canonical by default), print what each change is worth
	$(BIN)/python -m ser_utils.studies.ablation $(STUDY) --profile $(PROFILE) \
	  $(if $(MODELS),--models $(MODELS)) $(if $(PROTOCOLS),--protocols $(PROTOCOLS)) \
	  $(if $(FOLDS),--folds $(FOLDS)) $(if $(BUDGET),--budget $(BUDGET))

bundle: PROFILE = full
bundle: $(STAMP)  ## what a GPU machine without recordings or network needs (MISSING=1 as for grid): dist/bundle.tar.gz
	$(BIN)/python -m ser_utils.training.bundle pack --profile $(PROFILE) $(if $(MISSING),--missing)

collect: $(STAMP)  ## check runs trained from a bundle and merge them into runs/ (ARCHIVES="OUT/runs-1of1.zip")
	@[ -n "$(ARCHIVES)" ] || { echo 'Name the archives: make collect ARCHIVES="OUT/runs-1of1.zip"'; exit 1; }
	$(BIN)/python -m ser_utils.training.bundle collect $(ARCHIVES)

validity: $(STAMP)  ## train the ladder of shortcuts of notebook 11 (PROFILE, MODELS, FOLDS); prints what each is worth
	$(BIN)/python -m ser_utils.studies.leakage --profile $(PROFILE) \
	  $(if $(MODELS),--models $(MODELS)) $(if $(FOLDS),--folds $(FOLDS))

publish: $(STAMP)  ## finished full runs to results/, figures and README redrawn from them
	$(BIN)/python -m ser_utils.report.publish

table2: $(STAMP)  ## print Table 2 from the published results
	$(BIN)/python -m ser_utils.evaluation.tables

bench: $(STAMP)  ## run the benchmarks
	@for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove report/, smoke and quick runs, caches; keeps data/ravdess, runs/*-full and runs/studies
	@for path in report $(filter-out %-full runs/studies,$(wildcard runs/*)) data/features data/synthetic* \
	    .pytest_cache .ruff_cache $(wildcard .coverage*) $$(find . -path ./.venv -prune -o \
	    \( -name __pycache__ -o -name .ipynb_checkpoints \) -print); do \
	  if [ -e "$$path" ]; then echo "removing $$path"; rm -rf "$$path"; fi; done
	@echo "kept: data/ravdess, $(or $(filter %-full,$(wildcard runs/*)),runs/*-full (none)), results/, .venv"
