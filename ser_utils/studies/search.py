"""The search for a recipe: Optuna over the settings of training, judged on validation clips alone.

A study's trials lie in an SQLite file that several processes can share: a search goes on where it stopped, a killed
trial is tried again. Test clips are never predicted here. The table of trials is exported to
``results/search/<study>.csv``; figures and tables of the search are drawn from it.
"""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.features import spectral
from ser_utils.features.spectral import FeatureStore
from ser_utils.paths import RESULTS, RUNS
from ser_utils.training import fit, grid, runs

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = {
    "learning_rate": FloatDistribution(3e-4, 3e-3, log=True),
    "weight_decay": FloatDistribution(1e-2, 3.0, log=True),
    "batch_size": CategoricalDistribution((16, 32, 64)),
    "label_smoothing": FloatDistribution(0.0, 0.2, step=0.05),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "ema": CategoricalDistribution((0.0, 0.99, 0.998)),
    "variation": FloatDistribution(0.0, 1.5, step=0.25),  # factor on how far a clip is varied
    "masks": IntDistribution(0, 2),                       # SpecAugment's stripes, in frequency and in time
}
VARIED = ("stretch", "shift", "warp", "gain_db", "tilt_db", "noise_probability")
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
HEARTBEAT = 60  # seconds between signs of life of a trial; one silent for twice as long is tried again


def recipe(config: RunConfig, parameters: dict) -> RunConfig:
    """A run's configuration with the parameters of a trial (names as in ``SPACE``) in place of its own."""
    changes = {key: parameters[key] for key in ("learning_rate", "weight_decay", "batch_size", "label_smoothing", "ema")
               if key in parameters}
    if "dropout" in parameters:
        changes["options"] = config.options | {"dropout": parameters["dropout"]}
    augment = config.augment
    if augment and "variation" in parameters:
        factor = parameters["variation"]
        varied = {name: getattr(augment, name) * factor for name in VARIED}
        varied |= {"shift": round(varied["shift"]), "noise_probability": min(varied["noise_probability"], 1.0)}
        augment = dataclasses.replace(augment, **varied)
    if augment and "masks" in parameters:
        augment = dataclasses.replace(augment, frequency_masks=parameters["masks"], time_masks=parameters["masks"])
    return dataclasses.replace(config, augment=augment, **changes)


def open_study(name: str, store: Path, seed: int | None = None) -> optuna.Study:
    """The study of this name, made if there is none; its trials lie in the SQLite file ``store``.

    ``seed`` makes the proposals of a single process repeatable.
    """
    store.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # signs of life are "experimental"
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{store}", engine_kwargs={"connect_args": {"timeout": 60}}, heartbeat_interval=HEARTBEAT,
            grace_period=2 * HEARTBEAT,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback())
    return optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True, n_startup_trials=10, seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=15, interval_steps=5))


def suggest(trial: optuna.Trial) -> dict:
    """The parameters Optuna proposes for a trial, by name."""
    kinds = {CategoricalDistribution: lambda name, known: trial.suggest_categorical(name, known.choices),
             IntDistribution: lambda name, known: trial.suggest_int(name, known.low, known.high),
             FloatDistribution: lambda name, known: trial.suggest_float(name, known.low, known.high, step=known.step,
                                                                       log=known.log)}
    return {name: kinds[type(known)](name, known) for name, known in SPACE.items()}


