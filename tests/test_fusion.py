"""ser_utils.fusion: alignment by name, what may be fitted on what, missing streams, the published runs."""

import json

import numpy as np
import pandas as pd
import pytest
from fakes import fake_results

from ser_utils import FOLDS, fusion
from ser_utils.data import folds, names
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import RESULTS
from ser_utils.training import runs

INDEX = names.index_of(names.speech_names())
CLIPS, LABELS = INDEX["clip"].to_numpy(), INDEX.label.to_numpy()


@pytest.fixture(scope="module")
def table():
    """Made-up faces that show the actor and the emotion, named as the videos."""
    rng = np.random.default_rng(0)
    person, sign = rng.normal(0, 2, (25, 6)), rng.normal(0, 1, (8, 6))
    values = 5 + person[INDEX.actor] + sign[LABELS] + rng.normal(0, 0.3, (len(CLIPS), 6))
    return pd.DataFrame(values, columns=list("abcdef")).assign(clip="01" + INDEX["clip"].str[2:])


@pytest.fixture
def file(table, tmp_path, monkeypatch):
    monkeypatch.setenv("RAVDESS_FACES", str(tmp_path))
    table.to_csv(tmp_path / fusion.FACES, index=False)
    return tmp_path / fusion.FACES


def answered(name, sure, seed=0, clips=CLIPS):
    """A stream of probabilities that is right more often the surer it is."""
    rng = np.random.default_rng(seed)
    labels = np.array([int(clip[6:8]) - 1 for clip in clips])
    logits = rng.normal(size=(len(clips), 8)) + sure * np.eye(8)[labels]
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return fusion.Modality(name, pd.DataFrame(values, clips, PROBABILITIES))


def share_right(probabilities, labels=LABELS):
    return (probabilities.argmax(axis=1) == labels).mean()


def test_videos_name_the_performance_of_the_audio_clip_and_order_does_not_matter(table, file):
    face = fusion.faces()
    mixed = fusion.modality("face", table.sample(frac=1, random_state=1))
    np.testing.assert_allclose(face.values(CLIPS) ** 2, mixed.values(CLIPS).clip(0))
    fusion.check_order(mixed)


def test_a_shuffled_or_foreign_table_fails_loudly(table, file):
    for rows in (np.random.default_rng(0).permutation(len(table)),
                 INDEX.groupby("actor")["clip"].transform(lambda c: c.sample(frac=1, random_state=0).index)):
        table.assign(clip=table["clip"].to_numpy()[rows]).to_csv(file, index=False)
        with pytest.raises(fusion.AlignmentError, match="order of their names"):
            fusion.faces()
    with pytest.raises(fusion.AlignmentError, match="emotion of .* contradicts"):
        fusion.modality("face", table.assign(emotion=np.roll(INDEX.emotion, 100)))
    assert "actor" not in fusion.modality("face", table.assign(actor=INDEX.actor)).table
    wrong = ("01-01-09-01-01-01-01", "a.wav", "01-02-02-01-01-01-01", table["clip"][1])
    for foreign in [table.drop(columns="clip"), *(table.assign(clip=[clip, *table["clip"][1:]]) for clip in wrong)]:
        with pytest.raises(fusion.AlignmentError):
            fusion.modality("face", foreign)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="MMEmotionRecognition"):
        fusion.faces()


def test_two_streams_know_more_than_one_and_a_missing_one_leaves_the_other():
    voice, face = answered("voice", 2, 1), answered("face", 2, 2)
    face.table.iloc[::2, 3] = np.nan  # a hole in a row is a missing row
    late = fusion.LateFusion([voice, face]).fit(CLIPS, LABELS)
    both = late.predict(CLIPS)
    assert (both[::2].argmax(1) == voice.values(CLIPS)[::2].argmax(1)).all()
    assert share_right(both[1::2], LABELS[1::2]) > share_right(voice.values(CLIPS)) + 0.08
    np.testing.assert_allclose(both.sum(axis=1), 1)
    assert (late.predict(CLIPS, ["face"]).argmax(1) == voice.values(CLIPS).argmax(1)).all()
    np.testing.assert_allclose(late.predict(["03-01-01-01-01-01-01"], ["voice", "face"])[0], fusion.PRIOR)
    stacked = fusion.LateFusion([voice, face], stacking=True).fit(CLIPS, LABELS).predict(CLIPS)
    np.testing.assert_allclose(stacked[::2], both[::2])
    assert share_right(stacked[1::2], LABELS[1::2]) > share_right(voice.values(CLIPS)) + 0.05


