"""ser_utils.studies.ablation: changes against a baseline, their runs apart from the main results, validation only."""

import dataclasses
import os
import shutil
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from fakes import edit, fake_finished, fake_results

from ser_utils import models
from ser_utils.config import AugmentConfig, RunConfig
from ser_utils.evaluation import metrics, statistics, tables
from ser_utils.paper import MODEL_NAMES
from ser_utils.studies import ablation, search
from ser_utils.training import grid, runs

BASE = RunConfig("quick", "ravdess", "actors", "lstm", 0, options={"width": 0.5, "stack": 4})
PLACE = "actors/alexnet/fold0"


def quick(chosen=("alexnet",), **narrowed):
    return ablation.run_configs("canonical", list(chosen), **narrowed)


def put(configs, root, accuracies):
    """Finished made-up runs of some variants of a study, trained in ``root``; the root."""
    for number, (variant, accuracy) in enumerate(accuracies.items()):
        for c in configs.get(variant, ()):
            fake_finished(root, c, accuracy, number, config=dataclasses.asdict(c))
    return root


@pytest.fixture
def trained(tmp_path):
    """Made-up quick runs of AlexNet: the baseline and two variants of the study ``canonical``."""
    return put(quick(), tmp_path / "runs", {"baseline": 0.6, "stem": 0.3, "norm": 0.65})


@pytest.fixture
def results(trained, tmp_path):
    """The same, published."""
    ablation.publish("canonical", quick(), trained, tmp_path / "results")
    return tmp_path / "results"


# Changes

def test_a_change_keeps_the_other_settings():
    new = ablation.changed(BASE, {"epochs": 7, "options": {"stack": 1}, "augment": {"shift": 0}})
    assert new.options == {"width": 0.5, "stack": 1} and BASE.options["stack"] == 4
    assert new.augment == dataclasses.replace(AugmentConfig(), shift=0)
    assert dataclasses.replace(new, epochs=BASE.epochs, options=BASE.options, augment=BASE.augment) == BASE
    assert ablation.changed(BASE, {"augment": None}).augment is None
    finer = ablation.changed(BASE, {"features": {"n_mels": 128}})
    assert finer.features == dataclasses.replace(BASE.features, n_mels=128) and finer.hash != BASE.hash
    with pytest.raises(TypeError, match="'epoch'"):
        ablation.changed(BASE, {"epoch": 7})


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_variant_is_another_network(model, blank_weights):
    """But for the seed: other layers, shapes or weights than the tailored network has."""
    assert list(ablation.study("canonical")) == list(MODEL_NAMES)
    changes = ablation.study("canonical")[model]
    assert "seed" in changes and len({change.what for change in changes.values()}) == len(changes) >= 3
    networks = {}
    for variant, (config,) in quick([model]).items():
        network = models.build(model, (80, 40, 1), **config.options | {"width": 0.125})
        networks[variant] = [
            (layer.name, type(layer), layer.count_params(), keras.tree.flatten(layer.output)[0].shape)
            for layer in network.layers]
    assert set(networks) == {"baseline", *changes}
    base = networks["baseline"]
    assert all(networks[variant] != base for variant in changes if variant != "seed")


@pytest.mark.parametrize("model, named", [  # the settings that the study's texts name
    ("lstm", {"epochs": 240, "learning_rate": 0.001, "ema": 0.0}),
    ("resnet", {"epochs": 240, "learning_rate": 0.001, "ema": 0.0}),
    ("transformer", {"epochs": 240, "learning_rate": 0.002, "ema": 0.995})])
def test_the_recipe_is_varied_one_setting_at_a_time(model, named):
    found = ablation.run_configs("recipe", [model])
    hashes = {variant: configs[0].hash for variant, configs in found.items()}
    assert len(found) == 1 + len(ablation.study("recipe")[model]) and hashes.pop("again") == hashes["baseline"]
    assert len(set(hashes.values())) == len(hashes)
    base = found.pop("baseline")[0]
    named |= {"batch_size": 32, "weight_decay": 0.02, "label_smoothing": 0.1, "mixup": 0.0, "versions": 3}
    assert {name: getattr(base, name) for name in named} == named and base.augment.noise_probability == 0.25
    for variant, (config,) in found.items():
        differing = {name for name, value in vars(config).items() if value != getattr(base, name)} - {"variant"}
        assert differing == set(ablation.study("recipe")[model][variant].settings), variant


