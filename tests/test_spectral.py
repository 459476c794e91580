import dataclasses
import importlib
import io
import os
import shutil

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_utils import features as package
from ser_utils.config import PAD_DB, FeatureConfig
from ser_utils.data.corpus import Corpus
from ser_utils.features import audio
from ser_utils.features import spectral as features

CONFIG = FeatureConfig()


@pytest.fixture
def corpus(tiny_corpus, tmp_path):
    """Four clips in a folder that a test may spoil."""
    index = tiny_corpus.index.head(4).copy()
    index["path"] = [shutil.copy(path, tmp_path) for path in index.path]
    return Corpus(tmp_path, "synthetic", index)


def extract(corpus, tmp_path):
    return features.extract(corpus, CONFIG, tmp_path / "store", progress=False)


def test_log_mels_are_those_of_librosa_with_the_published_settings():
    wave = np.random.default_rng(3).normal(0, 0.1, 32_000).astype(np.float32)
    power = librosa.feature.melspectrogram(y=wave, sr=16_000, n_fft=800, hop_length=320, n_mels=80, fmin=50, fmax=8000)
    expected = librosa.power_to_db(power, amin=1e-10, top_db=None).T
    np.testing.assert_allclose(features.log_mel(wave, CONFIG), expected, atol=2e-3)


@pytest.mark.parametrize("frames, width", [(3, 3), (4, 3), (8, 7), (9, 9), (10, 9), (101, 9)])
def test_mfccs_and_deltas_are_those_of_librosa_over_fewer_frames_where_there_are_fewer(frames, width):
    logmel = np.random.default_rng(frames).normal(-40, 5, (frames, 80)).astype(np.float32)
    mfcc = librosa.feature.mfcc(S=logmel.T, n_mfcc=40)
    expected = [mfcc, *(librosa.feature.delta(mfcc, width=width, order=order) for order in (1, 2))]
    np.testing.assert_allclose(features.mfcc(logmel, CONFIG), np.concatenate(expected).T, atol=2e-3)
    with pytest.raises(audio.AudioError, match="2 frames"):
        features.mfcc(logmel[:2], CONFIG)


def test_extract_pads_and_keeps_each_clip(corpus, tmp_path):
    store = extract(corpus, tmp_path)
    assert list(store.clips) == list(corpus.index["clip"]) and (store.corpus, store.config) == ("synthetic", CONFIG)
    pd.testing.assert_frame_equal(store.index, corpus.index.drop(columns="path"))
    for row, path in enumerate(corpus.index.path):
        logmel = features.log_mel(audio.load_speech(path, 16_000, 30), CONFIG)
        length = store.lengths[row]
        np.testing.assert_allclose(store.logmel[row, :length], logmel, atol=features.STEP_DB / 2 + 1e-4)
        np.testing.assert_array_equal(store.mfcc[row, :length], features.mfcc(store.logmel[row, :length], CONFIG))
        assert (store.logmel[row, length:] == PAD_DB).all() and (store.mfcc[row, length:] == 0).all()


