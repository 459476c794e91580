"""The ladder of shortcuts, the controls, and the checks: every planted leak is caught, no honest run is accused."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from fakes import fake_run

from ser_utils.config import PAD_DB, FeatureConfig, RunConfig
from ser_utils.data import folds
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import LeakError
from ser_utils.evaluation import metrics as evaluation
from ser_utils.features import spectral as features
from ser_utils.report import publish
from ser_utils.studies import leakage as validity
from ser_utils.studies.leakage import SHORTCUTS, Job
from ser_utils.training import fit as training
from ser_utils.training import frontend, runs

CONFIG = RunConfig("smoke", "synthetic", "random", "alexnet", 0, features=FeatureConfig(n_mels=16, n_mfcc=4),
                   frames=40, options={"width": 0.125, "dropout": 0.1}, epochs=3, learning_rate=5e-3,
                   warmup_epochs=1)
TRAINED = ("random", "test_epoch", "test_statistics", "permuted")


def job(shortcut, **changes):
    return Job(shortcut, dataclasses.replace(CONFIG, protocol=SHORTCUTS[shortcut].protocol, **changes))


@pytest.fixture(scope="module")
def ladder(made_up, tmp_path_factory):
    """Finished runs of some shortcuts: (runs by name, root)."""
    root = tmp_path_factory.mktemp("ladder")
    return {name: validity.run(job(name), *made_up, root=root) for name in TRAINED}, root


@pytest.fixture
def honest_data(made_up):
    return training.prepare(CONFIG, *made_up)


@pytest.fixture
def honest_copy(ladder, tmp_path):
    """A copy of the honest run, to be tampered with."""
    target = tmp_path / "random" / "alexnet" / "fold0"
    shutil.copytree(ladder[0]["random"].dir, target)
    return target


# ---------------------------------------------------------------------------------------------- the jobs


def test_a_jobs_hash_covers_its_shortcut_and_its_settings():
    plain = [job(name) for name in SHORTCUTS]
    assert len({j.hash for j in plain}) == len(SHORTCUTS)
    assert job("random").hash == CONFIG.hash
    assert job("copies").hash != job("copies", epochs=4).hash


def test_leaky_runs_lie_apart_and_are_never_taken_for_results(ladder, tmp_path):
    runs, root = ladder
    home = root / "synthetic-smoke"
    assert runs["random"].dir == home / "random" / "alexnet" / "fold0"
    assert runs["test_epoch"].dir == home / "validity" / "test_epoch" / "alexnet" / "fold0"
    assert [path.parts[-3] for path in runs.find(home)] == ["random"]
    assert set(runs.table(home).protocol) == {"random"}
    assert set(runs.predictions(home).protocol) == {"random"}


def test_the_jobs_of_a_profile():
    found = validity.jobs("quick", "ravdess")
    assert {j.shortcut for j in found} == set(SHORTCUTS) - set(validity.SLOW_TO_PAY)
    assert {j.config.fold for j in found} == {0} and {j.config.model for j in found} == {"transformer"}
    assert all(j.config.protocol == j.plan.protocol for j in found)
    full = validity.jobs("full", "ravdess", folds=[0, 1], shortcuts=["copies"])
    assert [j.name for j in full] == [f"copies/{m}/fold{k}" for k in (0, 1) for m in ("alexnet", "transformer")]
    assert 0 <= full[0].config.epochs - 3 * full[0].epochs < 3  # three times the clips, as many steps
    with pytest.raises(ValueError, match="Unknown shortcut 'luck'"):
        validity.jobs("quick", "ravdess", shortcuts=["luck"])
    with pytest.raises(ValueError, match="Unknown profile"):
        validity.jobs("huge", "ravdess")


def test_a_finished_job_is_not_trained_again(ladder, made_up, monkeypatch):
    runs, root = ladder
    monkeypatch.setattr(training, "compiled", lambda *a: pytest.fail("trained again"))
    assert validity.run(job("test_epoch"), *made_up, root=root) == runs["test_epoch"]


def test_a_killed_job_does_not_count_as_finished(ladder, made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(validity, "_sign", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        validity.run(job("test_epoch", epochs=1), *made_up, root=tmp_path)
    assert not job("test_epoch", epochs=1).is_finished(tmp_path)


# ------------------------------------------------------------------------------------------ what they plant


def test_labels_are_shuffled_within_each_actor(made_up):
    index = made_up[0].index
    labels, actors = index.label.to_numpy(), index.actor.to_numpy()
    shuffled = validity.permuted_within(labels, actors, np.random.default_rng(0))
    for actor in range(1, 25):
        assert sorted(shuffled[actors == actor]) == sorted(labels[actors == actor])
    assert 0.09 < (shuffled == labels).mean() < 0.17


def test_normalised_by_speaker_leaves_no_difference_of_level_between_actors(honest_data, made_up):
    actors = made_up[0].index.actor.to_numpy()
    louder = np.where(honest_data.logmel > PAD_DB, honest_data.logmel + actors[:, None, None], PAD_DB)
    moved = validity.normalised_by_speaker(louder.astype(np.float32), actors)
    for actor in (1, 24):
        mean, deviation = features.statistics(moved[actors == actor])
        np.testing.assert_allclose(mean, features.statistics(louder)[0], atol=0.02)
        np.testing.assert_allclose(deviation, features.statistics(louder)[1], rtol=0.01)
    np.testing.assert_array_equal((moved > PAD_DB).any(axis=2), (louder > PAD_DB).any(axis=2))


def test_augmented_before_the_split_puts_siblings_into_training(honest_data):
    data = validity.augmented_before_split(honest_data, CONFIG, 3, np.random.default_rng(0))
    assert data.logmel.shape == (4320, 40, 16) and len(data.rows["train"]) == 960 * 3
    assert len(set(data.rows["train"])) == 960 * 3
    for part in ("val", "test"):
        np.testing.assert_array_equal(data.rows[part], honest_data.rows[part])
        np.testing.assert_array_equal(data.logmel[data.rows[part]], honest_data.logmel[data.rows[part]])
    trained = set(data.clips[data.rows["train"]])
    leaked = np.mean([clip in trained for clip in data.clips[data.rows["test"]]])
    assert 0.83 < leaked < 0.94  # 8 in 9
    original = np.flatnonzero(data.clips == data.clips[0])
    assert len(original) == 3 and len(set(data.labels[original])) == 1
    assert not np.allclose(data.logmel[original[0]], data.logmel[original[1]], atol=1)


# ------------------------------------------------------------------------------------- what training does


def test_the_test_picked_epoch_is_the_best_on_test_of_the_very_same_training(ladder):
    honest, leaky = (ladder[0][name] for name in ("random", "test_epoch"))
    history = leaky.history
    np.testing.assert_allclose(history.val_loss, honest.history.val_loss, atol=2e-3)
    best = history.sort_values(["test_accuracy", "test_loss"], ascending=[False, True]).iloc[0]
    assert leaky.info["best_epoch"] == best.epoch
    assert leaky.info["metrics"]["test"]["accuracy"] == pytest.approx(best.test_accuracy, abs=1e-6)
    assert leaky.info["metrics"]["test"]["accuracy"] >= honest.info["metrics"]["test"]["accuracy"]


def test_normalised_with_test_clips_means_all_clips(ladder, honest_data):
    layer = ladder[0]["test_statistics"].model().get_layer("normalise")
    np.testing.assert_allclose(layer.mean, features.statistics(honest_data.logmel)[0], atol=1e-4)


def test_shuffled_labels_are_learnt_and_measured_while_the_true_ones_are_kept(ladder):
    predictions = runs.read_predictions(ladder[0]["permuted"].dir)
    assert 0.05 < (predictions.target == predictions.label).mean() < 0.22
    test = predictions[predictions.subset == "test"]
    stated = ladder[0]["permuted"].info["metrics"]["test"]
    assert stated == pytest.approx(evaluation.metrics(test.target, test.prediction))


def test_scores_of_the_ladder(ladder):
    predictions = validity.load(ladder[1] / "synthetic-smoke" / "validity", ladder[1] / "synthetic-smoke")
    assert set(predictions.shortcut) == set(TRAINED) and len(predictions) == 240 * len(TRAINED)
    table = validity.scores(predictions).set_index("shortcut")
    assert list(table.index) == [name for name in SHORTCUTS if name in TRAINED]
    assert (table.low <= table.accuracy).all() and (table.accuracy <= table.high).all()
    assert np.isnan(table.gain["random"]) and table.gain["test_epoch"] >= 0
    assert table.gain["test_epoch"] == pytest.approx(table.accuracy["test_epoch"] - table.accuracy["random"])
    low, high = table.loc["permuted", ["uar_low", "uar_high"]]
    assert low < 20 and table.uar["random"] > high  # the true labels can be learnt, shuffled ones can't


def test_scores_pair_the_same_clips_and_correct_for_all_shortcuts(monkeypatch):
    clips = folds.table()["clip"][:240]
    labels = clips.str[6:8].astype(int) - 1
    base = {"model": "lstm", "fold": 0, "clip": clips, "label": labels, "target": labels}
    right, wrong = labels, (labels + 1) % 8
    at = np.arange(240)
    made = pd.concat([pd.DataFrame({"shortcut": name, "prediction": np.where(at < hits, right, wrong)} | base)
                      for name, hits in (("random", 100), ("test_epoch", 102), ("everything", 200), ("actors", 80),
                                         ("by_speaker", 92))])
    table = validity.scores(made).set_index("shortcut")
    assert table.gain["everything"] == pytest.approx(100 * 100 / 240)
    assert table.p["everything"] == pytest.approx(4 * 2 * 0.5**100) and table.p["test_epoch"] == pytest.approx(0.5)
    assert table.gain["actors"] == pytest.approx(-100 * 20 / 240)
    assert table.gain["by_speaker"] == pytest.approx(100 * 12 / 240)  # over unseen actors, its own protocol


def test_no_runs_no_rows(tmp_path):
    assert validity.load(tmp_path, tmp_path).empty and validity.scores(validity.load(tmp_path)).empty


def test_a_ladder_with_honest_runs_of_its_own_is_held_against_these_alone(tmp_path):
    home, ordinary = tmp_path / "home", tmp_path / "ordinary"
    fake_run(home, "random", "lstm", 0, accuracy=0.6)
    for protocol in ("random", "actors"):
        fake_run(ordinary, protocol, "lstm", 0, accuracy=0.9)
    pd.testing.assert_frame_equal(validity.load(home, ordinary), validity.load(home))
    assert set(validity.load(home).shortcut) == {"random"}


def test_jobs_train_in_processes_of_their_own(tiny_corpus, tmp_path, capsys):
    config = RunConfig("smoke", "synthetic", "random", "alexnet", 0, pool=4, warmup_epochs=0, epochs=1,
                       options={"width": 0.125, "dropout": 0.1})
    good = Job("test_epoch", config)
    bad = Job("copies", dataclasses.replace(config, learning_rate=1e30, clip_norm=1e30, frames=-1))
    with pytest.raises(validity.LadderError, match="1 runs failed(.|\n)*copies/alexnet/fold0 .exit 1"):
        validity.train([good, bad], tiny_corpus, tmp_path, progress=False)
    assert runs.is_finished(good, tmp_path) and not runs.is_finished(bad, tmp_path)


# ------------------------------------------------------------------------------------------ planted leaks


def test_honest_data_and_runs_pass(ladder, honest_data, made_up):
    validity.check_data(honest_data, *made_up, "random")
    validity.check_run(ladder[0]["random"], *made_up)
    assert validity.findings(job("random"), *made_up, root=ladder[1]) == {"data": "", "run": ""}


def moved(data, clip, part):
    """The data with one of the test clips in another part as well."""
    return dataclasses.replace(data, rows=data.rows | {part: np.append(data.rows[part], clip)})


@pytest.mark.parametrize("protocol, said", [("random", "clip in both train and test"), ("twins", "clip in both"),
                                            ("actors", "clip in both")])
def test_a_test_clip_in_training_is_caught(made_up, protocol, said):
    data = training.prepare(dataclasses.replace(CONFIG, protocol=protocol), *made_up)
    with pytest.raises(LeakError, match=said):
        validity.check_data(moved(data, data.rows["test"][3], "train"), *made_up, protocol)


def test_an_actor_in_two_parts_is_caught(made_up):
    data = training.prepare(dataclasses.replace(CONFIG, protocol="actors"), *made_up)
    rows = {part: list(positions) for part, positions in data.rows.items()}
    rows["train"].append(rows["test"].pop())  # one clip of a test actor moves, and is in one part only
    planted = dataclasses.replace(data, rows={part: np.array(positions) for part, positions in rows.items()})
    with pytest.raises(LeakError, match="actor in both train and test"):
        validity.check_data(planted, *made_up, "actors")


def test_a_twin_in_two_parts_is_caught(made_up):
    data = training.prepare(dataclasses.replace(CONFIG, protocol="twins"), *made_up)
    rows = {part: list(positions) for part, positions in data.rows.items()}
    rows["train"].append(rows["val"].pop())
    planted = dataclasses.replace(data, rows={part: np.array(positions) for part, positions in rows.items()})
    with pytest.raises(LeakError, match="pair of repetitions in both train and val"):
        validity.check_data(planted, *made_up, "twins")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_one_augmented_clip_is_caught(honest_data, made_up, part):
    logmel = honest_data.logmel.copy()
    row = honest_data.rows[part][5]
    logmel[row, :5] += 0.5
    with pytest.raises(LeakError, match=f"1 {part} clips are not as recorded.*{honest_data.clips[row]}"):
        validity.check_data(dataclasses.replace(honest_data, logmel=logmel), *made_up, "random")


@pytest.mark.parametrize("shortcut, said", [("copies", "occur more than once"), ("by_speaker", "not as recorded"),
                                            ("permuted", "another label")])
def test_leaks_in_the_data_are_caught(made_up, shortcut, said):
    leaky = validity.leaky_data(job(shortcut), training.prepare(job(shortcut).config, *made_up),
                                made_up[0].index.actor.to_numpy())
    with pytest.raises(LeakError, match=said):
        validity.check_data(leaky, *made_up, SHORTCUTS[shortcut].protocol)


def test_a_scaler_fitted_on_everything_is_caught(ladder, made_up):
    with pytest.raises(LeakError, match="normalisation's mean is not that of the training clips"):
        validity.check_run(ladder[0]["test_statistics"], *made_up)


def test_augmentation_at_test_time_is_caught(honest_data, monkeypatch):
    validity.check_model(training.compiled(CONFIG, honest_data), honest_data)
    original = frontend.Augment.call
    monkeypatch.setattr(frontend.Augment, "call", lambda self, x, training=False: original(self, x, training=True))
    with pytest.raises(LeakError, match="augmentation is on outside training"):
        validity.check_model(training.compiled(CONFIG, honest_data), honest_data)


def test_an_honest_model_of_another_precision_is_not_accused(honest_data, monkeypatch):
    monkeypatch.setattr(training, "precision", lambda: "mixed_bfloat16")
    model = training.compiled(CONFIG, honest_data)
    keras.config.set_dtype_policy("float32")  # as in a notebook that has only read the run
    validity.check_model(model, honest_data)


def test_an_epoch_picked_on_test_clips_is_caught(honest_copy):
    history = runs.read_history(honest_copy)
    info = json.loads((honest_copy / "run.json").read_text())
    other = next(int(epoch) for epoch in history.epoch if epoch != info["best_epoch"])
    runs.check(honest_copy)
    (honest_copy / "run.json").write_text(json.dumps(info | {"best_epoch": other}))
    with pytest.raises(evaluation.ResultsError, match=f"epoch {other} was kept, .*something else chose the epoch"):
        runs.check(honest_copy)


def test_the_weights_of_an_unstated_epoch_are_caught(honest_copy):
    """The best validation epoch is stated, but the predictions are another epoch's: as right, less sure."""
    table = pd.read_csv(honest_copy / "predictions.csv")
    values = table[evaluation.PROBABILITIES].to_numpy()
    table[evaluation.PROBABILITIES] = (0.7 * values + 0.3 / 8).round(5)
    table.to_csv(honest_copy / "predictions.csv", index=False)
    with pytest.raises(evaluation.ResultsError, match="validation predictions .* are not those of the kept epoch"):
        runs.check(honest_copy)