def test_where_the_profile_moved_on_a_study_keeps_its_start_and_a_baseline_of_its_own():
    found = ablation.run_configs("recipe", ["lstm"], ["level"], ["random", "actors"])
    random, actors = found["baseline"]
    assert random.variant == "" and actors.variant == "studies/recipe/baseline"
    assert random.augment == actors.augment == AugmentConfig(gain_db=0.0, tilt_db=0.0)


def test_the_searched_recipe_is_one_of_the_search():
    found = ablation.run_configs("recipe", ["resnet"], ["searched"], ["random"])
    (base,), (config,) = found.values()
    trials = pd.read_csv(ablation.RESULTS / "search" / "resnet-full-60.csv")
    best = search.recipe(base, trials.loc[trials.value.idxmax()].to_dict())
    for name in ("learning_rate", "weight_decay", "batch_size", "label_smoothing", "ema"):
        assert getattr(config, name) == pytest.approx(getattr(best, name), rel=0.01), name
    assert (config.augment, config.options) == (best.augment, best.options) != (base.augment, base.options)


def test_studies_are_narrowed_down():
    found = quick(["lstm", "resnet"], variants=["average", "skip"], folds=(0, 3))
    both = [("lstm", 0), ("lstm", 3), ("resnet", 0), ("resnet", 3)]
    assert {variant: [(c.model, c.fold) for c in configs] for variant, configs in found.items()} == {
        "baseline": both, "average": both, "skip": both[2:]}
    assert found["average"][0].options == found["baseline"][0].options | {"pooling": "average"}


@pytest.mark.parametrize(("name", "narrowed", "message"), [
    ("canon", {}, "Unknown study 'canon'; choose from canonical, recipe, clips"),
    ("canonical", {"models": ["gru"]}, "Unknown model 'gru'; choose from alexnet"),
    ("canonical", {"variants": ["bigger"]}, "no variant 'bigger'; it has stem"),
])
def test_unknown_names_are_listed(name, narrowed, message):
    with pytest.raises(ValueError, match=message):
        ablation.run_configs(name, **narrowed)


def test_a_variant_lies_apart_and_is_hashed_by_its_settings_alone():
    base, variant = (found[0] for found in quick(variants=["stem"]).values())
    assert (base.name, variant.name) == (PLACE, f"studies/canonical/stem/{PLACE}")
    assert base.place == variant.place and base.hash != variant.hash
    assert dataclasses.replace(variant, variant="").hash == variant.hash
    assert variant.run_directory("runs") == Path(f"runs/studies/canonical/stem/ravdess-quick/{PLACE}")


# The table

def validation(folder):
    table = pd.read_csv(folder / "predictions.csv").query("subset == 'val'").set_index("clip")
    return table[metrics.PROBABILITIES].to_numpy().argmax(axis=1) == table.label, table


def test_the_table_compares_validation_clips_and_reads_no_test_clip(results):
    found = ablation.table("canonical", results).set_index("variant")
    assert found.index.tolist() == ["baseline", "stem", "norm"]
    places = ablation.published("canonical", results)
    base, _ = validation(places["baseline"][PLACE])
    stem, table = validation(places["stem"][PLACE])
    assert found.accuracy["stem"] == pytest.approx(100 * stem.mean())
    predicted = table[metrics.PROBABILITIES].to_numpy().argmax(axis=1)
    assert found.uar["stem"] == pytest.approx(100 * metrics.metrics(table.label, predicted)["recall"])
    assert found.difference["stem"] == pytest.approx(100 * (stem.mean() - base.mean()))
    assert found.low["stem"] < found.difference["stem"] < found.high["stem"] < 0 and found.p["stem"] < 0.01
    assert found.p["stem"] == statistics.mcnemar(stem, base[stem.index])["p"]
    assert (found.clips == 240).all() and (found.profile == "quick").all() and np.isnan(found.p["baseline"])
    for path in results.rglob("predictions.csv"):
        table = pd.read_csv(path)
        table.loc[table.subset == "test", metrics.PROBABILITIES] = 0.125
        table.to_csv(path, index=False)
    pd.testing.assert_frame_equal(ablation.table("canonical", results).set_index("variant"), found)


