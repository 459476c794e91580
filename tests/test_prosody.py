"""ser_utils.features.prosody: the pitch of signals whose pitch is known, the measures of a file and a corpus."""

import numpy as np
import pytest
import soundfile

from ser_utils.data import ravdess
from ser_utils.data.corpus import Corpus
from ser_utils.features import prosody

RATE = 16_000
GLIDE = 150 * 2 ** np.linspace(0, 1, 2 * RATE)  # Hz, two seconds
CLIPS = ("03-01-01-01-01-01-01", "03-01-05-02-01-01-02", "03-01-08-01-02-02-13")


def voice(f0, seconds=0.5, rate=RATE, harmonics=(1.0, 1.5, 0.8, 0.4), amplitude=0.3):
    """A harmonic tone whose second harmonic is the strongest, as a first formant would make it."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, round(seconds * rate))) / rate
    tone = sum(a * np.sin((k + 1) * phase) for k, a in enumerate(harmonics))
    return (amplitude * tone / np.abs(tone).max()).astype(np.float32)


def noise(seconds=0.5, amplitude=0.1, seed=0):
    return (amplitude * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture
def corpus(tmp_path):
    """Three clips: 100, 200 and 300 Hz, half a second between quarters of silence."""
    for number, clip in enumerate(CLIPS, 1):
        soundfile.write(tmp_path / f"{clip}.wav", np.pad(voice(100 * number), RATE // 4), RATE)
    return Corpus(tmp_path, "synthetic", ravdess.index(tmp_path))


@pytest.mark.parametrize("f0", [65, 110, 163.7, 250, 440, 690])
def test_pitch_of_a_tone(f0):
    found = prosody.pitch(voice(f0))
    assert found == pytest.approx(np.full(len(found), f0), rel=0.01)


def test_noise_is_unvoiced_and_frames_are_20_ms_apart():
    assert np.isnan(prosody.pitch(noise())).all()
    assert len(prosody.pitch(voice(200, seconds=1.0))) == (RATE - 1024) // 320 + 1
    assert prosody.pitch(voice(200)[:500]).shape == (1,)  # shorter than a frame


def test_a_corpus_is_measured_clip_by_clip(corpus):
    table = prosody.measure(corpus)
    assert tuple(table.columns) == prosody.COLUMNS and list(table["clip"]) == list(corpus.index["clip"]) == list(CLIPS)
    assert table.f0_median.to_numpy() == pytest.approx([100, 200, 300], rel=0.01)
    found, speech = table.iloc[1], voice(200)
    assert found["seconds"] == pytest.approx(1.0) and found["speech_seconds"] == pytest.approx(0.5, abs=0.021)
    assert found["peak"] == pytest.approx(0.3, abs=1e-3)
    assert found["level_db"] == pytest.approx(10 * np.log10(np.mean(speech ** 2)), abs=0.2)
    assert found["f0_spread"] < 0.1 and found["voiced"] == 1


def test_spread_is_the_interquartile_range_in_semitones_and_noise_has_no_pitch(tmp_path):
    soundfile.write(tmp_path / "noise.wav", noise(), RATE)
    found = prosody.describe(tmp_path / "noise.wav")
    assert np.isnan(found["f0_median"]) and np.isnan(found["f0_spread"]) and found["voiced"] == 0
    soundfile.write(tmp_path / "glide.wav", voice(GLIDE, seconds=2.0), RATE)
    assert prosody.describe(tmp_path / "glide.wav")["f0_spread"] == pytest.approx(6, abs=0.3)
