import dataclasses

import numpy as np
import optuna
import pandas as pd
import pytest
from tiny import tiny_network

from ser_utils import config as configuration
from ser_utils.studies import search
from ser_utils.training import fit, frontend, grid

BASE = configuration.run_configs("full", "ravdess", ["transformer"], ["random"], [0])[0]


class Checkpoint:
    def __init__(self, rows):
        self.rows = rows


def pretend(accuracy):
    """A stand-in for training whose accuracy depends on the recipe, 10 epochs long."""
    def fit(config, data, directory, on_epoch):
        rows = []
        for epoch in range(1, 11):
            rows.append({"epoch": epoch, "val_accuracy": accuracy(config) * epoch / 10})
            on_epoch(rows[-1])
        return None, Checkpoint(rows)
    return fit


@pytest.fixture(scope="module")
def searched(tmp_path_factory, made_up):
    """A study of a pretended network that wants a learning rate of 1e-3 and does not care for the rest."""
    folder = tmp_path_factory.mktemp("search")
    configs = [dataclasses.replace(config, features=made_up.config, corpus="synthetic", epochs=10) for config in
               configuration.run_configs("full", "ravdess", ["transformer"], ["random", "actors"], [0])]
    create = optuna.create_study
    with pytest.MonkeyPatch.context() as patch:  # in memory, not on a disk
        patch.setattr(optuna, "create_study", lambda storage, **options: create(**options))
        study = search.open_study("pretended", folder / "search.sqlite3", seed=1)
    train = pretend(lambda config: 0.9 - abs(np.log10(config.learning_rate / 1e-3)))
    study.optimize(lambda trial: search.objective(trial, configs, made_up, folder, train), n_trials=25)
    return study


def test_parameters_replace_those_of_the_recipe():
    parameters = {"learning_rate": 2e-3, "weight_decay": 0.1, "batch_size": 16, "label_smoothing": 0.05, "ema": 0.99,
                  "dropout": 0.3, "variation": 0.5, "masks": 0}
    changed = search.recipe(BASE, parameters)
    assert (changed.learning_rate, changed.batch_size, changed.ema) == (2e-3, 16, 0.99)
    assert changed.options["dropout"] == 0.3
    assert changed.augment.warp == BASE.augment.warp / 2 and changed.augment.time_masks == 0
    assert changed.hash != BASE.hash
    assert search.recipe(BASE, {}) == BASE
    assert set(parameters) == set(search.SPACE)


def test_every_corner_of_the_space_is_a_recipe_and_the_score_is_that_of_the_last_epochs_not_of_the_luckiest():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        config = search.recipe(BASE, search.suggest(study.ask()))
        assert 0 <= config.augment.noise_probability <= 1 and isinstance(config.augment.shift, int)
    rows = [{"val_accuracy": 0.99}] + [{"val_accuracy": 0.5}] * 17 + [{"val_accuracy": 0.6}, {"val_accuracy": 0.7}]
    assert search.score(rows) == pytest.approx(0.65)


def test_a_search_finds_a_good_recipe_and_ends_the_others_early(searched):
    trials = search.table(searched)
    assert len(trials) == 25 and (trials.state == "pruned").any()
    best = trials.loc[trials.value.idxmax()]
    assert best.value > 0.8 and 5e-4 < best.learning_rate < 2e-3
    assert best.value == pytest.approx((best.val_random_fold0 + best.val_actors_fold0) / 2, abs=1e-4)


def test_importances_name_what_matters(searched):
    with pytest.raises(ValueError, match="too few"):
        search.importances(search.table(searched).head(1))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")
    study.optimize(lambda trial: -abs(np.log10(search.suggest(trial)["learning_rate"] / 3e-4)), n_trials=40)
    shares = search.importances(search.table(study))
    assert shares.index[0] == "learning_rate" and shares.iloc[0] > 0.8
    assert set(shares.index) == set(search.SPACE) and shares.sum() == pytest.approx(1)


def test_a_search_never_predicts_test_clips(made_up, tmp_path, monkeypatch):
    """Whatever the objective hands to the training may be scrambled where it belongs to test clips."""
    config = dataclasses.replace(BASE, features=made_up.config, corpus="synthetic", profile="smoke", frames=40,
                                 epochs=2, augment=None)
    monkeypatch.setattr(frontend, "assemble", tiny_network)
    seen = []
    original = fit.probabilities
    monkeypatch.setattr(fit, "probabilities", lambda model, x: seen.append(x) or original(model, x))
    study = optuna.create_study(direction="maximize")
    study.optimize(lambda trial: search.objective(trial, [config], made_up, tmp_path), n_trials=1)
    data = fit.prepare(config, made_up)
    assert study.best_trial.value > 0 and len(seen) == 2
    for x in seen:
        np.testing.assert_array_equal(x, data.logmel[data.rows["val"]])


def test_the_table_tells_as_much_as_the_study(searched, tmp_path):
    search.table(searched).to_csv(tmp_path / "trials.csv", index=False)
    pd.testing.assert_series_equal(search.importances(pd.read_csv(tmp_path / "trials.csv")),
                                   search.importances(search.table(searched)))


def test_command_line(made_up_store, made_up, tmp_path, monkeypatch, capsys):
    """Real trials; a search goes on where it stopped."""
    plain = configuration.run_configs
    monkeypatch.setattr(configuration, "run_configs", lambda *a: [
        dataclasses.replace(c, features=made_up.config, frames=40) for c in plain(*a)])
    monkeypatch.setattr(frontend, "assemble", tiny_network)
    monkeypatch.setattr(grid, "features_of", lambda *a: ("synthetic", made_up_store))
    words = ["--profile", "smoke", "--model", "alexnet", "--protocols", "random", "--epochs", "1",
             "--store", str(tmp_path / "s.sqlite3"), "--results", str(tmp_path), "--trials"]
    for trials in (1, 2, 2):
        assert search.main([*words, str(trials)]) == 0
        lines = (tmp_path / "alexnet-smoke-1-random0.csv").read_text().splitlines()
        assert len(lines) == 1 + trials and lines[0].startswith("number,state,value,epochs,seconds,learning_rate")
    monkeypatch.setattr(grid, "features_of", lambda *a: ("synthetic", tmp_path / "gone.npz"))
    assert search.main([*words, "3"]) == 1 and "gone.npz" in capsys.readouterr().err
