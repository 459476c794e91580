import dataclasses
import errno
import shutil

import librosa
import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from ser_utils.config import PAD_DB, FeatureConfig
from ser_utils.data.corpus import INDEX, Corpus, at
from ser_utils.features import audio
from ser_utils.features import spectral as features

CONFIG = FeatureConfig()


@pytest.fixture(scope="module")
def wave():
    """Two seconds of something like a voice at 16 kHz."""
    rng = np.random.default_rng(3)
    time = np.arange(32_000) / 16_000
    voice = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20)) * (1 + np.sin(8 * time))
    return (0.1 * voice + 0.001 * rng.normal(size=len(time))).astype(np.float32)


@pytest.fixture
def corpus(tiny_corpus, tmp_path):
    """Four clips in a folder that a test may spoil."""
    index = tiny_corpus.index.head(4).copy()
    index["path"] = [shutil.copy(path, tmp_path) for path in index.path]
    return Corpus(tmp_path, "synthetic", index)


def librosa_logmel(wave):
    power = librosa.feature.melspectrogram(y=wave, sr=16_000, n_fft=800, hop_length=320, n_mels=80, fmin=50, fmax=8000)
    return librosa.power_to_db(power, amin=1e-10, top_db=None)


def test_log_mel_equals_librosa(wave):
    got = features.log_mel(wave, CONFIG)
    assert got.shape == (101, 80)
    np.testing.assert_allclose(got, librosa_logmel(wave).T, atol=2e-3)


def test_mfcc_and_deltas_equal_librosa(wave):
    logmel = librosa_logmel(wave)
    mfcc = librosa.feature.mfcc(S=logmel, n_mfcc=40)
    expected = np.concatenate([mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2)])
    np.testing.assert_allclose(features.mfcc(logmel.T.astype(np.float32), CONFIG), expected.T, atol=2e-3)


@pytest.mark.parametrize("frames", [3, 4, 8, 9, 10, 50])
def test_deltas_equal_librosa_at_every_length(frames):
    sequence = np.random.default_rng(frames).normal(size=(frames, 5)).astype(np.float32)
    width = min(9, frames if frames % 2 else frames - 1)
    for order, got in enumerate(features.deltas(sequence), start=1):
        expected = librosa.feature.delta(sequence, width=width, order=order, axis=0)
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_too_few_frames_for_deltas():
    with pytest.raises(audio.AudioError, match="2 frames"):
        features.mfcc(np.zeros((2, 80), np.float32), CONFIG)


def test_extract_pads_and_keeps_each_clip(corpus, tmp_path):
    store = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    assert list(store.clips) == list(corpus.index["clip"])
    for row, path in enumerate(corpus.index.path):
        with threadpool_limits(1):  # as in the extraction: more threads sum in another order
            logmel, mfcc = features.clip_features(path, CONFIG)
        length = store.lengths[row]
        np.testing.assert_array_equal(store.logmel[row, :length], logmel)
        np.testing.assert_array_equal(store.mfcc[row, :length], mfcc)
        assert (store.logmel[row, length:] == PAD_DB).all() and (store.mfcc[row, length:] == 0).all()
    assert store.seconds()[0] == pytest.approx(store.lengths[0] * 0.02)


def test_second_extraction_reads_the_store(corpus, tmp_path, monkeypatch):
    first = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    monkeypatch.setattr(features, "compute", lambda *a, **k: pytest.fail("computed again"))
    second = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    np.testing.assert_array_equal(first.logmel, second.logmel)


def test_another_configuration_or_other_data_is_another_store(corpus, tmp_path):
    path = features.store_path(corpus, CONFIG, tmp_path)
    assert features.store_path(corpus, dataclasses.replace(CONFIG, n_mels=64), tmp_path) != path
    wave, rate = soundfile.read(corpus.index.path[0])
    soundfile.write(corpus.index.path[0], wave[:-100], rate)
    assert features.store_path(corpus, CONFIG, tmp_path) != path


def test_a_spoilt_store_is_computed_again(corpus, tmp_path, capsys):
    first = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    path = features.store_path(corpus, CONFIG, tmp_path / "store")
    path.write_bytes(path.read_bytes()[:1000])
    second = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    assert "computing it again" in capsys.readouterr().out
    np.testing.assert_array_equal(first.mfcc, second.mfcc)


def test_a_bad_clip_is_named_and_leaves_no_store(corpus, tmp_path):
    with open(corpus.index.path[2], "wb"):
        pass
    with pytest.raises(audio.AudioError, match=corpus.index["clip"][2]):
        features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    assert not list((tmp_path / "store").glob("*"))


def test_a_full_disk_is_said_and_leaves_no_half_store(corpus, tmp_path, monkeypatch):
    def full(path, **arrays):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features.np, "savez", full)
    with pytest.raises(OSError, match="disk is full"):
        features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    assert list((tmp_path / "store").iterdir()) == []


