"""ser_utils.studies.ablation: changes against a baseline, their runs apart from the main results, validation only."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from fakes import edit, fake_finished

from ser_utils.evaluation import metrics, statistics
from ser_utils.studies import ablation, search
from ser_utils.training import grid, runs

PLACE = "random/alexnet/fold0"
VARIANTS = ("baseline", "mels", "batch")


def alexnet(variants=None, study="recipe", folds=(0,)):
    return ablation.run_configs(study, ["alexnet"], variants, ["random"], folds)


def put(configs, root, accuracies):
    """Finished made-up runs of some variants of a study, trained in ``root``; the root."""
    for number, (variant, accuracy) in enumerate(accuracies.items()):
        for c in configs[variant]:
            fake_finished(root, c, accuracy, number, config=dataclasses.asdict(c) | {"keep": "best"})
    return root


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def trained(tmp_path):
    """Made-up runs of AlexNet: the baseline and two variants of the study ``recipe``."""
    return put(alexnet(), tmp_path / "runs", dict(zip(VARIANTS, (0.6, 0.3, 0.65), strict=True)))


@pytest.mark.parametrize("model", ["lstm", "resnet", "transformer"])
def test_the_recipe_is_varied_one_setting_at_a_time(model):
    found = ablation.run_configs("recipe", [model])
    hashes = {variant: configs[0].hash for variant, configs in found.items()}
    assert len(found) == 1 + len(ablation.STUDIES["recipe"][model]) and hashes.pop("again") == hashes["baseline"]
    assert len(set(hashes.values())) == len(hashes)
    base = found.pop("baseline")[0]
    for variant, (config,) in found.items():
        differing = {name for name, value in vars(config).items() if value != getattr(base, name)} - {"variant"}
        assert differing == set(ablation.STUDIES["recipe"][model][variant].settings), variant
    if model == "lstm":  # other keys are kept
        assert found["front"][0].options == base.options | {"front_2d": 0} != base.options


def test_the_searched_recipe_is_one_of_the_search():
    (base,), (config,) = ablation.run_configs("recipe", ["resnet"], ["searched"], ["random"]).values()
    trials = pd.read_csv(ablation.RESULTS / "search" / "resnet-full-60.csv")
    best = search.recipe(base, trials.loc[trials.value.idxmax()].to_dict())
    for name in ("learning_rate", "weight_decay", "batch_size", "label_smoothing", "ema"):
        assert getattr(config, name) == pytest.approx(getattr(best, name), rel=0.01), name
    assert (config.augment, config.options) == (best.augment, best.options) != (base.augment, base.options)


def test_a_study_is_narrowed_down_and_a_variant_lies_apart():
    found = ablation.run_configs("recipe", ["lstm", "resnet"], ["batch", "wide"], ["random"], (0, 3))
    both = [("lstm", 0), ("lstm", 3), ("resnet", 0), ("resnet", 3)]
    assert {variant: [(c.model, c.fold) for c in configs] for variant, configs in found.items()} == {
        "baseline": both, "batch": both, "wide": both[2:]}
    config = found["batch"][0]
    assert dataclasses.replace(config, variant="").hash == config.hash
    assert config.name == ablation.place("recipe", config) == "studies/recipe/batch/random/lstm/fold0"


def validation(folder):
    table = pd.read_csv(folder / "predictions.csv").query("subset == 'val'").set_index("clip")
    return table[metrics.PROBABILITIES].to_numpy().argmax(axis=1) == table.label


def test_the_table_compares_validation_clips_and_reads_no_test_clip(results, trained):
    assert ablation.publish("recipe", alexnet(), trained) and not runs.find(results)  # apart from the main results
    configs = alexnet(folds=[1])["baseline"]  # a fold of the baseline alone is left out
    runs.copy(fake_finished(trained, configs[0]), results / ablation.place("recipe", configs[0]))
    found = ablation.table("recipe").set_index("variant")
    assert found.index.tolist() == list(VARIANTS) and (found.folds == 1).all() and (found.clips == 240).all()
    places = ablation.published("recipe")
    base, mels = (validation(places[variant][PLACE]) for variant in VARIANTS[:2])
    row = found.loc["mels"]
    assert row.accuracy == pytest.approx(100 * mels.mean())
    assert row.difference == pytest.approx(100 * (mels.mean() - base.mean()))
    assert row.low < row.difference < row.high < 0 and row.p < 0.01
    assert row.p == statistics.mcnemar(mels, base[mels.index])["p"] and np.isnan(found.p["baseline"])
    for path in results.rglob("predictions.csv"):
        table = pd.read_csv(path)
        table.loc[table.subset == "test", metrics.PROBABILITIES] = 0.125
        table.to_csv(path, index=False)
    pd.testing.assert_frame_equal(ablation.table("recipe").set_index("variant"), found)


def test_a_variant_is_compared_with_the_recipe_as_trained_on_its_own_kind_of_processor(results, trained):
    ablation.publish("recipe", alexnet(), put(alexnet(["again"]), trained, {"again": 0.8}))
    before = ablation.table("recipe").set_index("variant").difference
    for variant in ("again", "mels"):
        edit(results / "studies/recipe" / variant / PLACE / "run.json", device="another")
    after = ablation.table("recipe").set_index("variant").difference
    assert after["mels"] == pytest.approx(before["mels"] - before["again"]) and before["again"] != 0
    assert after[["again", "batch"]].tolist() == before[["again", "batch"]].tolist()


def test_a_published_run_of_the_profile_serves_as_baseline(results, tmp_path):
    (base,) = alexnet()["baseline"]
    runs.copy(fake_finished(tmp_path, base), results / base.place)
    ablation.publish("recipe", alexnet(), tmp_path / "nowhere")
    assert runs.holds(results / "studies/recipe/baseline" / PLACE, base)


@pytest.mark.parametrize("name", ablation.STUDIES)
def test_published_studies_are_whole(name):
    """Their runs are readable, differ from their baselines in nothing but the change, and are not trained again."""
    configs = ablation.run_configs(name, protocols=["random", "actors"], folds=range(6))
    known = {ablation.place(name, c): c for own in configs.values() for c in own}
    for variant, places in ablation.published(name).items():
        for place, path in places.items():
            assert runs.holds(path, known[f"studies/{name}/{variant}/{place}"])
            runs.check(path)


def test_the_command_trains_what_is_not_published_and_says_what_is_wrong(trained, results, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(grid, "features_of", lambda *a: ("ravdess", None))
    monkeypatch.setattr(grid, "train", lambda configs, *a, **k: asked.extend(c.name for c in configs))
    words = ["recipe", "--models", "alexnet", "--protocols", "random", "--runs", str(trained), "--variants"]
    assert ablation.main([*words, "batch", "mixup"]) == 0 and asked == [f"studies/recipe/mixup/{PLACE}"]
    out = capsys.readouterr().out
    assert "baseline" in out and "batch" in out and "mels" not in out
    assert ablation.main([*words, "bigger"]) == 1 and "no variant 'bigger'" in capsys.readouterr().err
