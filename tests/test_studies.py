"""ser_utils.studies.ablation: changes against a baseline, their runs apart from the main results, validation only."""

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import fake_results, fake_run

from ser_utils import models
from ser_utils.config import AugmentConfig, RunConfig
from ser_utils.data.corpus import Corpus
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import statistics, tables
from ser_utils.models import pretrained
from ser_utils.paper import MODEL_NAMES
from ser_utils.report import publish
from ser_utils.studies import ablation as studies
from ser_utils.studies import search
from ser_utils.training import grid, runs

BASE = RunConfig("quick", "ravdess", "actors", "lstm", 0, options={"width": 0.5, "stack": 4})


def quick(models=("alexnet",), **narrowed):
    return studies.run_configs("canonical", "quick", "ravdess", list(models), **narrowed)


def put(config, root, accuracy=0.5, seed=0):
    """A finished made-up run of a configuration; its folder."""
    base = config.run_directory(root).parents[2]
    folder = fake_run(base, config.protocol, config.model, config.fold, accuracy, seed, config.profile, config.corpus)
    path = folder / "run.json"
    told = json.loads(path.read_text()) | {"config": dataclasses.asdict(config), "config_hash": config.hash}
    path.write_text(json.dumps(told))
    (folder / "model.keras").write_bytes(b"weights")
    return folder


def finished(runs, configs=None):
    """The finished runs of the study ``canonical`` in a folder."""
    return studies.finished("canonical", configs or quick(), runs, runs / "nowhere")


def put_study(configs, runs, accuracies):
    """Runs of some variants of a study, trained in ``runs``."""
    for number, (variant, accuracy) in enumerate(accuracies.items()):
        for c in configs[variant]:
            put(c, runs, accuracy, seed=number)


@pytest.fixture
def trained(tmp_path):
    """Made-up quick runs of AlexNet: the baseline and two variants of the study ``canonical``."""
    put_study(quick(), tmp_path / "runs", {"baseline": 0.6, "stem": 0.3, "norm": 0.65})
    return tmp_path / "runs"


# Changes

def test_a_change_keeps_the_other_settings():
    new = studies.changed(BASE, {"epochs": 7, "options": {"stack": 1}, "augment": {"shift": 0}})
    assert new.options == {"width": 0.5, "stack": 1} and BASE.options["stack"] == 4
    assert new.augment == dataclasses.replace(AugmentConfig(), shift=0)
    assert dataclasses.replace(new, epochs=BASE.epochs, options=BASE.options, augment=BASE.augment) == BASE
    assert studies.changed(BASE, {"augment": None}).augment is None
    finer = studies.changed(BASE, {"features": {"n_mels": 128}})
    assert finer.features == dataclasses.replace(BASE.features, n_mels=128) and finer.hash != BASE.hash
    with pytest.raises(ValueError, match="no setting 'epoch'; it has .*epochs"):
        studies.changed(BASE, {"epoch": 7})


