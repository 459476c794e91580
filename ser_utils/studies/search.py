"""The search for a recipe: Optuna over the settings of training, judged on validation clips alone."""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ser_utils import config as configuration
from ser_utils.features import spectral
from ser_utils.paths import RESULTS, RUNS
from ser_utils.training import fit, grid, runs

SPACE = {
    "learning_rate": FloatDistribution(3e-4, 3e-3, log=True), "weight_decay": FloatDistribution(1e-2, 3.0, log=True),
    "batch_size": CategoricalDistribution((16, 32, 64)), "label_smoothing": FloatDistribution(0.0, 0.2, step=0.05),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1), "ema": CategoricalDistribution((0.0, 0.99, 0.998)),
    "variation": FloatDistribution(0.0, 1.5, step=0.25),  # factor on how far a clip is varied
    "masks": IntDistribution(0, 2)}                       # SpecAugment's stripes, in frequency and in time
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def recipe(config: configuration.RunConfig, parameters: dict) -> configuration.RunConfig:
    """A run's configuration with the parameters of a trial (names as in ``SPACE``) in place of its own."""
    usual, factor, masks = config.augment, parameters["variation"], parameters["masks"]
    augment = dataclasses.replace(usual, frequency_masks=masks, time_masks=masks, shift=round(usual.shift * factor),
        noise_probability=min(usual.noise_probability * factor, 1.0),
        **{name: getattr(usual, name) * factor for name in ("stretch", "warp", "gain_db", "tilt_db")})
    return dataclasses.replace(config, augment=augment, options=config.options | {"dropout": parameters["dropout"]},
                               **{name: value for name, value in parameters.items() if name in vars(config)})


def objective(trial: optuna.Trial, configs: list[configuration.RunConfig], store: spectral.FeatureStore) -> float:
    """Train each configuration with a trial's parameters: their mean accuracy on validation clips, 0-1.

    That of the last tenth of the epochs: the best of a hundred would reward noise. Raises TrialPruned if it lags.
    """
    scores = []
    for number, config in enumerate(recipe(config, trial.params) for config in configs):
        def on_epoch(row, before=number * config.epochs):
            trial.report(row["val_accuracy"], before + int(row["epoch"]))
            if trial.should_prune():
                raise optuna.TrialPruned

        with tempfile.TemporaryDirectory() as directory:
            _, checkpoint = fit.fit(config, fit.prepare(config, store), Path(directory), on_epoch=on_epoch)
        scores.append(pd.DataFrame(checkpoint.rows).val_accuracy.tail(max(config.epochs // 10, 1)).mean())
    return sum(scores) / len(scores)


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.studies.search``: go on with the search for a network's recipe, then write its trials."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.search", description=main.__doc__)
    parser.add_argument("--model", default="transformer", choices=configuration.MODEL_NAMES)
    parser.add_argument("--profile", default="full", choices=list(configuration.PROFILES))
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: the profile's)")
    parser.add_argument("--trials", type=int, default=40, help="stop after so many trials in all")
    parser.add_argument("--budget", type=float, default=float("inf"), help="begin no trial after so many seconds")
    options = parser.parse_args(arguments)
    corpus, features = grid.features_of(options.profile)
    configs = [dataclasses.replace(c, epochs=options.epochs or c.epochs, patience=10**6) for c in
               configuration.run_configs(options.profile, corpus, [options.model], ["random", "actors"], [0])]
    name = "" if corpus == "ravdess" else f"{corpus}-"
    folder = RUNS / "search" / f"{name}{options.model}-{options.profile}-{configs[0].epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / "trials.log"))), study_name=folder.name,
        direction="maximize", load_if_exists=True, pruner=optuna.pruners.MedianPruner(n_warmup_steps=15))
    store, began = spectral.read(features), time.monotonic()
    while len(study.get_trials(states=ENDED)) < options.trials and time.monotonic() - began < options.budget:
        trial = study.ask(SPACE)
        try:
            study.tell(trial, objective(trial, configs, store))
        except (optuna.TrialPruned, FloatingPointError):
            study.tell(trial, state=TrialState.PRUNED)
    trials = study.trials_dataframe(attrs=("number", "state", "value", "params")).dropna(subset=["value"])
    trials = trials.assign(state=trials.state.str.lower()).rename(columns=lambda name: name.removeprefix("params_"))
    path = RESULTS / "search" / f"{folder.name}.csv" if corpus == "ravdess" else folder / "trials.csv"
    runs.write_csv(trials, path)
    print(f"{len(trials)} trials: {path}")


if __name__ == "__main__":
    sys.exit(main())