@pytest.mark.parametrize("metric", evaluation.METRICS)
def test_a_flattered_metric_is_caught(honest_copy, metric):
    info = json.loads((honest_copy / "run.json").read_text())
    info["metrics"]["test"][metric] += 0.003
    (honest_copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(evaluation.ResultsError, match=f"test {metric} of"):
        runs.check(honest_copy)


def test_a_missing_epoch_is_caught(honest_copy):
    history = pd.read_csv(honest_copy / "history.csv")
    history.drop(index=0).to_csv(honest_copy / "history.csv", index=False)
    with pytest.raises(evaluation.ResultsError, match="does not hold the epochs 1 to 3"):
        runs.check(honest_copy)


def test_easy_clips_in_place_of_the_folds_are_caught(honest_copy):
    table = pd.read_csv(honest_copy / "predictions.csv")
    tested = set(table["clip"])
    swapped = table.index[table.subset == "test"][0]
    label = table.label[swapped]
    other = next(clip for clip in folds.table()["clip"] if clip not in tested and int(clip[6:8]) == label + 1)
    table.loc[swapped, "clip"] = other
    table.to_csv(honest_copy / "predictions.csv", index=False)
    with pytest.raises(evaluation.ResultsError, match=f"1 test clips do not belong to fold 0 of random.*{other}"):
        runs.check(honest_copy)


def test_every_published_run_of_the_ladder_tells_one_story():
    for directory in (path for home in validity.published().values() for path in runs.find(home)):
        info = json.loads((directory / "run.json").read_text())
        plan = SHORTCUTS[directory.parts[-3]]
        if plan.honest:
            runs.check(directory)
            continue
        history = runs.read_history(directory)
        ranked = history.sort_values([f"{plan.chosen_on}_accuracy", f"{plan.chosen_on}_loss"], ascending=[False, True])
        assert info["best_epoch"] == ranked.epoch.iloc[0], directory
        table = runs.read_predictions(directory)
        for subset, part in table.groupby("subset"):
            stated = info["metrics"][subset]
            assert stated == pytest.approx(evaluation.metrics(part.get("target", part.label), part.prediction))


# ----------------------------------------------------------------------------------------------- controls


def test_the_surface_of_a_recording(tmp_path):
    rate = 16_000
    rng = np.random.default_rng(0)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    wave = np.concatenate([0.001 * rng.standard_normal(rate // 2), tone, np.zeros(rate // 4)])
    path = tmp_path / "03-01-05-01-01-01-12.wav"
    soundfile.write(path, wave, rate)
    corpus = Corpus(tmp_path, "ravdess", pd.DataFrame({"clip": [path.stem], "path": [str(path)]}))
    table = validity.surface(corpus, tmp_path / "store")
    row = table.iloc[0]
    assert (row.before, row.speech, row.after) == pytest.approx((0.5, 1.0, 0.25))
    assert row.level == pytest.approx(10 * np.log10(0.125), abs=0.1) and row.peak == pytest.approx(-6.02, abs=0.1)
    assert row.level_before == pytest.approx(-60, abs=0.5) and row.level_after == -100
    path.touch()
    pd.testing.assert_frame_equal(validity.surface(corpus, tmp_path / "store"), table)


def test_a_cue_that_tells_is_found_and_one_that_does_not_is_at_chance(made_up, monkeypatch):
    corpus = made_up[0]
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=1440) for name in ("before", "after", "level", "peak", "level_before",
                                                      "level_after")}
    ordered = corpus.index.label + rng.normal(0, 0.05, 1440)
    made = pd.DataFrame({"clip": corpus.index["clip"], "speech": ordered} | noise)
    monkeypatch.setattr(validity, "surface", lambda *a: made)
    table = validity.cue_predictions(corpus, "actors")
    uar = {cue: evaluation.metrics(part.label, part.prediction)["recall"] for cue, part in table.groupby("cue")}
    assert uar["duration of the speech"] > 0.9
    assert 0.08 < uar["loudness of the speech"] < 0.17 and 0.08 < uar["silence around the speech"] < 0.17
    assert table.groupby("cue")["clip"].nunique().eq(1440).all()


def test_the_probe_finds_a_voice_and_nothing_in_noise(made_up):
    actors = made_up[0].index.actor.to_numpy()
    rows = training.split(made_up[0].index, "random", 0)
    rng = np.random.default_rng(0)
    voices = rng.normal(size=(25, 12))[actors] + rng.normal(0, 0.3, (1440, 12))
    assert validity.actor_probe(voices, actors, rows).mean() > 0.9
    assert validity.actor_probe(rng.normal(size=(1440, 12)), actors, rows).mean() < 0.12


def test_controls_of_a_finished_run(ladder, made_up, monkeypatch):
    corpus, store = made_up
    made = pd.DataFrame(np.random.default_rng(1).normal(size=(1440, 7)),
                        columns=["before", "speech", "after", "level_before", "level", "level_after", "peak"])
    monkeypatch.setattr(validity, "surface", lambda *a: made.assign(clip=corpus.index["clip"]))
    table = validity.controls(corpus, store, [ladder[0]["random"]])
    assert table.kind.value_counts().to_dict() == {"emotion": 6, "actor": 2}
    assert (table.low <= table.score).all() and (table.score <= table.high).all()
    assert set(table.chance.round(3)) == {12.5, 4.167}
    values = validity.penultimate(ladder[0]["random"], made_up[1].logmel[:3])
    assert values.ndim == 2 and len(values) == 3


# -------------------------------------------------------------------------------------------- publication


def restate(directory, **values):
    path = directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_ladder_is_published_without_weights(ladder, tmp_path):
    root = tmp_path / "runs"
    wanted = []
    for name in TRAINED:
        published = job(name, corpus="ravdess")
        shutil.copytree(ladder[0][name].dir, published.directory(root))
        restate(published.directory(root), corpus="ravdess", config_hash=published.hash)
        wanted.append(published)
    results = tmp_path / "results"
    cues = pd.DataFrame({"kind": ["emotion"], "score": [12.5]})
    names = validity.publish_ladder([*wanted, job("copies", corpus="ravdess")], cues, root, results)
    assert names == [j.name for j in wanted]
    home = results / "validity" / "smoke"
    folder = home / "test_epoch" / "alexnet" / "fold0"
    assert {path.name for path in folder.iterdir()} == set(runs.FILES)
    pd.testing.assert_frame_equal(pd.read_csv(home / "controls.csv"), cues)
    assert runs.find(results) == [] and validity.published(results) == {"smoke": home}
    assert set(validity.load(home).shortcut) == set(TRAINED)
    other = job("random", corpus="ravdess", profile="quick")
    shutil.copytree(ladder[0]["random"].dir, other.directory(root))
    restate(other.directory(root), config_hash=other.hash)
    validity.publish_ladder([other], cues, root, results)
    assert set(validity.published(results)) == {"smoke", "quick"}  # profiles lie apart
    publish.draw(results, tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"framework", "ladder_smoke", "ladder_quick"}


def test_a_synthetic_ladder_is_not_published(ladder, tmp_path):
    with pytest.raises(publish.PublishError, match="on synthetic"):
        validity.publish_ladder([job("random")], pd.DataFrame(), ladder[1], tmp_path)


def test_the_command_line_says_what_is_wrong(capsys, monkeypatch):
    monkeypatch.setattr(validity.corpora, "for_profile", lambda profile: (_ for _ in ()).throw(FileNotFoundError("no")))
    assert validity.main(["--profile", "full"]) == 1
    assert capsys.readouterr().err == "no\n"
