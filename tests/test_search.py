"""ser_utils.studies.search: recipes out of a space, judged on validation clips, in a table that a page can read."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest

from ser_utils import config as configuration
from ser_utils.features import spectral
from ser_utils.studies import search
from ser_utils.training import fit, grid

BASE = configuration.run_configs("full", "ravdess", ["transformer"], ["random"], [0])[0]


def test_every_corner_of_the_space_is_a_recipe():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        parameters = study.ask(search.SPACE).params
        changed = search.recipe(BASE, parameters)
        assert 0 <= changed.augment.noise_probability <= 1 and isinstance(changed.augment.shift, int)
        assert (changed.learning_rate, changed.ema) == (parameters["learning_rate"], parameters["ema"])
        assert changed.options["dropout"] == parameters["dropout"] and changed.augment.time_masks == parameters["masks"]
        assert changed.augment.warp == BASE.augment.warp * parameters["variation"] and changed.hash != BASE.hash


def test_a_recipe_is_judged_by_the_last_tenth_of_its_epochs_on_validation_clips(monkeypatch):
    trained = iter([{"val_accuracy": value} for value in (*[0.9] * 18, last, last)] for last in (0.2, 0.4))
    monkeypatch.setattr(fit, "prepare", lambda *_: None)
    monkeypatch.setattr(fit, "fit", lambda *_, **__: (None, SimpleNamespace(rows=next(trained))))
    trial = optuna.create_study().ask(search.SPACE)
    assert search.objective(trial, [dataclasses.replace(BASE, epochs=20)] * 2, None) == pytest.approx(0.3)


@pytest.mark.usefixtures("quick_trainings")
def test_a_search_goes_on_where_it_stopped_and_never_predicts_test_clips(made_up, tmp_path, monkeypatch):
    plain, seen, predict = configuration.run_configs, [], fit.probabilities
    config = dataclasses.replace(BASE, features=made_up.config, corpus="synthetic", frames=40, epochs=1)
    monkeypatch.setattr(configuration, "run_configs", lambda *a: [
        dataclasses.replace(c, features=made_up.config, frames=40) for c in plain(*a)[:1]])
    monkeypatch.setattr(fit, "probabilities", lambda model, x: seen.append(x) or predict(model, x))
    spectral.write(made_up, file := tmp_path / "made_up.npz")
    monkeypatch.setattr(grid, "features_of", lambda *a: ("synthetic", file))
    monkeypatch.setattr(search, "RUNS", tmp_path)
    monkeypatch.setattr(search, "RESULTS", tmp_path / "results")
    for trials in (1, 2, 2):
        assert search.main(["--profile", "full", "--model", "alexnet", "--epochs", "1", "--trials", str(trials)]) == 0
        table = pd.read_csv(tmp_path / "search" / "synthetic-alexnet-full-1" / "trials.csv")
        assert table.columns.tolist()[:3] == ["number", "state", "value"] and set(search.SPACE) <= set(table)
        assert len(table) == trials and (table.value > 0).all() and set(table.state) == {"complete"}
    data = fit.prepare(config, spectral.read(file))
    assert len(seen) == 2 and not (tmp_path / "results").exists()  # made-up speech stays out of them
    for x in seen:
        np.testing.assert_array_equal(x, data.logmel[data.rows["val"]])
