"""The ladder of shortcuts and the checks: every planted leak is caught, no honest run is accused."""

import dataclasses
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from fakes import edit
from test_fit import PLAIN

from ser_utils.config import PAD_DB, AugmentConfig
from ser_utils.data import folds
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import LeakError
from ser_utils.evaluation import metrics
from ser_utils.features import spectral
from ser_utils.paths import RESULTS
from ser_utils.studies import controls, leakage
from ser_utils.studies.leakage import SHORTCUTS, LeakConfig
from ser_utils.training import fit, frontend, grid, runs

CONFIG = dataclasses.replace(PLAIN, epochs=3)
TRAINED = ("random", "test_epoch", "test_statistics", "permuted")
pytestmark = pytest.mark.usefixtures("quick_trainings")  # what leaks, leaks into two dense layers, too


def rung(shortcut, **changes):
    return LeakConfig(**vars(CONFIG) | {"protocol": SHORTCUTS[shortcut].protocol} | changes, shortcut=shortcut)


@pytest.fixture(scope="module")
def ladder(made_up, tmp_path_factory):
    """Finished runs of some shortcuts: (runs by name, root). ``test_epoch`` was killed once, and went on."""
    root, seen, finish = tmp_path_factory.mktemp("ladder"), [], fit.finish

    def stop(row):
        seen.append(row["epoch"])
        if len(seen) == 1:
            raise KeyboardInterrupt

    def finished(*arguments):
        done = finish(*arguments)
        name = done.dir.parts[-3]
        assert name == "random" or not runs.is_finished(rung(name), root), "killed here, it would count as finished"
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "finish", finished)
        with pytest.raises(KeyboardInterrupt):
            leakage.run(rung("test_epoch"), made_up, root=root, on_epoch=stop)
        made = {name: leakage.run(rung(name), made_up, root=root, on_epoch=stop if name == "test_epoch" else None)
                for name in TRAINED}
    assert seen == [1, 2, 3]
    return made, root


@pytest.fixture(scope="module")
def honest_data(made_up):
    return fit.prepare(CONFIG, made_up)


def test_the_rungs_of_a_profile_and_their_hashes():
    plain = [rung(name) for name in SHORTCUTS]
    assert len({c.hash for c in plain}) == len(SHORTCUTS)
    assert rung("random").hash == CONFIG.hash
    assert rung("copies").hash != rung("copies", epochs=4).hash
    found = leakage.run_configs("quick", "ravdess", ["transformer"], [0])
    assert {c.shortcut for c in found} == set(SHORTCUTS) - {"everything"}
    assert all(c.protocol == c.plan.protocol for c in found)
    full = leakage.run_configs("full", "ravdess", folds=[0, 1], shortcuts=["copies"])
    assert [c.name for c in full] == [f"copies/{m}/fold{k}" for m in ("alexnet", "transformer") for k in (0, 1)]
    assert 0 <= full[0].epochs - 3 * full[0].trained.epochs < 3  # three times the clips, as many steps


def test_leaky_runs_lie_apart_are_never_taken_for_results_and_not_trained_again(ladder, made_up, monkeypatch):
    made, root = ladder
    monkeypatch.setattr(fit, "compiled", lambda *a: pytest.fail("trained again"))
    assert leakage.run(rung("test_epoch"), made_up, root=root) == made["test_epoch"]
    home = root / "synthetic-smoke"
    assert made["random"].dir == home / "random" / "alexnet" / "fold0"
    assert made["test_epoch"].dir == home / "validity" / "test_epoch" / "alexnet" / "fold0"
    assert [path.parts[-3] for path in runs.find(home)] == ["random"]


def test_labels_are_shuffled_within_each_actor(made_up):
    shuffled = made_up.index.assign(label=leakage.leaky_data(rung("permuted"), made_up).labels)
    pd.testing.assert_frame_equal(*(table.groupby(["actor", "label"]).size().unstack()
                                    for table in (shuffled, made_up.index)))
    assert 0.09 < (shuffled.label == made_up.index.label).mean() < 0.17


def test_normalised_by_speaker_leaves_no_difference_of_level_between_actors(honest_data, made_up):
    actors = made_up.index.actor.to_numpy()
    louder = np.where(honest_data.logmel > PAD_DB, honest_data.logmel + actors[:, None, None], PAD_DB)
    moved = leakage.normalised_by_speaker(louder.astype(np.float32), actors)
    for actor in (1, 24):
        mean, deviation = spectral.statistics(moved[actors == actor])
        np.testing.assert_allclose(mean, spectral.statistics(louder)[0], atol=0.02)
        np.testing.assert_allclose(deviation, spectral.statistics(louder)[1], rtol=0.01)
    np.testing.assert_array_equal((moved > PAD_DB).any(axis=2), (louder > PAD_DB).any(axis=2))


