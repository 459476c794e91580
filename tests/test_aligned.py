"""The aligned view: warping, segments, enrolled voices, and that nothing is learnt from a judged clip."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from fakes import fake_finished

from ser_utils.config import FeatureConfig
from ser_utils.data import folds, names
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features.spectral import FeatureStore
from ser_utils.studies import aligned
from ser_utils.training import runs

INDEX = names.index_of(names.speech_names())


@pytest.fixture(scope="module")
def store():
    """One actor a fold, 30 clips each: two made-up sentences at several speeds, in noise."""
    rng = np.random.default_rng(0)
    actors = [1, 4, 8, 3, 2, 6]
    kept = INDEX[INDEX.actor.isin(actors) & (INDEX.repetition == 1)].reset_index(drop=True)
    courses = {sentence: rng.normal(-40, 12, (12, 80)) for sentence in (1, 2)}
    lengths = rng.integers(40, 60, len(kept))
    logmel = np.full((len(kept), 60, 80), -100, np.float32)
    for row, (sentence, length) in enumerate(zip(kept.statement, lengths, strict=True)):
        at = np.linspace(0, 11.999, length).astype(int)
        logmel[row, :length] = courses[sentence][at] + rng.normal(0, 1, (length, 80))
    return FeatureStore(FeatureConfig(), "ravdess", kept["clip"].to_numpy(), lengths, logmel)


@pytest.fixture(scope="module", autouse=True)
def fewer_warps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned, "WARPS", (-0.08, 0.0))
        yield


@pytest.fixture(scope="module")
def pitches(store):
    return [np.full(length, 150.0 + 10 * (row % 7)) for row, length in enumerate(store.lengths)]


@pytest.fixture(scope="module")
def viewed(store, pitches, fewer_warps):
    """The views of fold 0 of unseen actors, and the sentences heard."""
    return aligned.views(store, pitches, folds.check_split(store.index, "actors", 0)["train"])


def test_a_clip_is_laid_against_its_own_sentence_at_whatever_speed():
    rng = np.random.default_rng(1)
    own, other = rng.normal(size=(2, aligned.STATES, 13))
    slow = np.repeat(own, 2, axis=0)
    cost, states = aligned.align(slow, own)
    assert cost < 1e-6 and (states == np.repeat(np.arange(aligned.STATES), 2)).all()
    assert aligned.align(slow, other)[0] > 1


def test_a_segment_holds_what_was_said_in_it():
    logmel, states = np.full((80, 80), -50.0, np.float32), np.arange(80) // 2
    f0 = np.where(states < 20, 200.0, np.nan)
    f0[:8] = 100.0  # the first segment
    found = aligned.view(logmel, f0, states)
    cepstra, frames, melody, voiced = np.split(found, [200, 210, 220])
    np.testing.assert_allclose(cepstra, np.tile(cepstra[:20], 10))
    np.testing.assert_allclose(frames, np.log(8.5))
    np.testing.assert_allclose(np.exp(melody), [100, *[200] * 9])  # unvoiced segments: the clip's median
    np.testing.assert_array_equal(voiced, [1] * 5 + [0] * 5)


def test_a_warp_lowers_formants_and_pitch_together():
    voice, higher = (np.tile(50 * np.exp(-50 * (np.arange(80) / mel - 1) ** 2), (80, 1)) for mel in (40, 44))
    f0, states = np.full(80, 200.0), np.arange(80) // 2
    lowered = aligned.view(higher, 1.1 * f0, states, warp=0.1)
    assert (abs(lowered - aligned.view(voice, f0, states)) < np.r_[np.ones(210), np.full(20, 1e-6)]).all()
    assert np.abs(aligned.view(higher, f0, states) - lowered).max() > 10


def test_sentences_are_heard_and_judged_clips_teach_nothing(store, pitches, viewed):
    rows, (found, heard) = folds.check_split(store.index, "actors", 0), viewed
    assert (heard == store.index.statement).all()
    logmel = store.logmel.copy()
    for row in rows["test"]:
        logmel[row, :store.lengths[row]] = -20 - logmel[row, :store.lengths[row]]
    others = np.concatenate([rows["train"], rows["val"]])
    again, _ = aligned.views(dataclasses.replace(store, logmel=logmel), pitches, rows["train"])
    np.testing.assert_array_equal(again[others], found[others])
    assert not np.allclose(again[rows["test"]], found[rows["test"]])
    svm = next(one for one in aligned.run_configs() if (one.protocol, one.model) == ("actors", "aligned_svm"))
    for judged, other in (("test", "val"), ("val", "test")):  # nor do they set the scale
        moved = found.copy()
        moved[rows[judged]] += 50
        told, same = (aligned.answers(svm, store, views, rows)[0][other] for views in (found, moved))
        np.testing.assert_array_equal(told, same)
    enrolled = next(one for one in aligned.run_configs() if (one.enrolled, one.model) == (10, "aligned_svm"))
    known, moved = folds.enrolled(10, store.index)[rows["test"]], found.copy()
    moved[rows["test"][~known]] += 50  # one voice: its known clips are judged as before, if they alone are subtracted
    told, same = (aligned.answers(enrolled, store, views, rows)[0]["test"][known] for views in (found, moved))
    np.testing.assert_array_equal(told, same)


def test_a_voice_known_by_its_clips_loses_its_own_mean():
    rng = np.random.default_rng(2)
    voices = np.repeat([1, 2], 30)
    found = rng.normal(size=(60, 1, 4)) + 50.0 * voices[:, None, None]
    clips = {voice: np.flatnonzero(voices == voice)[:18] for voice in (1, 2)}
    out = aligned.centred(found, voices, clips)
    for rows in clips.values():  # 18 of 18 + SHRINK
        np.testing.assert_allclose(out[rows].mean(axis=0), found[rows].mean(axis=0) * 0.1)


def test_the_enrolled_clips_are_a_committed_table_and_never_judged():
    before = np.zeros(len(INDEX), bool)
    for count in folds.ENROLLED:
        known = folds.enrolled(count, INDEX)
        assert (pd.Series(known).groupby(INDEX.actor).sum() == count).all() and known[before].all()
        before = known
    for config in [c for c in aligned.run_configs() if 0 < c.enrolled < 60 and c.model == "aligned_svm"]:
        rows = folds.judged(INDEX, config.protocol, config.fold)
        assert len(rows["test"]) == len(rows["val"]) == 160 and len(rows["train"]) == 960
        assert not folds.enrolled(config.enrolled, INDEX)[np.concatenate([rows["test"], rows["val"]])].any()


def test_fits_are_ordinary_runs_share_their_views_and_are_not_made_again(store, pitches, viewed, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(aligned, "views", lambda *arguments: made.append(arguments[2]) or viewed)
    configs = [dataclasses.replace(c, profile="quick", members=1, epochs=3) for c in aligned.run_configs()
               if (c.protocol in ("actors", "actors_enrolled10") or c.model == "aligned_dense_refit") and c.fold == 0
               and (c.protocol, c.model) != ("actors", "aligned_dense_refit")]
    refit, parts = configs.pop(2), folds.split(store.index, "random", 0)
    assert len(configs) == 4 and refit.protocol == "random"
    for _ in range(2):
        aligned.fit([*configs, refit], store, pitches, tmp_path)
        once, again = made
        np.testing.assert_array_equal(once, folds.split(store.index, "actors", 0)["train"])
        np.testing.assert_array_equal(again, np.sort(np.concatenate([parts["train"], parts["val"]])))
    assert set(runs.Run(refit.run_directory(tmp_path)).predictions["clip"]) == set(store.clips[parts["test"]])
    runs.check(refit.run_directory(tmp_path))
    for config in configs:
        run = runs.read(config.run_directory(tmp_path))
        assert (run["protocol"], run["model"], run["fold"]) == (config.protocol, config.model, 0)
        rows = folds.judged(store.index, config.protocol, config.fold)
        assert (len(rows["val"]) + len(rows["test"]) == 60) == (config.enrolled == 0)
        clips = store.clips[np.concatenate([rows["val"], rows["test"]])]
        assert set(runs.Run(run["dir"]).predictions["clip"]) == set(clips)


def test_a_network_judges_each_enrolled_voice_by_its_own_clips_alone_and_unlabelled(store, tmp_path):
    config = next(c for c in aligned.enrolled_networks() if c.protocol == "actors_enrolled10" and c.model == "alexnet")
    config = dataclasses.replace(config, frames=60, versions=1, options=config.options | {"width": 0.1})
    rows, known = folds.judged(store.index, config.protocol, 0), folds.enrolled(10, store.index)
    before = fake_finished(tmp_path, dataclasses.replace(config, protocol="actors"))
    model = aligned.frontend.assemble(config, np.full(80, -40.0), np.full(80, 12.0))
    model.save(before / "model.keras")
    aligned.judge_enrolled(config, store, tmp_path)
    made = runs.Run(config.run_directory(tmp_path))
    assert made.info["config_hash"] == config.hash and made.history.equals(runs.Run(before).history)
    table = made.predictions.set_index("clip")
    assert set(table.index) == set(store.clips[np.concatenate([rows["val"], rows["test"]])])
    usual = model.get_weights()
    for actor in (4, 1):  # one validates, one tests: each is judged as if it were the only voice
        voice = store.index.actor == actor
        model.set_weights(usual)
        aligned.frontend.enrol(model, store.logmel[voice & known])
        mine = np.flatnonzero(voice & store.index["clip"].isin(table.index))
        np.testing.assert_allclose(table.loc[store.clips[mine], PROBABILITIES],
                                   aligned.predict(model, store.logmel[mine]), atol=2e-5)
