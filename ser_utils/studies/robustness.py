"""Degraded sound: what trained networks make of test clips with noise, echo, narrow bands, codecs and other levels.

The silence around the speech is cut as in a user's recording, so that what degrades the sound also moves the cuts.
"""

import argparse
import functools
import io
import itertools
import json
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.signal
import soundfile
from scipy.spatial.distance import cdist

from ser_utils import FOLDS
from ser_utils.config import PROFILES, FeatureConfig, from_dict
from ser_utils.data import corpus as corpora
from ser_utils.data.folds import split
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features import audio, prosody, spectral
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import DATA, RESULTS, RUNS, write_text
from ser_utils.studies import controls
from ser_utils.training import fit, frontend, grid, runs

TOP_DB = FeatureConfig().top_db
VOICES = 6           # that babble at once
SOUND = 343.0        # m/s
NARROW_RATE = 8_000  # Hz, of a telephone
ROOMS = {  # reverberation time (s): size, loudspeaker, microphone (m); a bedroom, a classroom, a hall
    0.3: ((4.0, 3.0, 2.5), (1.1, 1.2, 1.5), (2.2, 1.9, 1.3)),
    0.6: ((7.0, 5.5, 3.6), (2.1, 2.3, 1.6), (4.0, 3.4, 1.2)),
    1.2: ((15.0, 12.0, 9.0), (4.2, 5.1, 1.7), (8.1, 6.6, 1.2))}


def babble(samples: int, rng: np.random.Generator, voices: Sequence[np.ndarray]) -> np.ndarray:
    """``VOICES`` of the given voices at once, (samples,): alike in power, each repeated from a point at random."""
    chosen = [voices[number] for number in rng.choice(len(voices), VOICES, replace=False)]
    return sum(np.resize(np.roll(voice, rng.integers(len(voice))), samples) / np.std(voice) for voice in chosen)