def test_augmented_before_the_split_puts_siblings_into_training(honest_data, made_up):
    data = leakage.leaky_data(rung("copies"), made_up)
    assert data.logmel.shape == (4320, 40, 16) and len(data.rows["train"]) == 960 * 3
    assert len(set(data.rows["train"])) == 960 * 3
    for part in ("val", "test"):
        np.testing.assert_array_equal(data.rows[part], honest_data.rows[part])
        np.testing.assert_array_equal(data.logmel[data.rows[part]], honest_data.logmel[data.rows[part]])
    trained = set(data.clips[data.rows["train"]])
    assert 0.83 < np.mean([clip in trained for clip in data.clips[data.rows["test"]]]) < 0.94  # 8 in 9
    one, other, _ = np.flatnonzero(data.clips == data.clips[0])
    assert data.labels[one] == data.labels[other] and not np.allclose(data.logmel[one], data.logmel[other], atol=1)


def test_the_test_picked_epoch_is_the_best_on_test_of_the_very_same_training(ladder):
    honest, leaky = (ladder[0][name] for name in ("random", "test_epoch"))
    history = leaky.history  # of a training that was killed and went on
    np.testing.assert_allclose(history.val_loss, honest.history.val_loss, atol=2e-3)
    best = history.sort_values(["test_accuracy", "test_loss"], ascending=[False, True]).iloc[0]
    assert leaky.info["best_epoch"] == best.epoch
    assert leaky.info["metrics"]["test"]["accuracy"] == pytest.approx(best.test_accuracy, abs=1e-6)
    assert leaky.info["metrics"]["test"]["accuracy"] >= honest.info["metrics"]["test"]["accuracy"]


def test_shuffled_labels_cannot_be_learnt_and_the_true_ones_are_kept(ladder):
    run = ladder[0]["permuted"]
    given = runs.read_predictions(run.dir).query("subset == 'test'")
    assert 0.05 < (given.target == given.label).mean() < 0.22
    assert run.info["metrics"]["test"] == pytest.approx(metrics.metrics(given.target, given.prediction))
    predictions = leakage.load(run.dir for run in ladder[0].values())
    assert set(predictions.shortcut) == set(TRAINED) and len(predictions) == 240 * len(TRAINED)
    table = leakage.scores(predictions).set_index("shortcut")
    assert list(table.index) == [name for name in SHORTCUTS if name in TRAINED]
    assert (table.low <= table.accuracy).all() and (table.accuracy <= table.high).all()
    assert table.uar_low["permuted"] < 20 and table.uar["random"] > table.uar_high["permuted"]


def test_scores_pair_the_same_clips_and_correct_for_all_shortcuts():
    clips = folds.table()["clip"][:240]
    labels = clips.str[6:8].astype(int) - 1
    base = {"model": "lstm", "fold": 0, "clip": clips, "label": labels, "target": labels}
    right, wrong = labels, (labels + 1) % 8
    at = np.arange(240)
    made = pd.concat([pd.DataFrame({"shortcut": name, "prediction": np.where(at < hits, right, wrong)} | base)
                      for name, hits in (("random", 100), ("test_epoch", 102), ("everything", 200), ("actors", 80),
                                         ("by_speaker", 92))])
    table = leakage.scores(made).set_index("shortcut")
    assert table.gain["everything"] == pytest.approx(100 * 100 / 240)
    assert np.isnan(table.gain["random"])
    assert table.p[["test_epoch", "everything"]].isna().all()  # the best epoch can't be worse
    assert table.p["actors"] == pytest.approx(2 * 2 * 0.5**20)  # McNemar's, the smaller of two
    assert table.gain["actors"] == pytest.approx(-100 * 20 / 240)
    assert table.gain["by_speaker"] == pytest.approx(100 * 12 / 240)  # over unseen actors, its own protocol


def test_controls_of_a_finished_run(ladder, made_up, monkeypatch):
    made = pd.DataFrame(np.random.default_rng(1).normal(size=(1440, 7)), columns=controls.SURFACE)
    monkeypatch.setattr(controls, "surface", lambda corpus: made)
    values = controls.penultimate(ladder[0]["random"], made_up.logmel)
    assert values.shape == (1440, 160)
    monkeypatch.setattr(controls, "penultimate", lambda *a: values[:, :8])
    found = controls.table(Corpus(None, "synthetic", made_up.index), made_up, [ladder[0]["random"]])
    assert found.kind.value_counts().to_dict() == {"emotion": 6, "actor": 2}
    assert (found.low <= found.score).all() and (found.score <= found.high).all()
    assert set(found.chance.round(3)) == {12.5, 4.167}


def test_leaks_in_the_data_are_caught_and_one_augmented_clip(honest_data, made_up):
    for shortcut, said in (("copies", "more than once"), ("by_speaker", "as recorded"), ("permuted", "another label")):
        with pytest.raises(LeakError, match=said):
            leakage.check_data(leakage.leaky_data(rung(shortcut), made_up), made_up, SHORTCUTS[shortcut].protocol)
    with pytest.raises(LeakError, match="actor in both train and"):  # all that may be: tests/test_folds.py
        leakage.check_data(honest_data, made_up, "actors")
    logmel, row = honest_data.logmel.copy(), honest_data.rows["val"][5]
    logmel[row, :5] += 0.5
    with pytest.raises(LeakError, match=f"1 val clips are not as recorded.*{honest_data.clips[row]}"):
        leakage.check_data(dataclasses.replace(honest_data, logmel=logmel), made_up, "random")