def test_second_extraction_reads_the_store_and_another_configuration_or_other_data_is_another(
        corpus, tmp_path, monkeypatch):
    first = extract(corpus, tmp_path)
    monkeypatch.setattr(features, "log_mel", lambda *a, **k: pytest.fail("computed again"))
    second = extract(corpus, tmp_path)
    for name in ("logmel", "clips", "lengths"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (second.corpus, second.config) == ("synthetic", CONFIG)
    path = features.store_path(corpus, CONFIG, tmp_path)
    assert features.store_path(corpus, dataclasses.replace(CONFIG, n_mels=64), tmp_path) != path
    wave, rate = soundfile.read(corpus.index.path[0])
    soundfile.write(corpus.index.path[0], wave[:-100], rate)
    assert features.store_path(corpus, CONFIG, tmp_path) != path


def test_a_spoilt_or_old_store_is_computed_again(corpus, tmp_path, capsys):
    first = extract(corpus, tmp_path)
    path = features.store_path(corpus, CONFIG, tmp_path / "store")
    whole, old = path.read_bytes(), io.BytesIO()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    np.savez(old, clips=np.array(["a"]), lengths=np.array([3]), logmel=np.zeros((1, 3, 80)), mfcc=np.zeros((1, 3, 9)))
    for damaged in (b"", whole[:1000], flipped, old.getvalue()):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(first.mfcc, extract(corpus, tmp_path).mfcc)
        assert "Computing it again" in capsys.readouterr().out


def test_fit_length_keeps_the_middle_of_long_clips_and_statistics_ignore_padding():
    logmel = np.arange(10, dtype=np.float32).reshape(1, 10, 1)
    np.testing.assert_array_equal(features.fit_length(logmel, [10], 4)[0, :, 0], [3, 4, 5, 6])
    np.testing.assert_array_equal(features.fit_length(logmel, [3], 5)[0, :, 0], [0, 1, 2, PAD_DB, PAD_DB])
    logmel = np.full((2, 5, 3), PAD_DB, np.float32)
    logmel[0, :2], logmel[1, :1] = [[-10, -20, -30]], [[-40, -20, -30]]
    mean, deviation = features.statistics(logmel)
    np.testing.assert_allclose(mean, [-20, -20, -30])
    np.testing.assert_allclose(deviation, [np.sqrt(200), 0, 0], atol=2e-3)


def test_clip_statistics_are_means_and_deviations_over_speech(corpus, tmp_path):
    store = extract(corpus, tmp_path)
    table = features.clip_statistics(store)
    assert table.shape == (4, 240) and table.columns.is_unique and list(table.index) == list(store.clips)
    speech = store.mfcc[1, : store.lengths[1]]
    assert table["mfcc_3_mean"].iloc[1] == pytest.approx(speech[:, 3].mean(), rel=1e-4)
    assert table["delta2_0_std"].iloc[1] == pytest.approx(speech[:, 80].std(), rel=1e-4)


def test_a_bad_clip_is_named_and_leaves_no_store(corpus, tmp_path):
    open(corpus.index.path[2], "wb").close()
    with pytest.raises(audio.AudioError, match=corpus.index["clip"][2]):
        extract(corpus, tmp_path)
    assert not list((tmp_path / "store").glob("*"))


def test_a_store_keeps_padding_and_changes_by_a_step_at_most(corpus, tmp_path):
    store, step = extract(corpus, tmp_path), features.STEP_DB
    logmel = store.logmel + np.random.default_rng(0).uniform(-1, 1, store.logmel.shape).astype(np.float32)
    logmel[0, 0, :4] = PAD_DB, np.nextafter(np.float32(PAD_DB), np.float32(0)), -100.00001, 29.3  # floor and top
    logmel[0, 1] = PAD_DB
    padding = np.arange(logmel.shape[1]) >= store.lengths[:, None]
    logmel[padding] = PAD_DB
    store = dataclasses.replace(store, logmel=logmel)
    features.write(store, tmp_path / "new" / "packed.npz")
    there = features.read(tmp_path / "new" / "packed.npz")
    assert (tmp_path / "new" / "packed.npz").stat().st_size < 0.4 * sum(store.lengths) * 80 * 4  # bytes of float32
    change = np.abs(there.logmel - np.maximum(logmel, PAD_DB))
    assert there.logmel.dtype == np.float32 and 0 < change.max() <= step
    assert change[logmel > PAD_DB + step].max() <= step / 2 + 1e-5
    np.testing.assert_array_equal(there.logmel > PAD_DB, logmel > PAD_DB)
    assert padding.any() and (there.logmel[padding] == PAD_DB).all()
    features.write(there, tmp_path / "again")  # whatever it is called
    np.testing.assert_array_equal(features.read(tmp_path / "again").logmel, there.logmel)


def test_a_file_that_is_no_store_or_missing_is_said(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    for name in ("text.npz", "none.npz"):
        with pytest.raises(ValueError, match=f"{name} can't be read"):
            features.read(tmp_path / name)


def test_without_a_writable_home_compiled_functions_are_cached_elsewhere(monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(os, "access", lambda *a: False)
    importlib.reload(package)
    assert "numba" in os.environ["NUMBA_CACHE_DIR"]
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    importlib.reload(package)
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"