def test_folds_of_one_alone_are_left_out_and_a_variant_with_other_settings_than_its_baseline_is_refused(results):
    (other,) = quick(folds=[1])["baseline"]
    shutil.copytree(results / ablation.place("canonical", quick()["baseline"][0]),
                    results / ablation.place("canonical", other))
    edit(results / ablation.place("canonical", other) / "run.json", fold=1)
    found = ablation.table("canonical", results).set_index("variant")
    assert found.folds.to_dict() == {"baseline": 1, "stem": 1, "norm": 1} and found.clips["baseline"] == 240
    (stem,) = quick()["stem"]
    edit(results / ablation.place("canonical", stem) / "run.json",
         config=dataclasses.asdict(dataclasses.replace(stem, epochs=31)))
    with pytest.raises(metrics.ResultsError, match="stem.*more than its change.*stem_stride"):
        ablation.table("canonical", results)


def test_another_seed_is_compared_with_the_first_and_without_runs_the_table_is_empty(tmp_path):
    empty = ablation.table("canonical", tmp_path / "results")
    assert empty.empty and "difference" in empty and ablation.growth(tmp_path / "results").empty
    configs = quick(variants=["seed"])
    put(configs, tmp_path / "runs", {"baseline": 0.8, "seed": 0.7})
    assert configs["seed"][0].run_directory(tmp_path / "runs").name == "fold0-seed1"
    ablation.publish("canonical", configs, tmp_path / "runs", tmp_path / "results")
    assert ablation.table("canonical", tmp_path / "results").variant.tolist() == ["baseline", "seed"]


# What more recordings bring

def growing(accuracies, folds, tmp_path):
    """Published made-up runs of AlexNet; ``folds`` are those of each variant."""
    for number, (variant, accuracy) in enumerate(accuracies.items()):
        for c in ablation.run_configs("clips", ["alexnet"], folds=folds[variant])[variant]:
            made = fake_finished(tmp_path / "runs", c, accuracy, number, config=dataclasses.asdict(c))
            runs.copy(made, tmp_path / "results" / ablation.place("clips", c))
    return tmp_path / "results"


def test_growth_puts_the_numbers_of_clips_in_order(tmp_path):
    variants = ["baseline", "half", "quarter"]
    accuracies = dict(zip(variants, (0.8, 0.6, 0.3), strict=True))
    found = growing(accuracies, dict.fromkeys(variants, (0, 1)), tmp_path / "all")
    grown, accuracy = ablation.growth(found), ablation.table("clips", found).set_index("variant").accuracy
    assert grown.clips.tolist() == [240, 480, 960] and (grown.folds == 2).all()
    assert grown.accuracy.tolist() == [accuracy.quarter, accuracy.half, accuracy.baseline]
    assert np.isnan(grown.gain[0]) and grown.gain[1:].tolist() == pytest.approx(
        [accuracy.half - accuracy.quarter, accuracy.baseline - accuracy.half])
    assert (grown.low < grown.accuracy)[:2].all() and (grown.accuracy < grown.high)[:2].all()
    assert np.isnan(grown.low[2])
    fewer = growing(accuracies, {"baseline": (0, 1), "half": (0, 1), "quarter": (0,)}, tmp_path / "fewer")
    assert len(ablation.table("clips", fewer)) == 3 and ablation.growth(fewer).clips.tolist() == [480, 960]


def test_fewer_clips_are_trained_for_as_many_steps():
    found = ablation.run_configs("clips", ["lstm"], ["half", "quarter"])
    (base,) = found.pop("baseline")
    for (c,) in found.values():
        assert (c.share * c.epochs, c.share * c.warmup_epochs) == (base.epochs, base.warmup_epochs)
        assert c.patience == c.epochs and c.keep == "last"
    assert [c.share for (c,) in found.values()] == [0.5, 0.25]


# The paired interval