def test_temperatures_make_a_boaster_modest():
    honest = answered("honest", 2)
    boaster = fusion.Modality("boaster", honest.table.pow(4).pipe(lambda t: t.div(t.sum(axis=1), axis=0)))
    late = fusion.LateFusion([honest, boaster]).fit(CLIPS, LABELS)
    assert late.scales[1] < 0.5 * late.scales[0]


def test_the_network_learns_from_clips_that_lack_a_stream_and_answers_without_one(table):
    rows = folds.split(INDEX, "actors", 0)
    face, known = fusion.modality("face", table), np.concatenate([rows["train"], rows["val"]])
    voice = answered("voice", 2, 3, CLIPS[np.concatenate([rows["val"], rows["test"]])])
    made = fusion.FeatureFusion([face, voice], copies=2, epochs=10)
    made.fit(CLIPS[known], LABELS[known])
    clips, labels = CLIPS[rows["test"]], LABELS[rows["test"]]
    alone = share_right(voice.values(clips), labels)
    assert share_right(made.predict(clips), labels) > alone
    assert share_right(made.predict(clips, ["face"]), labels) > alone - 0.1
    assert share_right(made.predict(clips, ["voice"]), labels) > 0.3
    assert np.isfinite(made.predict(clips, ["voice", "face"])).all()
    np.testing.assert_allclose(made.scaling[0][0], face.values(CLIPS[known]).mean(axis=0))


def test_nothing_is_fitted_to_test_clips_and_each_model_has_its_own_clips(table, tmp_path, monkeypatch):
    met = []
    monkeypatch.setattr(fusion.FeatureFusion, "fit", lambda self, clips, labels: met.append(("network", clips)) or self)
    monkeypatch.setattr(fusion.FeatureFusion, "predict", lambda self, clips, *_: np.full((len(clips), 8), 0.125))
    monkeypatch.setattr(fusion.FeatureFusion, "model", fusion.FeatureFusion, raising=False)
    monkeypatch.setattr(fusion.FeatureFusion, "count_params", lambda: 1, raising=False)
    fit = fusion.LateFusion.fit
    monkeypatch.setattr(fusion.LateFusion, "fit", lambda self, clips, labels: met.append(("late", clips))
                        or fit(self, clips, labels))
    monkeypatch.setattr(fusion, "RESULTS", fake_results(tmp_path / "results", ["actors"], ["vgg16", "alexnet"]))
    face = fusion.modality("face", table)
    parts = {part: set(CLIPS[rows]) for part, rows in folds.split(INDEX, "actors", 0).items()}
    for config in [c for c in fusion.run_configs(face) if c.fold == 0]:
        met.clear()
        run = fusion.run(config, face, tmp_path / "runs")
        assert met and not any(parts["test"] & set(clips) for _, clips in met)
        allowed = {"face": parts["train"], "fusion_late": parts["val"], "fusion_feature": parts["train"] | parts["val"]}
        kind = "late" if config.model == "fusion_late" else "network"
        assert set(met[0][1]) == allowed[config.model] and {what for what, _ in met} == {kind}
        if config.model != "face":  # validation clips are answered without their actors
            left = [allowed[config.model] - set(clips) for _, clips in met[1:]]
            assert set.union(*left) == parts["val"] and len(left) == 2
        runs.check(run.dir)
        assert len(run.predictions) == 480 and fusion.run(config, face, tmp_path / "runs").dir == run.dir


@pytest.mark.parametrize("fold", range(FOLDS))
def test_the_published_fusions_rest_on_the_published_voices(fold):
    heard = fusion.voices(fold)
    assert len(heard.table) == 480 and set(MODEL_NAMES) <= {path.parts[-2] for path in runs.find(RESULTS)}
    for model in fusion.MODELS[1:]:
        info = json.loads((RESULTS / "actors" / model / f"fold{fold}" / "run.json").read_text())
        assert info["config"]["voices"] == fusion.digest(heard), "the networks were trained again: make fusion"