def music(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Like music, (samples,): every half second another chord of four notes, eight harmonics each, that die away."""
    out = np.zeros(samples)
    for start in range(0, samples, rate // 2):
        time = np.arange(min(rate, samples - start)) / rate
        for note in rng.integers(12) + [0, *rng.choice([3, 4, 5, 7, 9, 12], 3, replace=False)]:
            turn = np.exp(2j * np.pi * 110 * 2 ** (note / 12) * time)  # its powers are the harmonics
            out[start:start + len(time)] += np.exp(-3 * time) * np.polyval([*1 / np.arange(8, 0, -1), 0], turn).imag
    return out


def speech(wave: np.ndarray, rate: int) -> np.ndarray:
    """A waveform (samples,) without the silence around its speech, as the front end cuts it."""
    return wave[slice(*audio.speech_bounds(wave, rate, TOP_DB))]


@functools.cache
def room_response(seconds: float, rate: int) -> np.ndarray:
    """Impulse response of one of ``ROOMS`` by the image method of Allen and Berkley (1979), (samples,).

    All walls absorb alike, as much as Sabine's formula says; they reflect with changed sign, which spares the response
    a bias at low frequencies (Lehmann and Johansson 2008).
    """
    size, source, microphone = map(np.array, ROOMS[seconds])
    surface = 2 * (size.prod() / size).sum()
    reflection = -np.sqrt(1 - 24 * np.log(10) * size.prod() / (SOUND * surface * seconds))
    ways, hits = [], []
    for length, here, there in zip(size, source, microphone, strict=True):
        n = np.arange(-np.ceil(SOUND * seconds / 2 / length), np.ceil(SOUND * seconds / 2 / length) + 1)
        ways.append(np.concatenate([2 * n * length + here - there, 2 * n * length - here - there]) ** 2)
        hits.append(np.concatenate([2 * np.abs(n), np.abs(n - 1) + np.abs(n)]))
    distance = np.sqrt(functools.reduce(np.add.outer, ways)).ravel()
    strength = reflection ** functools.reduce(np.add.outer, hits).ravel() / distance
    delay = np.rint(distance / SOUND * rate).astype(int)
    return np.bincount(delay, weights=strength)[: round(seconds * rate)]


def room(wave: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """A recording in one of ``ROOMS``, its echo at the end included; the speech is brought to its level before."""
    heard = scipy.signal.fftconvolve(wave, room_response(seconds, rate))
    return (heard * np.std(speech(wave, rate)) / np.std(speech(heard, rate))).astype(np.float32)


def band(wave: np.ndarray, rate: int, edge: float) -> np.ndarray:
    """Sampled at 8 kHz and back; with an ``edge`` below 4,000 Hz also a telephone's band from 300 Hz to it."""
    narrow = audio.resample(wave, rate, NARROW_RATE)
    if edge < NARROW_RATE / 2:
        sections = scipy.signal.butter(6, (300, edge), "bandpass", fs=NARROW_RATE, output="sos")
        narrow = scipy.signal.sosfilt(sections, narrow).astype(np.float32)
    return audio.resample(narrow, NARROW_RATE, rate)


def encode(wave: np.ndarray, rate: int, codec: str, kbits: float) -> io.BytesIO:
    """A file of ``codec`` "mp3" or "opus" at so many kbit/s by libsndfile; MP3 below 32 kbit/s is sampled at 16 kHz."""
    file, how = io.BytesIO(), {"opus": {"format": "OGG", "subtype": "OPUS"}, "mp3": {
        "format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}}[codec]
    least, most, at = (6, 256, 48_000) if codec == "opus" else (32, 320, 48_000) if kbits >= 32 else (8, 160, 16_000)
    strength = (most - kbits) / (most - least)
    soundfile.write(file, audio.resample(wave, rate, at), at, **how, compression_level=strength)
    file.seek(0)
    return file


def coded(wave: np.ndarray, rate: int, kbits: float, codec: str) -> np.ndarray:
    """A recording encoded by :func:`encode` and decoded again."""
    return audio.resample(*soundfile.read(encode(wave, rate, codec, kbits), dtype="float32"), rate)


def level(wave: np.ndarray, rate: int, gain_db: float) -> np.ndarray:
    """Recorded so much louder, in 16 bits: what exceeds full scale is clipped, what is below one step is lost."""
    return (np.clip(np.rint(wave * 2.0**15 * 10 ** (gain_db / 20)), -(2**15), 2**15 - 1) / 2**15).astype(np.float32)


def cut(wave: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """Broken off so many seconds after the speech begins."""
    return wave[: audio.speech_bounds(wave, rate, TOP_DB)[0] + round(seconds * rate)]


NOISES = ("white", "babble", "music")
CHANGES = {
    "room": room, "band": band, "mp3": functools.partial(coded, codec="mp3"),
    "opus": functools.partial(coded, codec="opus"), "level": level, "cut": cut,
    "speed": lambda wave, rate, factor: audio.resample(wave, round(rate * factor), rate)}  # and pitch, as on a tape
LEVELS = {  # of each kind, mild to severe
    **dict.fromkeys(NOISES, (30, 20, 10, 5, 0)),  # mean power of the speech over the noise's, dB
    "room": tuple(ROOMS), "band": (4000, 3400), "mp3": (64, 16), "opus": (16,),  # s, Hz, kbit/s
    "level": (-30, -20, -10, 6, 12), "speed": (0.8, 0.9, 1.1, 1.2), "cut": (2, 1.5, 1)}  # dB, times, s


def degraded(wave: np.ndarray, rate: int, kind: str, clip: str, voices: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """A recording (samples,) at each of a kind's ``LEVELS``; a clip always gets the same noise, throughout."""
    if kind in CHANGES:
        return [CHANGES[kind](wave, rate, amount) for amount in LEVELS[kind]]
    rng = np.random.default_rng(zlib.crc32(f"{kind} {clip}".encode()))
    noise = (babble(len(wave), rng, voices) if kind == "babble" else music(len(wave), rate, rng) if kind == "music"
             else rng.standard_normal(len(wave)))
    scale = np.std(speech(wave, rate)) / np.std(noise)
    return [(wave + scale * 10 ** (-snr_db / 20) * noise).astype(np.float32) for snr_db in LEVELS[kind]]


# Name -> folder below the runs': as published; without noise in its augmentation; with much more augmentation.
TRAININGS = {"usual": "ravdess-full", "quiet": "clean/ravdess-full", "robust": "ravdess-robust"}
CLEAN, FOLD = "clean", 0
TOLD = ("model", "protocol", "fold", "seed", "corpus", "config", "config_hash", "device", "versions", "revision")
COLUMNS = ["condition", "clip", "subset", "label", *PROBABILITIES]


def stores(corpus: corpora.Corpus, features: FeatureConfig,
           folder: Path = DATA / "features") -> dict[str, spectral.FeatureStore]:
    """Features of the test clips of fold 0 of unseen actors under every condition; computed once, kept in ``folder``.

    "clean" holds all clips. Babble is speech of the validation actors, whom networks are neither trained nor tested on.
    """
    found = {CLEAN: spectral.extract(corpus, features, folder)}
    rows = split(corpus.index, "actors", FOLD)
    test = corpus.index.iloc[rows["test"]].set_index("path")["clip"]
    voices = [speech(*audio.load(path)) for path in corpus.index.path.iloc[rows["val"]]]
    place = spectral.store_path(corpus, features, folder).with_suffix("")

    def logmels(path: str, kind: str) -> list[np.ndarray]:
        wave, rate = audio.load(path)
        return [spectral.log_mel(audio.resample(speech(made, rate), rate, features.sample_rate), features)
                for made in degraded(wave, rate, kind, test[path], voices)]

    for kind, amounts in LEVELS.items():
        paths = {f"{kind} {amount:g}": place / f"{kind}-{amount:g}.npz" for amount in amounts}
        if not all(path.exists() for path in paths.values()):
            made = audio.each(functools.partial(logmels, kind=kind), test.index, kind.capitalize())
            for path, logmel in zip(paths.values(), zip(*made, strict=True), strict=True):
                spectral.write(spectral.padded(features, corpus.kind, test.to_numpy(str),
                                               np.array([len(one) for one in logmel]), np.concatenate(logmel)), path)
        found |= {condition: spectral.read(path) for condition, path in paths.items()}
    return found


def judge(run: runs.Run, sound: dict[str, spectral.FeatureStore]) -> pd.DataFrame:
    """A network's answers under every condition, each clip judged once as it is (no test-time augmentation).

    ``COLUMNS``: validation clips are there without degradation only; probabilities have four decimals.
    """
    model, frames, parts = frontend.load(run.dir), run.info["config"]["frames"], []
    for condition, store in sound.items():
        for subset in ("test", "val") if condition == CLEAN else ("test",):
            rows = split(store.index, "actors", FOLD)[subset]
            told = fit.predict(model, spectral.fit_length(store.logmel[rows], store.lengths[rows], frames))
            part = runs.prediction_table(store.clips[rows], store.index.label.to_numpy()[rows], told, subset)
            parts.append(part.assign(condition=condition))
    return pd.concat(parts)[COLUMNS].round(4)


def load() -> pd.DataFrame:
    """All published answers: training, model, ``COLUMNS``, prediction (0-7). FileNotFoundError where there is none."""
    folder = RESULTS / "robustness"
    parts = [pd.read_csv(path).assign(training=training, model=model) for training in TRAININGS for model in MODEL_NAMES
             if (path := folder / training / model / "predictions.csv").exists()]
    if not parts:
        raise FileNotFoundError(f"{folder} holds no answers: `make robustness` writes them.")
    table = pd.concat(parts, ignore_index=True)
    return table.assign(prediction=table[PROBABILITIES].to_numpy().argmax(axis=1))


def voice_facts(corpus: corpora.Corpus, store: spectral.FeatureStore, found: Iterable[runs.Run]) -> pd.DataFrame:
    """What might make a voice hard, a row an actor, from a network's runs on all folds of unseen actors, with weights.

    Means over clips: f0_median (Hz), f0_spread (semitones), level_db, speech_seconds. distance: of a mean input of the
    last layer from the nearest training voice's; 1 is what training voices have, on average.
    """
    facts = prosody.measure(corpus)[["f0_median", "f0_spread", "level_db", "speech_seconds"]]
    table = facts.groupby(corpus.index.actor.to_numpy()).mean().rename_axis("actor")
    for run in found:
        data, actors = fit.prepare(from_dict(run.info["config"]), store), store.index.actor.to_numpy()
        means = pd.DataFrame(controls.penultimate(run, data.logmel)).groupby(actors).mean()
        known, new = (means.loc[np.unique(actors[data.rows[part]])] for part in ("train", "test"))
        apart = cdist(known, known) + np.diag(np.full(len(known), np.inf))
        table.loc[new.index, "distance"] = cdist(new, known).min(axis=1) / apart.min(axis=1).mean()
    return table.round(4).reset_index()


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.studies.robustness``: degraded sound, judged by every network that has not done so."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.robustness", description=main.__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of trained runs, with weights (default: runs)")
    options = parser.parse_args(arguments)
    corpus, folder = corpora.find("ravdess"), RESULTS / "robustness"
    sound = stores(corpus, PROFILES["full"].features)
    for (training, place), model in itertools.product(TRAININGS.items(), MODEL_NAMES):
        run = runs.Run(options.runs / place / "actors" / model / f"fold{FOLD}")
        if not (run.dir / "run.json").exists():
            continue
        told = {key: run.info.get(key) for key in TOLD} | {"conditions": list(sound), "variants": 1}
        note = folder / training / model / "run.json"
        if not note.exists() or json.loads(note.read_text()) != told:
            runs.write_csv(judge(run, sound), note.with_name("predictions.csv"))
            write_text(note, json.dumps(told, indent=1) + "\n")
    whole = [runs.Run(options.runs / TRAININGS["usual"] / "actors/alexnet" / f"fold{fold}") for fold in range(FOLDS)]
    if all((run.dir / "run.json").exists() for run in whole):
        runs.write_csv(voice_facts(corpus, sound[CLEAN], whole), folder / "actors.csv")
    heard = [(name, store.lengths[split(store.index, "actors", FOLD)["test"]].mean()
              * store.config.hop_length / store.config.sample_rate) for name, store in sound.items()]
    runs.write_csv(pd.DataFrame(heard, columns=["condition", "seconds"]).round(3), folder / "seconds.csv")
    answers = load().query("subset == 'test'").assign(right=lambda table: 100.0 * (table.label == table.prediction))
    print(answers.pivot_table("right", "condition", ["training", "model"]).reindex(sound).round(1).to_string())


if __name__ == "__main__":
    sys.exit(main())