def test_paired_interval_of_a_difference_where_pairs_of_one_voice_go_together():
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.7
    b = np.where(rng.random(1000) < 0.8, a, rng.random(1000) < 0.5)
    low, high = statistics.bootstrap_difference(a, b)
    pairs = a.astype(float) - b
    assert low < pairs.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * pairs.std() / np.sqrt(1000), rel=0.08)
    assert statistics.bootstrap_difference(a, a) == (0, 0)
    assert statistics.bootstrap_difference(b, a) == pytest.approx((-high, -low), abs=0.01)
    voices = np.repeat(np.arange(20), 50)
    better = np.repeat(np.arange(20) % 2 == 0, 50)
    by_clip = statistics.bootstrap_difference(better, ~better)
    by_voice = statistics.bootstrap_difference(better, ~better, voices)
    assert by_voice[1] - by_voice[0] > 5 * (by_clip[1] - by_clip[0])
    with pytest.raises(ValueError, match="same clips"):
        statistics.bootstrap_difference(better, better[:5])


# Publishing

def test_published_studies_stay_apart_from_the_main_results(trained, tmp_path):
    results = fake_results(tmp_path / "results", ("actors",), ("alexnet", "lstm"), (0,))
    before, main = runs.find(results), tables.table2(results)
    new = ablation.publish("canonical", quick(), trained, results)
    assert new == [f"studies/canonical/{variant}/{PLACE}" for variant in ("baseline", "stem", "norm")]
    assert {path.name for path in (results / "studies/canonical/stem" / PLACE).iterdir()} == set(runs.FILES)
    assert runs.find(results) == before
    pd.testing.assert_frame_equal(tables.table2(results), main)
    assert ablation.publish("canonical", quick(), trained, results) == []


def test_a_published_run_of_the_profile_serves_as_baseline(tmp_path):
    configs, results = ablation.run_configs("recipe", ["alexnet"], protocols=["random"]), tmp_path / "results"
    (base,) = configs["baseline"]
    runs.copy(fake_finished(tmp_path, base), results / base.place)
    ablation.publish("recipe", configs, tmp_path / "nowhere", results)
    assert runs.holds(results / "studies/recipe/baseline/random/alexnet/fold0", base)


@pytest.mark.parametrize("name", ablation.STUDIES)
def test_published_studies_are_whole(name):
    """Their runs are readable, differ from their baselines in nothing but the change, and are not trained again."""
    found = ablation.table(name)
    assert (found.corpus == "ravdess").all() and set(found.profile) == {ablation.PROFILES[name]}
    configs = ablation.run_configs(name, protocols=["random", "actors"], folds=range(6))
    known = {ablation.place(name, c): c for own in configs.values() for c in own}
    for variant, places in ablation.published(name).items():
        for place, path in places.items():
            assert runs.holds(path, known[f"studies/{name}/{variant}/{place}"])
            runs.check(path)


# The command line

@pytest.fixture
def command(trained, tmp_path, monkeypatch):
    """The command on made-up runs of AlexNet; nothing is trained."""
    monkeypatch.setattr(grid, "features_of", lambda *a: ("ravdess", tmp_path / "none.npz"))
    monkeypatch.setattr(grid, "train", lambda *a, **k: None)
    monkeypatch.setattr(ablation, "RESULTS", tmp_path / "results")
    for function in (ablation.published, ablation.table):
        monkeypatch.setattr(function, "__defaults__", (tmp_path / "results",))
    monkeypatch.setattr(ablation.publish, "__defaults__", (trained, tmp_path / "results"))
    return lambda *words: ablation.main(["canonical", "--models", "alexnet", *words, "--runs", str(trained)])


def test_command_trains_what_is_not_published_publishes_and_prints_the_table(command, trained, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(grid, "train", lambda configs, *a, **k: asked.extend(c.name for c in configs))
    assert command("--variants", "stem", "head") == 0 and asked == [f"studies/canonical/head/{PLACE}"]
    out = capsys.readouterr().out
    assert "baseline" in out and "stem" in out and "quick" in out and "norm" not in out
    assert (ablation.RESULTS / "studies/canonical/stem" / PLACE).exists()


def test_command_says_what_is_wrong_and_stops_when_told_so(command, capsys, monkeypatch):
    assert command("--variants", "bigger") == 1 and "no variant 'bigger'" in capsys.readouterr().err
    monkeypatch.setattr(grid, "train", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(9))
    with pytest.raises(SystemExit, match="130"):  # a polite kill stops the trainings as Ctrl-C does
        command()
    assert "Stopped." in capsys.readouterr().out
    monkeypatch.setattr(grid, "features_of", lambda *a: ("synthetic", None))
    assert command() == 1 and "make data" in capsys.readouterr().err
