"""Degraded sound: each degradation does what its level says, and the networks' answers are kept as promised."""

import functools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.signal
from fakes import edit
from tiny import tiny_network

from ser_utils.config import RunConfig
from ser_utils.data import folds
from ser_utils.evaluation import metrics
from ser_utils.features import audio, spectral
from ser_utils.paths import RESULTS
from ser_utils.studies import controls, robustness
from ser_utils.training import fit, frontend, runs

RATE = 48_000


def speech(seconds=2.0, silence=0.5, rate=RATE):
    """A buzz of 150 Hz in syllables, silence on both sides, (samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = 0.1 * scipy.signal.sawtooth(2 * np.pi * 150 * time) * (1.2 + np.sin(2 * np.pi * 3 * time))
    return np.pad(buzz, round(silence * rate)).astype(np.float32)


def tones(*frequencies, seconds=1.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return sum(0.1 * np.sin(2 * np.pi * f * time) for f in frequencies).astype(np.float32)


def gain_db(before, after, frequency):
    turning = np.hanning(RATE // 2) * np.exp(-2j * np.pi * frequency * np.arange(RATE // 2) / RATE)
    first, then = (abs(wave[len(wave) // 2 - RATE // 4:][: RATE // 2] @ turning) for wave in (before, after))
    return 20 * np.log10(then / first)


def seconds_of(wave):
    return len(robustness.speech(wave, RATE)) / RATE


VOICES = [speech(1.0 + number / 4, 0.0) * (1 + number) for number in range(8)]


@pytest.mark.parametrize("kind", robustness.NOISES)
def test_noise_is_that_of_the_clip_and_has_the_ratio_to_the_speech_that_its_level_says(kind):
    wave = speech()
    inside = slice(*audio.speech_bounds(wave, RATE, robustness.TOP_DB))
    made = robustness.degraded(wave, RATE, kind, "a clip", VOICES)
    for noisy, level in zip(made, robustness.LEVELS[kind], strict=True):
        noise = noisy.astype(float) - wave
        assert 10 * np.log10((wave[inside] ** 2).mean() / (noise**2).mean()) == pytest.approx(level, abs=0.05)
        assert len(noisy) == len(wave) and noise[: RATE // 2].std() > 0, "it is there before the speech, too"
    again, other = (robustness.degraded(wave, RATE, kind, name, VOICES)[0] for name in ("a clip", "another"))
    assert np.array_equal(made[0], again) and not np.allclose(made[0], other, atol=1e-4)


def test_music_holds_few_tones_and_babble_so_many_voices_alike_in_power():
    power = scipy.signal.welch(robustness.music(2 * RATE, RATE, np.random.default_rng(0)), RATE)[1][1:-1]
    assert np.exp(np.log(power).mean()) < 0.2 * power.mean()  # white noise: equal
    told = [np.sin(2 * np.pi * f * np.arange(RATE) / RATE) * f for f in range(200, 1000, 100)]
    power = np.abs(np.fft.rfft(robustness.babble(RATE, np.random.default_rng(0), told))) ** 2
    heard = power[200:1000:100] / power.max()
    assert (heard > 0.99).sum() == robustness.VOICES and np.sort(heard)[: len(told) - robustness.VOICES].max() < 1e-6


@pytest.mark.parametrize("seconds", robustness.ROOMS)
def test_a_room_dies_away_in_the_time_it_is_named_after(seconds):
    response = robustness.room_response(seconds, RATE)
    left = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / (response**2).sum())
    measured = 3 * ((left < -25).argmax() - (left < -5).argmax()) / RATE  # Schroeder (1965), from -5 to -25 dB
    assert measured == pytest.approx(seconds, rel=0.1)
    metres = np.linalg.norm(np.subtract(*robustness.ROOMS[seconds][1:]))
    assert response.nonzero()[0][0] == pytest.approx(metres / robustness.SOUND * RATE, abs=1)


def test_a_room_prolongs_the_speech_and_keeps_its_level():
    wave = speech()
    for heard in robustness.degraded(wave, RATE, "room", ""):
        before, after = (robustness.speech(one, RATE).std() for one in (wave, heard))
        assert after == pytest.approx(before, rel=0.02) and seconds_of(heard) > seconds_of(wave)


def test_bands_end_where_they_should():
    wave = tones(150, 1000, 3700, 4400)
    sampled, telephone = ([gain_db(wave, made, f) for f in (150, 1000, 3700, 4400)]
                          for made in robustness.degraded(wave, RATE, "band", ""))
    assert sampled[:3] == pytest.approx([0, 0, 0], abs=1) and sampled[3] < -40
    assert abs(telephone[1]) < 1 and max(telephone[0], *telephone[2:]) < -10
    edges = [gain_db(tones(f), robustness.band(tones(f), RATE, 3400), f) for f in (300, 3400)]
    assert edges == pytest.approx([-3, -3], abs=0.5)


@pytest.mark.parametrize("codec, kbits", [("mp3", 64), ("mp3", 16), ("opus", 16)])
def test_a_codec_keeps_its_bit_rate_and_its_band(codec, kbits):
    noise = (0.1 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)
    file = robustness.encode(noise, RATE, codec, kbits)
    assert 8 * len(file.getvalue()) / 4 / 1000 == pytest.approx(kbits, rel=0.1)
    decoded = robustness.CHANGES[codec](tones(440, seconds=3), RATE, kbits)
    assert abs(gain_db(tones(440, seconds=3), decoded, 440)) < 1 and abs(len(decoded) / RATE - 3) < 0.12
    if (codec, kbits) == ("mp3", 16):
        power = np.abs(np.fft.rfft(robustness.coded(noise, RATE, kbits, codec))) ** 2
        assert power[len(power) // 3 + 100:].sum() < 1e-3 * power.sum(), "sampled at 16 kHz: nothing above 8 kHz"


def test_levels_are_in_16_bits_and_clip_at_full_scale():
    wave = 0.5 * tones(440) / 0.1
    for made, level in zip(robustness.degraded(wave, RATE, "level", ""), robustness.LEVELS["level"], strict=True):
        assert np.array_equal(made * 2**15, np.rint(made * 2**15)) and made.max() <= 1 - 2**-15
        assert ((np.abs(made) >= 1 - 2**-15).mean() > 0.2) == (level == 12)  # 0.5 is 6 dB below full scale
        assert level > 0 or gain_db(wave, made, 440) == pytest.approx(level, abs=0.1)


def test_speed_changes_length_and_pitch_alike():
    wave = tones(440, seconds=2)
    for made, factor in zip(robustness.degraded(wave, RATE, "speed", ""), robustness.LEVELS["speed"], strict=True):
        assert len(made) == pytest.approx(len(wave) / factor, abs=2)
        assert gain_db(tones(440 * factor, seconds=2), made, 440 * factor) == pytest.approx(0, abs=0.1)


def test_what_is_cut_off_ends_so_long_after_the_speech_began():
    wave = speech(3.0)
    for made, seconds in zip(robustness.degraded(wave, RATE, "cut", ""), robustness.LEVELS["cut"], strict=True):
        assert seconds_of(made) == pytest.approx(seconds, abs=0.021) and np.array_equal(made, wave[: len(made)])


def test_the_published_answers_are_whole_and_small(monkeypatch):
    monkeypatch.setattr(robustness, "RESULTS", RESULTS)  # whichever test came before
    table = robustness.load()
    for (_, model, condition, _), part in table.groupby(["training", "model", "condition", "subset"]):
        runs.check_predictions(part, f"{model}, {condition}", rows=240)
    levels = sum(map(len, robustness.LEVELS.values()))
    assert set(table.groupby(["training", "model"]).condition.nunique()) == {1 + levels}
    assert sum(path.stat().st_size for path in (RESULTS / "robustness").rglob("*")) < 9e6
    for path in (RESULTS / "robustness").glob("*/*/run.json"):
        told = json.loads(path.read_text())
        assert told["variants"] == 1 and (told["protocol"], told["fold"]) == ("actors", robustness.FOLD)
        assert (told["config"]["augment"]["noise_probability"] == 0) == (path.parts[-3] == "quiet")


@pytest.fixture(scope="module")
def judged(tiny_corpus, tiny_store, tmp_path_factory):
    """The folder of runs/, six of one network, and of what the command made of them, robustness/."""
    root, store = tmp_path_factory.mktemp("robustness"), spectral.read(tiny_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontend, "assemble", tiny_network)
        patch.setattr(robustness.corpora, "find", lambda kind: tiny_corpus)
        patch.setattr(robustness, "RESULTS", root)
        patch.setattr(robustness, "LEVELS", {"white": (20, 0), "level": (-20,), "cut": (1,)})
        patch.setattr(robustness, "TRAININGS", {"usual": "synthetic-quick", "quiet": "quiet/synthetic-quick"})
        patch.setattr(robustness, "stores", functools.partial(robustness.stores, folder=tiny_store.parent / "cache"))
        patch.setattr(controls, "penultimate", lambda *_: store.index.actor.to_numpy()[:, None] ** 2.0)
        config = RunConfig("quick", "synthetic", "actors", "alexnet", 0, epochs=1, frames=64, augment=None)
        trained = fit.run(config, store, root / "runs", progress=False)
        for fold in range(1, 6):
            copy = shutil.copytree(trained.dir, trained.dir.with_name(f"fold{fold}"))
            edit(copy / "run.json", fold=fold, config=trained.info["config"] | {"fold": fold})
        assert robustness.main(["--runs", str(root / "runs")]) == 0
        yield root


def test_answers_by_clip_and_condition_and_facts_of_every_voice_are_published(judged, tiny_store):
    table, index = robustness.load(), spectral.read(tiny_store).index
    rows = folds.split(index, "actors", 0)
    counts = table.groupby(["condition", "subset"]).size()
    assert counts.to_dict() == {("clean", "val"): len(rows["val"])} | {
        (name, "test"): len(rows["test"]) for name in ("clean", "white 20", "white 0", "level -20", "cut 1")}
    for _, part in table.groupby("condition"):
        runs.check_predictions(part, "answers")
    assert set(table[table.subset == "test"]["clip"]) == set(index["clip"].iloc[rows["test"]])
    voices, heard = (pd.read_csv(judged / "robustness" / name) for name in ("actors.csv", "seconds.csv"))
    assert heard.set_index("condition").seconds["white 0"] > heard.seconds[0] and heard.seconds.iloc[-1] <= 1.02
    assert list(voices.actor) == list(range(1, 25)) and voices.notna().all(axis=None)
    known = np.array([2, 3, 5, 6, 7, 8, 9, 13, 15, 16, 17, 18, 19, 22, 23, 24]) ** 2.0  # trained on where 11 is tested
    nearest = np.mean([np.abs(np.delete(known, at) - one).min() for at, one in enumerate(known)])
    assert voices.distance[10] == pytest.approx((11**2 - 9**2) / nearest, abs=1e-3)


def test_clean_answers_are_those_of_the_run_and_features_of_quiet_clips_lie_lower(judged, tiny_store):
    published = runs.Run(judged / "runs/synthetic-quick/actors/alexnet/fold0").predictions.set_index("clip")
    clean = robustness.load().query("condition == 'clean'").set_index("clip").loc[published.index]
    assert np.abs(clean[metrics.PROBABILITIES] - published[metrics.PROBABILITIES]).to_numpy().max() < 1e-4
    store, quiet = spectral.read(tiny_store), spectral.read(next((tiny_store.parent / "cache").rglob("level--20.npz")))
    rows = folds.split(store.index, "actors", 0)["test"]
    loud = store.logmel[rows][:, : quiet.logmel.shape[1]]
    assert np.median((loud - quiet.logmel)[loud > -70]) == pytest.approx(20, abs=0.1)


def test_a_second_call_judges_only_what_is_new(judged, monkeypatch, tmp_path):
    monkeypatch.setattr(robustness, "judge", lambda *_: pytest.fail("judged again"))
    assert robustness.main(["--runs", str(judged / "runs")]) == 0
    told = json.loads((note := judged / "robustness/usual/alexnet/run.json").read_text())
    assert told["variants"] == 1 and told["conditions"] == ["clean", "white 20", "white 0", "level -20", "cut 1"]
    edit(note, config_hash="of another training")
    with pytest.raises(pytest.fail.Exception, match="judged again"):
        robustness.main(["--runs", str(judged / "runs")])
    edit(note, **told)
    monkeypatch.setattr(robustness, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="make robustness"):
        robustness.load()