def test_fit_length_keeps_the_middle_of_long_clips():
    logmel = np.arange(10, dtype=np.float32).reshape(1, 10, 1)
    np.testing.assert_array_equal(features.fit_length(logmel, [10], 4)[0, :, 0], [3, 4, 5, 6])
    np.testing.assert_array_equal(features.fit_length(logmel, [3], 5)[0, :, 0], [0, 1, 2, PAD_DB, PAD_DB])


def test_statistics_ignore_padding():
    logmel = np.full((2, 5, 3), PAD_DB, np.float32)
    logmel[0, :2], logmel[1, :1] = [[-10, -20, -30]], [[-40, -20, -30]]
    mean, deviation = features.statistics(logmel)
    np.testing.assert_allclose(mean, [-20, -20, -30])
    np.testing.assert_allclose(deviation, [np.sqrt(200), 0, 0], atol=2e-3)


def test_clip_statistics_are_means_and_deviations_over_speech(corpus, tmp_path):
    store = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    table = features.clip_statistics(store)
    assert table.shape == (4, 240) and table.columns.is_unique and list(table.index) == list(store.clips)
    speech = store.mfcc[1, : store.lengths[1]]
    assert table["mfcc_3_mean"].iloc[1] == pytest.approx(speech[:, 3].mean(), rel=1e-4)
    assert table["delta2_0_std"].iloc[1] == pytest.approx(speech[:, 80].std(), rel=1e-4)


def test_an_extraction_that_is_interrupted_leaves_nothing_half_done(corpus, tmp_path, monkeypatch):
    whole, calls = features.clip_features, []

    def interrupted(path, config):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(path, config)

    with monkeypatch.context() as patch:
        patch.setattr(features, "clip_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    assert not list((tmp_path / "store").glob("*"))
    assert len(features.extract(corpus, CONFIG, tmp_path / "store", progress=False).clips) == 4


def test_packed_log_mels_keep_padding_and_change_by_a_step_at_most(corpus, tmp_path):
    store = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    logmel, step = store.logmel.copy(), features.STEP_DB
    logmel[0, 0, :4] = PAD_DB, np.nextafter(np.float32(PAD_DB), np.float32(0)), -100.00001, 29.3  # floor and top
    logmel[0, 1] = PAD_DB
    store = dataclasses.replace(store, logmel=logmel)
    features.pack(store, tmp_path / "packed.npz")
    there = features.unpack(tmp_path / "packed.npz", CONFIG)
    assert (tmp_path / "packed.npz").stat().st_size < 0.4 * sum(store.lengths) * 80 * 4  # bytes of float32
    np.testing.assert_array_equal(there.clips, store.clips)
    np.testing.assert_array_equal(there.lengths, store.lengths)
    change = np.abs(there.logmel - logmel)
    assert there.logmel.dtype == np.float32 and change.max() <= step
    assert change[logmel > PAD_DB + step].max() <= step / 2 + 1e-5 and change.max() > 0
    np.testing.assert_array_equal(there.logmel > PAD_DB, logmel > PAD_DB)
    padding = np.arange(logmel.shape[1]) >= store.lengths[:, None]
    assert padding.any() and (there.logmel[padding] == PAD_DB).all()
    assert there.mfcc.shape == (4, logmel.shape[1], 0)
    features.pack(there, tmp_path / "again.npz")
    np.testing.assert_array_equal(features.unpack(tmp_path / "again.npz", CONFIG).logmel, there.logmel)


def test_a_packed_file_of_other_settings_or_damaged_is_refused(corpus, tmp_path):
    path = tmp_path / "packed.npz"
    features.pack(features.extract(corpus, CONFIG, tmp_path / "store", progress=False), path)
    with pytest.raises(ValueError, match="n_mels=80.*not with.*n_mels=64.*Make a new bundle"):
        features.unpack(path, dataclasses.replace(CONFIG, n_mels=64))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match="Unpack the bundle again"):
        features.unpack(path, CONFIG)
    with pytest.raises(ValueError, match="Unpack the bundle again"):
        features.unpack(tmp_path / "none.npz", CONFIG)


def test_a_packed_corpus_brings_its_features(corpus, tmp_path, monkeypatch):
    store = features.extract(corpus, CONFIG, tmp_path / "store", progress=False)
    folder = tmp_path / "packed"
    features.pack(store, folder / features.PACKED)
    corpus.index.drop(columns="path").to_csv(folder / INDEX, index=False)
    monkeypatch.setattr(features, "compute", lambda *a, **k: pytest.fail("computed again"))
    there = features.extract(at(folder, "synthetic"), CONFIG)
    np.testing.assert_allclose(there.logmel, store.logmel, atol=features.STEP_DB)
    assert list(there.clips) == list(at(folder, "synthetic").index["clip"])
