# `make` lists the targets. Settings can be given on the command line: make report PROFILE=full

# The first that runs: pyenv and its like put names on the path that don't.
PYTHON    ?= $(or $(firstword $(shell for name in python3.11 python3.12 python3.13; do \
  $$name -c "" 2>/dev/null && command -v $$name; done; true)),python3)
PROFILE   ?= quick
NOTEBOOKS ?=
FORCE     ?=
MODELS    ?=
PROTOCOLS ?=
FOLDS     ?=
SEEDS     ?=
JOBS      ?=
BUDGET    ?=
FEATURES  ?=
SCHEDULER ?=
MISSING   ?=
LEARNS    ?=
TEACHERS  ?=
STUDY     ?= recipe
MODEL     ?= transformer
TRIALS    ?= 40
EPOCHS    ?=
RUNS      ?=
PORT      ?=

export TF_CPP_MIN_LOG_LEVEL  ?= 2
export TF_ENABLE_ONEDNN_OPTS ?= 1

BIN   := .venv/bin
STAMP := .venv/.requirements-installed
DEMO  := .venv/.demo-installed
# What narrows down a list of runs, as options of the commands.
WHICH  = $(if $(MODELS),--models $(MODELS)) $(if $(PROTOCOLS),--protocols $(PROTOCOLS)) \
  $(if $(FOLDS),--folds $(FOLDS)) $(if $(JOBS),--jobs $(JOBS))

.DEFAULT_GOAL := help
.PHONY: help venv report notebooks smoke test lint lab demo data grid reference search study validity robustness publish table2 aligned fusion bench ship verify clean

help:  ## list the targets
	@echo "make TARGET [SETTING=value ...]"
	@sed -n 's/^\([a-z0-9]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 13
	@echo "PROFILE is smoke, quick (default) or full; make grid also knows robust, for recordings from outside the studio."

venv: $(STAMP)  ## create .venv and install requirements.txt

$(STAMP): requirements.txt
	@command -v "$(PYTHON)" >/dev/null && \
	  "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "The project needs Python 3.11, 3.12 or 3.13; none was found."; \
	  echo "  Debian, Ubuntu:  apt-get install python3.11 python3.11-venv   (or 3.12, 3.13)"; \
	  echo "  macOS:           brew install python@3.11"; \
	  echo "  anywhere:        uv python install 3.11"; \
	  echo "Or name one that is elsewhere:  make PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@[ "$$(uname -sm)" != "Darwin x86_64" ] || { \
	  echo "TensorFlow has no packages for Macs with an Intel processor: use Linux or a Mac with Apple silicon."; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -c 'import librosa, numpy; librosa.feature.melspectrogram(y=numpy.zeros(9999))'  # compiles, once
	@touch $(STAMP)

report: $(STAMP)  ## train what is missing, run the notebooks, write report/index.html (PROFILE, NOTEBOOKS="01 10")
	$(BIN)/python -m ser_utils.report.build --profile $(PROFILE) $(if $(NOTEBOOKS),--notebooks $(NOTEBOOKS))

notebooks: $(STAMP)  ## run changed notebooks on RAVDESS and keep their outputs in notebooks/ (NOTEBOOKS, FORCE=1)
	$(BIN)/python -m ser_utils.report.build --keep $(if $(NOTEBOOKS),--notebooks $(NOTEBOOKS)) $(if $(FORCE),--force)

smoke: $(STAMP)  ## the report, tiny and on the small synthetic corpus, into report/smoke
	$(BIN)/python -m ser_utils.report.build --profile smoke --output report/smoke

test: export MPLBACKEND = Agg
test: $(STAMP)  ## the tests, a file a core at a time; .coverage.txt says which lines they reach
	$(BIN)/python -m slipcover --source ser_utils --json --out .coverage.json -m pytest \
	  --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	@$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --skip-covered --fail-under 90 \
	  >.coverage.txt || { cat .coverage.txt; echo "The tests cover less than 90 % of the lines."; exit 1; }

lint: $(STAMP)  ## ruff over code and notebooks, and the import rule
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

lab: $(STAMP)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

$(DEMO): requirements-demo.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-demo.txt
	@touch $(DEMO)

demo: MODEL =
demo: $(DEMO)  ## a page in your browser: record or drop a file, see what a network hears and where it looks (MODEL, PORT)
	@$(BIN)/python -m ser_utils.cli demo $(if $(MODEL),--model $(MODEL)) $(if $(PORT),--port $(PORT))

data: $(STAMP)  ## download RAVDESS speech (208 MB), or check it when it is there
	$(BIN)/python -m ser_utils.data.ravdess download

grid: PROFILE = full
grid: $(STAMP)  ## train many runs (MODELS PROTOCOLS FOLDS SEEDS JOBS BUDGET FEATURES SCHEDULER; MISSING=1: unpublished ones)
	$(BIN)/python -m ser_utils.training.grid --profile $(PROFILE) $(WHICH) $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(BUDGET),--budget $(BUDGET)) $(if $(FEATURES),--features "$(FEATURES)") \
	  $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(MISSING),--missing) $(if $(LEARNS),--learns $(LEARNS)) \
	  $(if $(TEACHERS),--teachers $(TEACHERS))

