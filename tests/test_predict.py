"""ser_utils.predict: one recording, many, long ones; whatever kind of file or array they come as."""

import dataclasses
import io
import json
import tracemalloc

import numpy as np
import pytest
import soundfile

from ser_utils import EMOTIONS, config, shipped
from ser_utils.config import PAD_DB
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features import audio, spectral
from ser_utils.predict import EmotionRecognizer
from ser_utils.training import fit, frontend

RATE = 16_000


def babble(seconds=1.5, rate=RATE, lead=0.3, seed=0):
    """Syllables of a made-up voice between two stretches of silence."""
    time, rng = np.arange(round(seconds * rate)) / rate, np.random.default_rng(seed)
    pitch = np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6))) / rate
    voice = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 12))
    silence = np.zeros(round(lead * rate))
    return np.concatenate([silence, 0.1 * voice * (1.1 + np.sin(2 * np.pi * 4 * time)), silence]).astype(np.float32)


class Pipe(io.BytesIO):
    def seekable(self):
        return False


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run whose network was never trained, but for what an answer needs."""
    import keras

    keras.utils.set_random_seed(1)
    settings = config.run_configs("quick", "ravdess", ["lstm"], ["actors"], [0])[0]
    settings = dataclasses.replace(settings, frames=64)
    folder = tmp_path_factory.mktemp("run")
    model = shipped.build(settings)
    model.get_layer("normalise").assign(np.full(80, -45.0), np.full(80, 12.0))
    model.save(folder / "model.keras")
    (folder / "run.json").write_text(json.dumps({"config": dataclasses.asdict(settings)}))
    return folder


@pytest.fixture(scope="module")
def recognizer(run):
    return EmotionRecognizer.load(run)


def test_a_clip_is_judged_as_training_would_have_it(recognizer, tmp_path):
    soundfile.write(tmp_path / "a.wav", babble(), RATE)
    found = recognizer.predict(tmp_path / "a.wav")
    features = recognizer.config.features
    logmel = spectral.log_mel(audio.load_speech(tmp_path / "a.wav", RATE, features.top_db), features)
    expected = fit.predict(recognizer.model, spectral.fit_length(logmel[None, :64], [64], 64))
    first = recognizer.judge(found.windows[:1])
    np.testing.assert_allclose(first, expected, atol=1e-5)
    assert len(logmel) == 76 and len(found.windows) == 2  # one that begins with the speech, one that ends with it
    np.testing.assert_array_equal(found.windows[1], logmel[12:])
    assert found.seconds == pytest.approx(2.1, abs=0.01) and found.speech == pytest.approx(1.5, abs=0.05)
    assert list(found.probabilities) == list(EMOTIONS) and sum(found.probabilities.values()) == pytest.approx(1)
    assert found.confidence == found.probabilities[found.label] == max(found.probabilities.values())


def test_windows_that_hold_digital_silence_alone_are_not_judged(recognizer):
    gap = np.concatenate([babble(1.0), np.zeros(4 * RATE, np.float32), babble(1.0)])
    starts, windows, frames = recognizer.windows(gap)
    assert (windows > PAD_DB).any(axis=(1, 2)).all() and 1 < len(windows) == len(starts) < frames // 16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recognizer, "windows", lambda speech: (starts[:0], windows[:0], 0))  # as of clicks at 192 kHz
        table = recognizer.predict_many([(babble(), RATE), (gap, RATE)], progress=False)
        assert table.error.str.contains("holds nothing that is left").all()
        with pytest.raises(audio.AudioError, match="holds nothing that is left"):
            recognizer.timeline((gap, RATE))


def test_a_temperature_moves_the_confidence_and_not_the_answer(recognizer):
    hot = EmotionRecognizer(recognizer.model, recognizer.config, 3.0)
    one, other = recognizer.predict((babble(), RATE)), hot.predict((babble(), RATE))
    assert one.label == other.label and other.confidence < one.confidence
    logs = np.log(list(one.probabilities.values()))
    np.testing.assert_allclose(list(other.probabilities.values()), np.exp(logs / 3) / np.exp(logs / 3).sum(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "pipe", "int16", "channels first", "stereo"])
def test_a_recording_may_come_in_any_of_these_ways(recognizer, tmp_path, kind):
    wave, path = np.round(babble() * 32_767).astype(np.int16), tmp_path / "a.wav"
    soundfile.write(path, wave, RATE)
    given = {"path": path, "text": str(path), "bytes": path.read_bytes(), "file": io.BytesIO(path.read_bytes()),
             "pipe": Pipe(path.read_bytes()), "int16": (wave, RATE), "channels first": (np.stack([wave, wave]), RATE),
             "stereo": (np.stack([wave, wave], axis=1), float(RATE))}[kind]
    found, expected = recognizer.predict(given), recognizer.predict((wave / np.float32(32_768), RATE))
    np.testing.assert_allclose(list(found.probabilities.values()), list(expected.probabilities.values()), atol=1e-4)


def test_one_bad_file_does_not_stop_the_others(recognizer, tmp_path, capsys):
    for name, seconds in (("0.wav", 1), ("1.wav", 2), ("long.wav", 12)):
        soundfile.write(tmp_path / name, babble(seconds, seed=seconds), RATE)
    (tmp_path / "bad.wav").write_text("no sound")
    files = [tmp_path / name for name in ("0.wav", "bad.wav", "gone.wav", "long.wav", "1.wav")]
    table = recognizer.predict_many(files)
    assert list(table.file) == list(map(str, files)) and list(table.error != "") == [0, 1, 1, 0, 0]
    assert "can't be decoded" in table.error[1] and "There is no audio file" in table.error[2]
    assert table.loc[1, PROBABILITIES].isna().all() and table.label.notna().sum() == 3
    for row in (0, 3, 4):
        alone = recognizer.predict(files[row])
        assert table.label[row] == alone.label and table.confidence[row] == pytest.approx(alone.confidence, abs=1e-4)
    assert "5/5" in capsys.readouterr().err and recognizer.predict_many([], progress=False).empty
    one = "a.wav", files[0], b"RIFF", bytearray(4), io.BytesIO(), (babble(), RATE)
    assert [len(audio.listed(given)) for given in (*one, files, ("a.wav", "b.wav"))] == [1] * 6 + [5, 2]
    (short,) = recognizer.predict_many(str(files[0]), progress=False).file
    assert short == str(files[0]) and "0.3 s of speech" in recognizer.predict((babble()[6_000:10_800], RATE)).notes[0]


def test_a_voice_is_enrolled_by_recordings_of_sentences(tmp_path, run):
    recognizer = EmotionRecognizer.load(run)
    heard = [recognizer.predict((babble(seed=seed), RATE)).windows for seed in range(3)]
    for first in (5, 0):  # another voice before is forgotten
        recognizer.enrol((babble(seed=first + seed), RATE) for seed in range(3))
    again, last = EmotionRecognizer.load(run), babble(seed=9)
    frontend.enrol(again.model, np.concatenate(heard), 3)
    assert recognizer.predict((last, RATE)).probabilities == pytest.approx(again.predict((last, RATE)).probabilities)
    with pytest.raises(audio.AudioError, match="The recording is longer than 10 s: cut it"):
        recognizer.enrol([(babble(11), RATE)])


def test_what_is_heard_does_not_depend_on_the_sample_rate(recognizer):
    low, high = (recognizer.predict((babble(rate=rate), rate)) for rate in (RATE, 48_000))
    assert high.speech == pytest.approx(low.speech, abs=0.03)
    assert high.probabilities == pytest.approx(low.probabilities, abs=0.02)


def test_a_tone_that_the_network_can_not_hear_leaves_no_step_without_an_answer(recognizer):
    tone = 0.3 * np.sin(2 * np.pi * 20_000 * np.arange(8 * 48_000) / 48_000)
    speech = audio.resample(babble(2.0, lead=0), RATE, 48_000)
    table = recognizer.timeline((np.concatenate([speech, tone, speech]), 48_000))
    assert len(table) > 4 and table.notna().all(axis=None) and table.start.is_monotonic_increasing


def test_a_timeline_follows_who_speaks_when(recognizer, tmp_path):
    silence = np.zeros(RATE, np.float32)
    parts = [babble(1.0, lead=0), silence, silence, silence, babble(5.0, lead=0, seed=1), silence]
    soundfile.write(tmp_path / "long.flac", np.concatenate(parts), RATE)
    table = recognizer.timeline(tmp_path / "long.flac")
    assert table.attrs["seconds"] == pytest.approx(10)
    assert table.start.iloc[0] == pytest.approx(0, abs=0.05) and table.end.iloc[0] == pytest.approx(1, abs=0.05)
    rest = table[1:]
    assert rest.start.iloc[0] == pytest.approx(4, abs=0.05) and rest.end.iloc[-1] == pytest.approx(9, abs=0.05)
    assert len(rest) == 16 and np.allclose(rest.end[:-1], rest.start[1:])  # 251 frames in steps of 16
    alone = recognizer.predict((parts[0], RATE))
    assert table.label[0] == alone.label and table.confidence[0] == pytest.approx(alone.confidence, abs=0.01)
    np.testing.assert_allclose(table[PROBABILITIES].sum(axis=1), 1, atol=1e-5)
    soundfile.write(tmp_path / "twice.wav", np.concatenate(parts + parts), RATE)
    whole = recognizer.predict(Pipe((tmp_path / "twice.wav").read_bytes()))
    twice = recognizer.timeline(Pipe((tmp_path / "twice.wav").read_bytes()))
    lengths = twice.end - twice.start
    assert whole.confidence == pytest.approx((lengths @ twice[f"p_{whole.label}"]) / lengths.sum())
    both, errors = recognizer.timelines([(parts[4], RATE), (parts[4], 1), (parts[0], RATE)])  # nameless, all three
    assert (both.start < 0.1).sum() == 2 and len(errors) == 1


def test_the_memory_of_a_timeline_does_not_grow_with_the_length(recognizer, tmp_path):
    minute = np.concatenate([babble(9.0, 8_000, 0.5, seed) for seed in range(6)])
    peaks = []
    for minutes in (8, 2, 8):  # by the first the network is traced for all batches
        with soundfile.SoundFile(tmp_path / "a.wav", "w", 8_000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        tracemalloc.start()
        table = recognizer.timeline(tmp_path / "a.wav")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert table.end.iloc[-1] == pytest.approx(60 * minutes, abs=1)
    assert peaks[2] < 1.1 * peaks[1]


def test_what_is_not_a_run_is_said(tmp_path, run):
    for there, said in (({}, "no run.json"), ({"run.json": None}, "no model.keras"),
                        ({"model.keras": 999}, "can't be loaded")):
        for name, most in there.items():
            (tmp_path / name).write_bytes((run / name).read_bytes()[:most])
        with pytest.raises(shipped.WeightsError, match=said):
            EmotionRecognizer.load(tmp_path)