def test_a_scaler_fitted_on_everything_is_caught(ladder, made_up, honest_data):
    layer = frontend.load(ladder[0]["test_statistics"].dir).get_layer("normalise")
    np.testing.assert_allclose(layer.statistics[0], spectral.statistics(honest_data.logmel)[0], atol=1e-4)
    with pytest.raises(LeakError, match="normalisation's mean is not that of the training clips"):
        leakage.check_model(frontend.load(ladder[0]["test_statistics"].dir), honest_data)
    with pytest.raises(runs.ResultsError, match="run.json.*states a val accuracy"):  # of shuffled labels
        runs.check(ladder[0]["permuted"].dir)


def test_augmentation_at_test_time_is_caught(honest_data, monkeypatch):
    config = dataclasses.replace(CONFIG, augment=AugmentConfig())
    leakage.check_model(fit.compiled(config, honest_data), honest_data)
    original = frontend.Augment.call
    monkeypatch.setattr(frontend.Augment, "call", lambda self, x, training=False: original(self, x, training=True))
    with pytest.raises(LeakError, match="augmentation is on outside training"):
        leakage.check_model(fit.compiled(config, honest_data), honest_data)


def test_an_honest_run_is_not_accused_of_whatever_precision(ladder, honest_data, made_up, monkeypatch):
    leakage.check_data(honest_data, made_up, "random")
    runs.check(ladder[0]["random"].dir)
    leakage.check_model(frontend.load(ladder[0]["random"].dir), honest_data)
    monkeypatch.setattr(fit, "precision", lambda: "mixed_bfloat16")
    model = fit.compiled(CONFIG, honest_data)
    keras.config.set_dtype_policy("float32")  # as in a notebook that has only read the run
    leakage.check_model(model, honest_data)


def test_every_published_run_of_the_ladder_tells_one_story_and_is_recognised():
    for directory in (path for profile in leakage.PLANS for path in runs.find(RESULTS / "validity" / profile)):
        info, plan = runs.Run(directory).info, SHORTCUTS[directory.parts[-3]]
        if plan.honest:
            runs.check(directory)
            continue
        history = runs.read_history(directory)
        ranked = history.sort_values([f"{plan.chosen_on}_accuracy", f"{plan.chosen_on}_loss"], ascending=[False, True])
        last = info["config"].get("keep") == "last" and plan.chosen_on == "val"
        assert info["best_epoch"] == (history.epoch.iloc[-1] if last else ranked.epoch.iloc[0]), directory
        table = runs.read_predictions(directory)
        for subset, part in table.groupby("subset"):
            stated = info["metrics"][subset]
            assert stated == pytest.approx(metrics.metrics(part.get("target", part.label), part.prediction))
    found = [c for profile in ("quick", "full") for c in leakage.run_configs(profile, "ravdess")
             if runs.holds(RESULTS / "validity" / c.profile / c.place, c)]
    assert len({c.shortcut for c in found}) >= 8 and len(found) >= 96


def test_the_ladder_is_published_without_weights(ladder, tmp_path, monkeypatch):
    root, results, wanted = tmp_path / "runs", tmp_path / "results", []
    monkeypatch.setattr(leakage, "RESULTS", results)
    assert leakage.load_published() == {}
    for name in TRAINED:
        c = rung(name, corpus="ravdess", profile="quick")
        shutil.copytree(ladder[0][name].dir, c.run_directory(root))
        edit(c.run_directory(root) / "run.json", corpus="ravdess", profile="quick", config_hash=c.hash)
        wanted.append(c)
    new = leakage.publish([*wanted, rung("copies", corpus="ravdess")], root)
    assert sorted(new) == sorted(f"validity/quick/{name}/alexnet/fold0" for name in TRAINED)
    assert {path.name for path in (results / "validity/quick/test_epoch/alexnet/fold0").iterdir()} == set(runs.FILES)
    assert runs.find(results) == []
    (found,) = leakage.load_published().values()
    assert set(found.shortcut) == set(TRAINED)
    assert leakage.publish(wanted, root) == []
    with pytest.raises(runs.ResultsError, match="on synthetic"):
        leakage.publish([rung("test_epoch")], ladder[1])


def test_the_command_line_trains_what_is_missing_and_says_what_it_is_worth(ladder, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(grid, "features_of", lambda *a: ("synthetic", None))
    monkeypatch.setattr(leakage, "run_configs", lambda *a: [rung(name) for name in TRAINED])
    monkeypatch.setattr(grid, "train", lambda configs, *a, **k: asked.extend((c.shortcut, k["work"]) for c in configs))
    assert leakage.main(["--profile", "smoke", "--runs", str(ladder[1]), "--protocols", "random"]) == 0
    assert asked == [(name, leakage.run) for name in TRAINED] and "epoch chosen on test" in capsys.readouterr().out