def test_the_canonical_study_covers_every_network():
    assert list(studies.study("canonical")) == list(MODEL_NAMES)
    for changes in studies.study("canonical").values():
        assert "seed" in changes and len(changes) >= 3
        assert len({change.what for change in changes.values()}) == len(changes)


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_variant_is_another_network(model):
    """But for the seed: other layers, shapes or weights than the tailored network has."""
    found = studies.run_configs("canonical", "smoke", "synthetic", [model])
    networks = {}
    for variant, (config,) in found.items():
        network = models.build(model, (40, 20, 1), **config.options)
        networks[variant] = [(layer.name, type(layer), layer.count_params(), str(layer.output)) for layer in
                             network.layers]
    assert set(networks) == {"baseline", *studies.study("canonical")[model]} - (
        {"modules"} if model == "inceptionnet" else set())
    base = [(*layer[:3],) for layer in networks.pop("baseline")]
    networks.pop("seed")
    assert all([(*layer[:3],) for layer in layers] != base for layers in networks.values())


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_the_imagenet_study_fits_the_published_weights(profile):
    found = studies.run_configs("imagenet", profile, "ravdess")
    assert list(found) == ["baseline", "random", "imagenet"]
    assert [c.model for c in found["imagenet"]] == list(pretrained.PUBLISHED)
    for c in found["imagenet"]:
        shape = (c.frames // c.pool, c.features.n_mels // c.pool, 1)
        pretrained.check(c.model, shape, c.options, models.options(c.model))
        assert c.options["weights"] == "imagenet" and shape == ({"quick": 160, "full": 128}[profile], 80, 1)


@pytest.mark.parametrize("model, named", [  # the settings that the study's texts name
    ("lstm", {"epochs": 240, "learning_rate": 0.001, "ema": 0.0}),
    ("alexnet", {"epochs": 240, "learning_rate": 0.001, "ema": 0.0}),
    ("resnet", {"epochs": 240, "learning_rate": 0.001, "ema": 0.0}),
    ("transformer", {"epochs": 240, "learning_rate": 0.002, "ema": 0.995})])
def test_the_recipe_is_varied_in_the_full_profile_alone(model, named):
    found = studies.run_configs("recipe", "full", "ravdess", [model])
    hashes = {variant: configs[0].hash for variant, configs in found.items()}
    assert len(found) == 1 + len(studies.study("recipe")[model]) and hashes.pop("again") == hashes["baseline"]
    assert len(set(hashes.values())) == len(hashes)
    base = found.pop("baseline")[0]
    named |= {"batch_size": 32, "weight_decay": 0.02, "label_smoothing": 0.1, "mixup": 0.0, "versions": 3}
    assert {name: getattr(base, name) for name in named} == named and base.augment.noise_probability == 0.25
    for variant, (config,) in found.items():
        differing = {name for name, value in vars(config).items() if value != getattr(base, name)} - {"variant"}
        assert differing == set(studies.study("recipe")[model][variant].settings), variant
    assert list(studies.run_configs("recipe", "quick", "ravdess", [model])) == ["baseline"]


def test_the_searched_recipe_is_one_of_the_search():
    found = studies.run_configs("recipe", "full", "ravdess", variants=["searched"])
    (base,) = [config for config in found["baseline"] if config.model == "resnet"]
    (config,) = found["searched"]
    trials = pd.read_csv(studies.RESULTS / "search" / "resnet-full-60.csv")
    best = search.recipe(base, trials.loc[trials.value.idxmax()].to_dict())
    for name in ("learning_rate", "weight_decay", "batch_size", "label_smoothing", "ema"):
        assert getattr(config, name) == pytest.approx(getattr(best, name), rel=0.01), name
    assert (config.augment, config.options) == (best.augment, best.options) != (base.augment, base.options)


def test_the_encoders_size_is_the_one_the_study_names():
    base = studies.run_configs("recipe", "full", "ravdess", ["transformer"], ["large"])["baseline"][0]
    assert (base.options["depth"], base.options["dim"], base.options["dropout"]) == (2, 96, 0.1)


def test_studies_are_narrowed_down():
    found = quick(["lstm", "resnet"], variants=["average", "skip"], folds=(0, 3))
    assert {variant: [(c.model, c.fold) for c in configs] for variant, configs in found.items()} == {
        "baseline": [("lstm", 0), ("lstm", 3), ("resnet", 0), ("resnet", 3)],
        "average": [("lstm", 0), ("lstm", 3), ("resnet", 0), ("resnet", 3)],
        "skip": [("resnet", 0), ("resnet", 3)]}
    assert found["average"][0].options == found["baseline"][0].options | {"pooling": "average"}


def test_a_variant_that_changes_nothing_is_left_out():
    assert "modules" in quick(["inceptionnet"])
    assert "stem" in quick(["alexnet", "resnet", "inceptionnet"])
    full = studies.run_configs("canonical", "full", "ravdess", ["alexnet", "resnet", "inceptionnet"])
    assert not {"modules", "stem"} & set(full) and "bands" in full


@pytest.mark.parametrize(("name", "narrowed", "message"), [
    ("canon", {}, "Unknown study 'canon'; choose from canonical, recipe, clips, imagenet"),
    ("canonical", {"models": ["gru"]}, "no network 'gru'; it has alexnet"),
    ("imagenet", {"models": ["lstm"]}, "no network 'lstm'; it has resnet"),
    ("canonical", {"variants": ["bigger"]}, "no variant 'bigger'; it has stem"),
    ("canonical", {"protocols": ["none"]}, "Unknown protocol 'none'"),
    ("canonical", {"folds": [6]}, "Unknown fold 6"),
])
def test_unknown_names_are_listed(name, narrowed, message):
    with pytest.raises(ValueError, match=message):
        studies.run_configs(name, "quick", "ravdess", **narrowed)


# Training

def test_a_study_is_trained_once(tiny_corpus, tmp_path, monkeypatch):
    """Real runs, in processes; the baseline's are the profile's own, each variant has a folder of its own."""
    found = studies.run_configs("canonical", "smoke", "synthetic", ["alexnet"], ["stem"])
    configs = [c for wanted in found.values() for c in wanted]
    grid.train(configs, tiny_corpus, tmp_path, progress=False)
    place = "synthetic-smoke/actors/alexnet/fold0/run.json"
    assert (tmp_path / place).exists() and (tmp_path / "studies/canonical/stem" / place).exists()
    found = studies.table("canonical", studies.finished("canonical", found, tmp_path))
    assert found.variant.tolist() == ["baseline", "stem"] and found.difference.notna().tolist() == [False, True]
    assert "Validation clips" in studies.text(found) and "smoke" in studies.text(found)
    monkeypatch.setattr(grid, "Process", lambda *a: pytest.fail("trains again"))
    grid.train(configs, tiny_corpus, tmp_path, progress=False)


def test_a_variant_lies_apart_and_is_hashed_by_its_settings_alone():
    base, variant = (found[0] for found in quick(variants=["stem"]).values())
    assert (base.name, variant.name) == ("actors/alexnet/fold0", "studies/canonical/stem/actors/alexnet/fold0")
    assert base.place == variant.place and base.hash != variant.hash
    assert dataclasses.replace(variant, variant="").hash == variant.hash
    assert variant.run_directory("runs") == Path("runs/studies/canonical/stem/ravdess-quick/actors/alexnet/fold0")


# The table

def validation(folder):
    table = pd.read_csv(folder / "predictions.csv").query("subset == 'val'").set_index("clip")
    return table[evaluation.PROBABILITIES].to_numpy().argmax(axis=1) == table.label, table


def test_the_table_compares_validation_clips(trained):
    places = finished(trained)
    found = studies.table("canonical", places).set_index("variant")
    assert found.index.tolist() == ["baseline", "stem", "norm"]
    base, _ = validation(places["baseline"]["actors/alexnet/fold0"])
    stem, table = validation(places["stem"]["actors/alexnet/fold0"])
    assert found.accuracy["stem"] == pytest.approx(100 * stem.mean())
    predicted = table[evaluation.PROBABILITIES].to_numpy().argmax(axis=1)
    assert found.uar["stem"] == pytest.approx(100 * evaluation.metrics(table.label, predicted)["recall"])
    assert found.difference["stem"] == pytest.approx(100 * (stem.mean() - base.mean()))
    assert found.low["stem"] < found.difference["stem"] < found.high["stem"] < 0 and found.p["stem"] < 0.01
    assert found.p["stem"] == statistics.mcnemar(stem, base[stem.index])["p"]
    assert (found.clips == 240).all() and (found.profile == "quick").all() and np.isnan(found.p["baseline"])


def test_no_test_clip_is_read_by_the_table(trained):
    places = finished(trained)
    before = studies.table("canonical", places)
    for path in trained.rglob("predictions.csv"):
        table = pd.read_csv(path)
        test = table.subset == "test"
        table.loc[test, evaluation.PROBABILITIES] = 0.125
        table.to_csv(path, index=False)
    pd.testing.assert_frame_equal(studies.table("canonical", places), before)


def test_only_folds_that_both_have_are_compared(trained):
    configs = quick(folds=(0, 1))
    put(configs["baseline"][1], trained, 0.6)
    found = studies.table("canonical", finished(trained, configs)).set_index("variant")
    assert found.folds.to_dict() == {"baseline": 1, "stem": 1, "norm": 1} and found.clips["baseline"] == 240


def test_a_variant_with_other_settings_than_its_baseline_is_refused(trained):
    config = dataclasses.replace(quick()["stem"][0], epochs=31)
    shutil.rmtree(config.run_directory(trained))
    put(config, trained)
    assert list(studies.table("canonical", finished(trained)).variant) == ["baseline", "norm"]
    places = finished(trained) | {"stem": {config.place: config.run_directory(trained)}}
    with pytest.raises(evaluation.ResultsError, match="stem.*more than its change.*stem_stride"):
        studies.table("canonical", places)


def test_a_study_without_runs_is_an_empty_table(tmp_path):
    found = studies.table("canonical", tmp_path)
    assert found.empty and "difference" in found and "No run" in studies.text(found)


def test_differences_say_what_was_measured_and_what_not(trained, tmp_path):
    studies.publish("canonical", quick(), trained, tmp_path / "results")
    shown, source = studies.differences("alexnet", tmp_path / "results")
    found = studies.table("canonical", tmp_path / "results").set_index("variant")
    worth = dict(zip(studies.study("canonical")["alexnet"], shown["worth (points)"], strict=True))
    assert worth["stem"] == f"+{-found.difference['stem']:.1f}" and worth["norm"].startswith("−")
    assert worth["head"] == worth["seed"] == "not measured"
    low, high = shown["95 % interval"][0].split(" to ")
    assert float(low) == round(-found.high["stem"], 1) and float(high) == round(-found.low["stem"], 1)
    assert "240 validation clips" in source and "quick" in source
    shown, source = studies.differences("lstm", tmp_path / "results")
    assert set(shown["worth (points)"]) == {"not measured"} and source == "no run is published"


# What more recordings bring

def growing(accuracies, folds, tmp_path):
    """Made-up runs of AlexNet, as ``studies.finished`` finds them; ``folds`` are those of each variant."""
    for number, (variant, accuracy) in enumerate(accuracies.items()):
        for c in studies.run_configs("clips", "full", "ravdess", ["alexnet"], folds=folds[variant]).get(variant, ()):
            put(c, tmp_path, accuracy, seed=number)
    configs = studies.run_configs("clips", "full", "ravdess", ["alexnet"], folds=(0, 1))
    return studies.finished("clips", configs, tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_fewer_clips_are_trained_for_as_many_steps(model):
    found = studies.run_configs("clips", "full", "ravdess", [model], ["half", "quarter"])
    (base,) = found.pop("baseline")
    for (c,) in found.values():
        assert (c.share * c.epochs, c.share * c.warmup_epochs) == (base.epochs, base.warmup_epochs)
        assert c.patience == c.epochs and c.keep == "last"
    assert [c.share for (c,) in found.values()] == [0.5, 0.25]


def test_growth_puts_the_numbers_of_clips_in_order(tmp_path):
    whole = (0, 1)
    found = growing({"baseline": 0.8, "half": 0.6, "quarter": 0.3}, dict.fromkeys(["baseline", "half", "quarter"],
                                                                                  whole), tmp_path)
    grown, accuracy = studies.growth(found), studies.table("clips", found).set_index("variant").accuracy
    assert grown.clips.tolist() == [240, 480, 960] and (grown.folds == 2).all()
    assert grown.accuracy.tolist() == [accuracy.quarter, accuracy.half, accuracy.baseline]
    assert np.isnan(grown.gain[0]) and grown.gain[1:].tolist() == pytest.approx(
        [accuracy.half - accuracy.quarter, accuracy.baseline - accuracy.half])
    assert (grown.low < grown.accuracy)[:2].all() and (grown.accuracy < grown.high)[:2].all()
    assert np.isnan(grown.low[2])
    (said,) = studies.describe_growth(grown)
    assert "AlexNet**, 2 of 6 folds: from 240 to 480 clips +" in said and said.endswith("with 1,920.")
    assert f"it would be {2 * accuracy.baseline - accuracy.half:.1f} %" in said
    (said,) = studies.describe_growth(grown.assign(protocol="random"))
    ten = accuracy.baseline + (accuracy.baseline - accuracy.half) * np.log2(1.35)
    assert f"with 1,920 and {ten:.1f} % with 1,296, as many as ten folds train on;" in said
    (said,) = studies.describe_growth(grown.assign(accuracy=[40, 60, 75], gain=[np.nan, 20, 15]))
    assert said.endswith("90.0 % with 1,920; if it fell short of the last as that did of the one before, 86.2 % with "
                         "1,920.")


def test_growth_leaves_out_what_was_measured_on_fewer_folds(tmp_path):
    found = growing({"baseline": 0.8, "half": 0.6, "quarter": 0.3},
                    {"baseline": (0, 1), "half": (0, 1), "quarter": (0,)}, tmp_path)
    assert len(studies.table("clips", found)) == 3 and studies.growth(found).clips.tolist() == [480, 960]
    assert studies.growth({"baseline": found["baseline"]}).empty
    assert studies.growth(tmp_path / "nowhere").empty


# What the recipe's choices are worth

def test_what_choices_are_worth_is_said_with_the_sign_turned_and_chance_apart():
    rows = [("alexnet", "baseline", np.nan, np.nan, np.nan, np.nan), ("alexnet", "mixup", -6.0, -9.0, -3.0, 0.001),
            ("alexnet", "speed", -4.0, -8.0, -0.5, 0.06), ("alexnet", "decay", 2.0, -1.0, 5.0, 0.3),
            ("alexnet", "seed", 3.0, 1.0, 5.0, 0.01), ("transformer", "warp", 4.0, 1.0, 7.0, 0.02),
            ("alexnet", "again", -9.0, -10.0, -8.0, 0.01)]
    found = pd.DataFrame(rows, columns=["model", "variant", "difference", "low", "high", "p"]).assign(
        protocol="random", folds=2, same_device=[np.nan, 2, 1, 0, 2, 2, 0])
    worth, harm, perhaps, seed, again, processors = studies.describe_worth(found)
    assert "1 of 4 choices" in worth and worth.endswith(
        ": each clip alone, not mixed with another (AlexNet, *random*) +6.0 (+3.0 to +9.0).")
    assert harm.endswith("chance**: a warped frequency axis (Transformer, *random*) −4.0 (−7.0 to −1.0).")
    assert ", 1, " in perhaps and "not 1 (AlexNet, *random*) −2.0 (−5.0 to +1.0)" in perhaps
    assert "seed" not in worth + harm + perhaps and "again" not in worth + harm + perhaps
    assert "another seed: (AlexNet, *random*) −3.0 (−5.0 to −1.0). A choice" in seed
    assert "another processor: (AlexNet, *random*) +9.0 (+8.0 to +10.0). A choice" in again
    assert "2 of the 4 comparisons" in processors
    wider = pd.DataFrame([("resnet", "wide", -0.4, -4.6, 3.3, 1.0), ("vgg16", "wide", 3.0, 1.0, 5.0, 0.01)],
                         columns=found.columns[:6]).assign(protocol="random", folds=1, same_device=1)
    wide = studies.describe_worth(pd.concat([found, wider]))[3]
    assert wide.endswith(": (ResNet, *random*) +0.4 (−3.3 to +4.6); (VGG16, *random*) −3.0 (−5.0 to −1.0).")
    worth, harm, perhaps, processors = studies.describe_worth(found[found.variant.isin(["baseline", "speed"])])
    assert worth.endswith(" none.") and harm.endswith(" none.") and perhaps.endswith(" none.")
    assert studies.describe_worth(found[:1]) == []


# What another training of the same recipe changes

@pytest.mark.parametrize("variant, words", studies.CHANCE.items())
def test_another_training_is_compared_on_test_clips_of_the_folds_that_have_both(tmp_path, variant, words):
    configs = studies.run_configs("recipe", "full", "ravdess", ["alexnet"], [variant, "speed"], ["random"], (0, 1, 2))
    configs[variant].pop()
    put_study(configs, tmp_path, {"baseline": 0.8, variant: 0.7, "speed": 0.2})
    places = studies.finished("recipe", configs, tmp_path, tmp_path / "nowhere")
    found = studies.retrained(places)
    assert found[["protocol", "model", "variant", "folds"]].values.tolist() == [["random", "alexnet", variant, 2]]

    def right(name):
        read = [runs.read_predictions(places[name][f"random/alexnet/fold{k}"]) for k in (0, 1)]
        test = pd.concat(part[part.subset == "test"] for part in read)
        return 100 * (test.prediction == test.label).mean()

    (row,) = found.itertuples()
    assert (row.published, row.other) == pytest.approx((right("baseline"), right(variant)))
    assert row.difference == pytest.approx(row.other - row.published) and row.low < row.difference < row.high < 0
    (said,) = studies.describe_retrained(found)
    assert words in said
    assert f"AlexNet, *random*, 2 of 6 folds: {row.other:.1f} % in place of {row.published:.1f} (−" in said


def test_another_seed_with_other_settings_is_refused(tmp_path):
    configs = studies.run_configs("recipe", "full", "ravdess", ["alexnet"], ["seed"], ["random"], (0,))
    put_study(configs, tmp_path, {"baseline": 0.8})
    other = put(dataclasses.replace(configs["seed"][0], epochs=7), tmp_path)
    places = studies.finished("recipe", configs, tmp_path, tmp_path / "nowhere")
    with pytest.raises(evaluation.ResultsError, match="more than its change"):
        studies.retrained(places | {"seed": {"random/alexnet/fold0": other}})
    with pytest.raises(evaluation.ResultsError, match="more than its change"):
        studies.averaged(places | {"seed": {"random/alexnet/fold0": other}})


def test_no_other_training_is_no_sentence(tmp_path):
    assert studies.describe_retrained(studies.retrained(tmp_path)) == []
    assert studies.describe_averaged(studies.averaged(tmp_path)) == []


def test_all_trainings_of_a_recipe_are_averaged_on_the_folds_that_all_have(tmp_path):
    configs = studies.run_configs("recipe", "full", "ravdess", ["alexnet", "lstm"], ["seed", "again", "speed"],
                                  ["random"], (0, 1, 2))
    configs["seed"] = configs["seed"][:2] + configs["seed"][3:4]  # AlexNet on two folds, the LSTM on one
    configs["again"] = configs["again"][:2]
    put_study(configs, tmp_path, {"baseline": 0.8, "seed": 0.7, "again": 0.6, "speed": 0.2})
    places = studies.finished("recipe", configs, tmp_path, tmp_path / "nowhere")
    found = studies.averaged(places)
    assert found[["model", "trainings", "folds"]].values.tolist() == [["alexnet", 3, 2], ["lstm", 2, 1]]
    alone, together = [], []
    for k in (0, 1):
        own = [runs.read_predictions(places[variant][f"random/alexnet/fold{k}"]).query("subset == 'test'")
               .set_index("clip") for variant in ("baseline", "seed", "again")]
        alone += [(one.prediction == one.label).mean() for one in own]
        mean = sum(one[evaluation.PROBABILITIES] for one in own).to_numpy().argmax(axis=1)
        together.append((mean == own[0].label).mean())
    assert found.alone[0] == pytest.approx(100 * np.mean(alone))
    assert found.accuracy[0] == pytest.approx(100 * np.mean(together)) and found.accuracy[0] != found.alone[0]
    assert studies.averaged(places, "val").accuracy[0] != found.accuracy[0]
    (said,) = studies.describe_averaged(found)
    assert f"AlexNet, *random*, 3 trainings, 2 of 6 folds: {found.accuracy[0]:.1f} % in place of" in said
    assert studies.averaged({"baseline": places["baseline"], "speed": places["speed"]}).empty


# Processors

def test_a_variant_is_compared_with_the_recipe_on_its_own_processor(tmp_path):
    configs = studies.run_configs("recipe", "full", "ravdess", ["alexnet"], ["speed", "seed", "warp", "again"],
                                  ["random"], (0, 1))
    configs["again"].pop()  # on fold 0 alone
    put_study(configs, tmp_path, {"baseline": 0.8, "again": 0.5, "speed": 0.6, "seed": 0.6, "warp": 0.7})
    for variant, device in (("baseline", "one"), ("again", "other"), ("speed", "other"), ("seed", "third"),
                            ("warp", "one")):
        for c in configs[variant]:
            path = c.run_directory(tmp_path) / "run.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"device": device}))
    found = studies.table("recipe", studies.finished("recipe", configs, tmp_path, tmp_path / "nowhere"))
    found = found.set_index("variant")
    right = {variant: [(part.prediction == part.label).mean() for part in (
        studies._predictions(c.run_directory(tmp_path), "val") for c in own)] for variant, own in configs.items()}

    def less(variant, *beside):
        return 100 * np.mean(np.subtract(right[variant], beside))

    first, second = right["baseline"]
    assert found.difference["speed"] == pytest.approx(less("speed", right["again"][0], second))
    assert found.difference["seed"] == pytest.approx(less("seed", first, second))
    assert found.difference["warp"] == pytest.approx(less("warp", first, second))
    assert found.difference["again"] == pytest.approx(100 * (right["again"][0] - first))
    assert found.same_device.drop("baseline").to_dict() == {"speed": 1, "seed": 0, "warp": 2, "again": 0}


# The paired interval

def test_paired_interval_of_a_difference():
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.7
    b = np.where(rng.random(1000) < 0.8, a, rng.random(1000) < 0.5)
    low, high = statistics.bootstrap_difference(a, b)
    pairs = a.astype(float) - b
    assert low < pairs.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * pairs.std() / np.sqrt(1000), rel=0.08)
    assert statistics.bootstrap_difference(a, a) == (0, 0)
    backwards = statistics.bootstrap_difference(b, a)
    assert backwards == pytest.approx((-high, -low), abs=0.01)


def test_pairs_of_one_voice_go_together():
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
    new = studies.publish("canonical", quick(), trained, results)
    assert new == [f"{variant}/actors/alexnet/fold0" for variant in ("baseline", "stem", "norm")]
    folder = results / "studies/canonical/stem/actors/alexnet/fold0"
    assert {path.name for path in folder.iterdir()} == set(runs.FILES)
    assert runs.find(results) == before
    pd.testing.assert_frame_equal(tables.table2(results), main)
    assert studies.publish("canonical", quick(), trained, results) == []
    pd.testing.assert_frame_equal(studies.table("canonical", results), studies.table("canonical", finished(trained)))


def test_nothing_is_published_without_its_baseline(trained, tmp_path):
    shutil.rmtree(trained / "ravdess-quick")
    assert studies.publish("canonical", quick(), trained, tmp_path / "results") == []


def test_a_published_baseline_serves_where_none_is_trained(trained, tmp_path):
    results = tmp_path / "results"
    studies.publish("canonical", {"baseline": quick()["baseline"]}, trained, results)
    shutil.rmtree(trained / "ravdess-quick")
    new = studies.publish("canonical", quick(), trained, results)
    assert new == ["stem/actors/alexnet/fold0", "norm/actors/alexnet/fold0"]
    other = {variant: [dataclasses.replace(c, epochs=31) for c in found] for variant, found in quick().items()}
    assert studies.finished("canonical", other, trained, results) == {}


def test_a_published_variant_of_an_older_baseline_is_removed(trained, tmp_path):
    results = tmp_path / "results"
    studies.publish("canonical", quick(), trained, results)
    newer = {variant: [dataclasses.replace(c, epochs=31) for c in configs] for variant, configs in quick().items()}
    shutil.rmtree(trained)
    put_study(newer, trained, {"baseline": 0.6, "norm": 0.6})
    assert studies.publish("canonical", newer, trained, results) == [
        f"{variant}/actors/alexnet/fold0" for variant in ("baseline", "norm")]
    assert studies.table("canonical", results).variant.tolist() == ["baseline", "norm"]


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_synthetic_and_smoke_runs_are_not_published(profile, tmp_path):
    configs = studies.run_configs("canonical", profile, "synthetic", ["alexnet"])
    with pytest.raises(publish.PublishError, match=f"{profile} run on synthetic"):
        studies.publish("canonical", configs, tmp_path, tmp_path / "results")


@pytest.mark.parametrize("name", studies.STUDIES)
def test_published_studies_are_whole(name):
    """Their runs are readable and differ from their baselines in nothing but the change."""
    found = studies.table(name)
    assert (found.corpus == "ravdess").all() and "smoke" not in set(found.profile)
    for places in studies.published(name).values():
        for path in runs.find(places):
            runs.check(path)


# The command line

def test_a_variant_that_only_judges_otherwise_takes_the_baselines_weights(tmp_path, monkeypatch):
    def train(configs, *rest):
        for c in configs:
            if runs.is_finished(c, tmp_path):
                continue
            trained.append(c.name)
            put(c, tmp_path, 0.6)

    trained, judged = [], []
    monkeypatch.setattr("ser_utils.data.corpus.for_profile", lambda profile: Corpus(None, "ravdess", None))
    monkeypatch.setattr("ser_utils.features.spectral.extract", lambda *a, **k: None)
    monkeypatch.setattr(studies.grid, "train", train)
    monkeypatch.setattr("ser_utils.training.fit.judge_anew", lambda run, config, *rest: judged.append((run.dir, config)))
    words = ["recipe", "--profile", "full", "--models", "resnet", "--variants", "single", "epochs", "again",
             "--protocols", "random", "--runs", str(tmp_path), "--results", str(tmp_path / "results")]
    assert studies.main(words) == 0
    base = studies.run_configs("recipe", "full", "ravdess", ["resnet"], [], ["random"])["baseline"][0]
    assert trained == ["random/resnet/fold0", *(f"studies/recipe/{variant}/random/resnet/fold0"
                                                for variant in ("epochs", "again"))]
    ((where, config),) = judged
    assert where == base.run_directory(tmp_path) and config.name == "studies/recipe/single/random/resnet/fold0"
    (where / "model.keras").unlink()  # trained elsewhere: its weights did not come home
    trained.clear()
    studies.main(words)
    assert trained == ["studies/recipe/single/random/resnet/fold0"] and len(judged) == 1


def test_what_is_published_is_not_trained_again(command, tmp_path, trained, monkeypatch, capsys):
    assert command("--models", "alexnet", "--publish") == 0
    shutil.rmtree(trained)
    capsys.readouterr()
    asked = []
    monkeypatch.setattr(studies.grid, "train", lambda configs, *rest: asked.extend(c.name for c in configs))
    assert command("--models", "alexnet", "--variants", "stem", "head") == 0
    assert asked == ["studies/canonical/head/actors/alexnet/fold0"]
    out = capsys.readouterr().out
    assert "baseline" in out and "stem" in out and "norm" not in out

@pytest.fixture
def command(trained, tmp_path, monkeypatch):
    """The command on made-up runs of AlexNet; nothing is trained."""
    corpus = Corpus(None, "ravdess", None)
    monkeypatch.setattr("ser_utils.data.corpus.for_profile", lambda profile: corpus)
    monkeypatch.setattr("ser_utils.features.spectral.extract", lambda *a, **k: None)
    monkeypatch.setattr(studies.grid, "train", lambda *a, **k: None)
    places = ["--runs", str(trained), "--results", str(tmp_path / "results")]
    return lambda *words: studies.main(["canonical", *words, *places])


def test_command_prints_the_table_and_publishes(command, tmp_path, capsys):
    assert command("--models", "alexnet", "--publish") == 0
    out = capsys.readouterr().out
    assert "3 runs are new in" in out and "studies/canonical: baseline/actors/alexnet/fold0" in out
    assert "AlexNet" in out and "quick" in out
    assert (tmp_path / "results/studies/canonical/norm/actors/alexnet/fold0/run.json").exists()
    assert command("--models", "alexnet") == 0
    assert "new in results" not in capsys.readouterr().out


def test_command_shows_what_is_finished_after_a_failure(command, capsys, monkeypatch):
    def fail(*a, **k):
        raise grid.GridError("no luck")

    monkeypatch.setattr(studies.grid, "train", fail)
    assert command("--models", "alexnet") == 1
    said = capsys.readouterr()
    assert "no luck" in said.err and "AlexNet" in said.out


def test_a_polite_kill_stops_the_trainings_as_ctrl_c_does(command, capsys, monkeypatch):
    monkeypatch.setattr(studies.grid, "train", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(9))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert command("--models", "alexnet") == 130
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "Stopped." in capsys.readouterr().out


def test_command_names_what_it_does_not_know(command, capsys):
    assert command("--models", "gru") == 1
    assert "no network 'gru'" in capsys.readouterr().err