reference: PROFILE = full
reference: $(STAMP)  ## the rows to hold the networks against: most frequent class, logistic regression, SVM (2 minutes)
	$(BIN)/python -m ser_utils.evaluation.reference --profile $(PROFILE)

search: PROFILE = full
search: $(STAMP)  ## search a recipe on validation folds (MODEL, TRIALS, EPOCHS, BUDGET); goes on where it stopped
	$(BIN)/python -m ser_utils.studies.search --model $(MODEL) --profile $(PROFILE) --trials $(TRIALS) \
	  $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(BUDGET),--budget $(BUDGET))

study: $(STAMP)  ## train the variants of a study (STUDY=recipe or clips), print what each change is worth
	$(BIN)/python -m ser_utils.studies.ablation $(STUDY) $(WHICH) $(if $(BUDGET),--budget $(BUDGET))

validity: $(STAMP)  ## train the ladder of shortcuts of notebook 11 (PROFILE, MODELS, FOLDS); prints what each is worth
	$(BIN)/python -m ser_utils.studies.leakage --profile $(PROFILE) \
	  $(if $(MODELS),--models $(MODELS)) $(if $(FOLDS),--folds $(FOLDS)) $(if $(JOBS),--jobs $(JOBS))

robustness: $(STAMP)  ## test clips of fold 0 degraded, judged by networks trained by make grid (RUNS=folder) for notebook 12
	$(BIN)/python -m ser_utils.studies.robustness $(if $(RUNS),--runs "$(RUNS)")

publish: $(STAMP)  ## finished full runs to results/, its tables and the figures made anew
	$(BIN)/python -m ser_utils.report.publish

table2: $(STAMP)  ## print Table 2 from the published results
	$(BIN)/python -m ser_utils.evaluation.tables

aligned: $(STAMP)  ## fit the aligned view, judge enrolled voices by it and by the networks in runs/ (an hour and a half)
	$(BIN)/python -m ser_utils.studies.aligned

fusion: $(STAMP)  ## fit and publish voice and face on unseen actors (RAVDESS_FACES or data/ravdess_faces/)
	$(BIN)/python -m ser_utils.fusion

bench: $(STAMP)  ## run the benchmarks; two of them need weights (make ship)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-export.txt
	@code=0; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python $$script || code=1; done; exit $$code

ship: $(STAMP)  ## weights of fold 0 of actors into ser_utils/weights/, from runs here that are published (not committed)
	$(BIN)/python -m ser_utils.shipped fold0

verify: $(STAMP)  ## hold weights made by make ship against the published predictions, from audio (RAVDESS, 2 minutes)
	$(BIN)/python -m ser_utils.shipped verify

clean:  ## remove report/, smoke and quick runs, caches; keeps data/ravdess and all other runs
	@for path in report runs/*-smoke runs/*-quick runs/live data/features data/cache data/synthetic* \
	    .pytest_cache .ruff_cache .coverage*; do \
	  if [ -e "$$path" ]; then echo "removing $$path"; rm -rf "$$path"; fi; done
	@find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -print -exec rm -rf {} +
	@echo "kept: data/ravdess, $(or $(filter-out %-smoke %-quick runs/live,$(wildcard runs/*)),runs/ (none)), results/, .venv"