def score(rows: list[dict]) -> float:
    """Mean validation accuracy of the last tenth of the epochs, where the learning rate is all but zero.

    The best epoch's accuracy would reward noise: with 240 clips it is a maximum over a hundred draws.
    """
    last = rows[-max(len(rows) // 10, 1):]
    return float(np.mean([row["val_accuracy"] for row in last]))


def objective(trial: optuna.Trial, configs: Sequence[RunConfig], store: FeatureStore, folder: Path,
              train=fit.fit) -> float:
    """Train each configuration with the trial's parameters; the mean :func:`score`. Unpromising trials end early."""
    parameters = suggest(trial)
    scores = []
    for number, config in enumerate(configs):
        config = recipe(config, parameters)

        def on_epoch(row, number=number, epochs=config.epochs):
            trial.report(row["val_accuracy"], number * epochs + int(row["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

        directory = config.run_directory(folder / config.hash)
        directory.mkdir(parents=True, exist_ok=True)
        _, checkpoint = train(config, fit.prepare(config, store), directory, on_epoch=on_epoch)
        scores.append(score(checkpoint.rows))
        trial.set_user_attr(f"val_{config.protocol}_fold{config.fold}", round(scores[-1], 5))
        (directory / "state.npz").unlink(missing_ok=True)
    return float(np.mean(scores))


def table(study: optuna.Study) -> pd.DataFrame:
    """One row a finished or pruned trial: number, state, value, seconds, epochs, parameters, scores by fold."""
    rows = []
    for trial in study.get_trials(states=ENDED):
        seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
        rows.append({"number": trial.number, "state": trial.state.name.lower(),
                     "value": trial.value if trial.state == TrialState.COMPLETE else np.nan,
                     "epochs": len(trial.intermediate_values), "seconds": round(seconds, 1)}
                    | trial.params | trial.user_attrs)
    return pd.DataFrame(rows)


def importances(trials: pd.DataFrame) -> pd.Series:
    """How much of the variance of the value each parameter explains (fANOVA, Hutter et al. 2014), largest first.

    ``trials`` is what :func:`table` returns or ``results/search/<study>.csv`` holds. A ValueError if fewer than four
    trials are finished, or all have one value.
    """
    finished = trials[trials.state == "complete"]
    if len(finished) < 4 or finished.value.nunique() < 2:
        raise ValueError(f"{len(finished)} finished trials are too few to say which parameter matters.")
    study = optuna.create_study(direction="maximize")
    known = {name: distribution for name, distribution in SPACE.items() if name in finished}
    for row in finished.to_dict("records"):
        study.add_trial(optuna.create_trial(params={name: row[name] for name in known}, distributions=known,
                                            value=row["value"]))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return pd.Series(optuna.importance.get_param_importances(study, evaluator=evaluator)).sort_values(ascending=False)


@grid.command
def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.studies.search``: search a network's recipe on validation folds, then export the trials."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.search", description=main.__doc__)
    parser.add_argument("--model", default="transformer", choices=configuration.MODEL_NAMES)
    parser.add_argument("--profile", default="full", choices=list(configuration.PROFILES))
    parser.add_argument("--protocols", nargs="*", default=["random", "actors"])
    parser.add_argument("--folds", nargs="*", type=int, default=[0])
    parser.add_argument("--features", type=Path, help="train from this file of features")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: the profile's)")
    parser.add_argument("--trials", type=int, default=40, help="stop after so many trials in all")
    parser.add_argument("--budget", type=float, help="begin no trial after so many seconds")
    parser.add_argument("--store", type=Path, default=RUNS / "search.sqlite3")
    parser.add_argument("--results", type=Path, default=RESULTS / "search", help="where the table of trials goes")
    options = parser.parse_args(arguments)
    corpus, features = grid.features_of(options.profile, options.features)
    configs = [dataclasses.replace(config, epochs=options.epochs or config.epochs, patience=10**6)
               for config in configuration.run_configs(options.profile, corpus, [options.model], options.protocols,
                                                       options.folds)]
    judges = "-".join(f"{config.protocol}{config.fold}" for config in configs)  # other folds, other values
    study = open_study(f"{options.model}-{options.profile}-{configs[0].epochs}-{judges}", options.store)
    if not study.trials:
        study.enqueue_trial({"learning_rate": configs[0].learning_rate, "weight_decay": configs[0].weight_decay,
                             "variation": 1.0})
    print(f"{study.study_name}: trials 1 to {options.trials}; to look on: optuna-dashboard sqlite:///{options.store}")
    store, folder = spectral.read(features), options.store.parent / "search"
    study.optimize(lambda trial: objective(trial, configs, store, folder), timeout=options.budget,
                   n_trials=max(options.trials - len(study.get_trials(states=ENDED)), 0), catch=(FloatingPointError,))
    path, trials = options.results / f"{study.study_name}.csv", table(study)
    runs.write_csv(trials, path)
    print(f"{len(trials)} trials; table in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
