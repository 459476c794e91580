"""An answer for any recording: how fast, beside a plain loop, and what a recording's defects cost in accuracy.

The plain loop is ``librosa.load``, ``melspectrogram`` and ``model.predict``, one file after the other, with the same
network. Both are measured in turns in this run. ``--accuracy RUN...`` takes runs under ``actors`` with their weights
and prints how many of their test clips are recognised as they are, cut, resampled, coded and quieter.
"""

import argparse
import functools
import itertools
import resource
import statistics
import tempfile
import time
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile

from ser_utils import EMOTIONS
from ser_utils.config import WEIGHTS
from ser_utils.data import corpus, folds
from ser_utils.features import audio, spectral
from ser_utils.predict import EmotionRecognizer
from ser_utils.studies import robustness


def plain(recognizer: EmotionRecognizer, path: str, long: bool = False) -> None:
    """The loop's body; a long recording is cut into windows of the network's length."""
    features, frames = recognizer.config.features, recognizer.config.frames
    wave, _ = librosa.load(path, sr=features.sample_rate)
    logmel = spectral.log_mel(librosa.effects.trim(wave, top_db=features.top_db)[0], features)
    for start in range(0, len(logmel) if long else 1, frames):
        part = logmel[None, start: start + frames]
        recognizer.model.predict(spectral.fit_length(part, [part.shape[1]], frames), verbose=0)


def seconds(function, *arguments) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def speed(recognizer: EmotionRecognizer, paths: list[str], minutes: float) -> None:
    """A long recording, while memory has held nothing else; one clip, all clips."""
    one = functools.partial(recognizer.predict, versions=1)
    one(paths[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.flac"
        with soundfile.SoundFile(path, "w", 48_000, 1, "PCM_16") as file:
            for clip in itertools.cycle(paths):
                file.write(audio.resample(*audio.load(clip), 48_000))
                if file.frames > 60 * minutes * 48_000:
                    break
        taken = seconds(recognizer.timeline, path)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        for clip in paths[:3]:
            one(clip), plain(recognizer, clip)
        loop = seconds(plain, recognizer, path, True)
        print(f"{minutes:g} minutes: {taken:.1f} s, plain {loop:.1f} s, {loop / taken:.1f} times as fast with "
              f"four times as many windows; largest memory {memory:.2f} GiB.")
    pairs = [(seconds(one, path), seconds(plain, recognizer, path)) for path in paths[:: max(len(paths) // 100, 1)]]
    ours, loop = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"One clip, warm: {ours:.1f} ms, plain {loop:.1f} ms, {loop / ours:.1f} times as fast.")
    taken = seconds(functools.partial(recognizer.predict_many, versions=1), paths)
    few = paths[:: max(len(paths) // 100, 1)]
    loop = sum(seconds(plain, recognizer, path) for path in few) / len(few) * len(paths)
    print(f"{len(paths):,} clips: {taken:.1f} s, plain {loop:.1f} s, {loop / taken:.1f} times as fast.")


def defects() -> dict:
    """Name -> function of (wave, rate) that gives what ``predict`` takes."""
    def at(rate):
        return lambda wave, was: (audio.resample(wave, was, rate), rate)
    return {"as it is": lambda wave, rate: (wave, rate), "cut to 2.4 s": lambda wave, rate: (
        robustness.cut(wave, rate, 2.4), rate), "16 kHz": at(16_000), "8 kHz": at(8_000),
        "MP3, 64 kbit/s": lambda wave, rate: robustness.encode(wave, rate, "mp3", 64).getvalue(),
        "20 dB quieter": lambda wave, rate: (robustness.level(wave, rate, -20), rate)}


def accuracy(found: corpus.Corpus, directories: list[Path]) -> None:
    """Print the accuracy of runs on their test clips under each defect, judged once, and with augmentation."""
    rows = []
    for directory in directories:
        recognizer = EmotionRecognizer.load(directory)
        if recognizer.config.learns == "all":
            raise SystemExit(f"{directory} has learned from every clip: there are none to test it on.")
        test = found.index.iloc[folds.split(found.index, "actors", recognizer.config.fold)["test"]]
        published = pd.read_csv(directory / "predictions.csv").query("subset == 'test'")
        columns = [name for name in published if name.startswith("p_")]
        right = {"published": published[columns].to_numpy().argmax(axis=1) == published.label}
        right["predict, as published"] = np.array(EMOTIONS)[test.label] == recognizer.predict_many(
            test.path, progress=False).label
        for name, change in defects().items():
            given = audio.each(lambda path, change=change: change(*audio.load(path)), test.path, name, False)
            table = recognizer.predict_many(given, versions=1, progress=False)
            right[f"{name}, once"] = np.array(EMOTIONS)[test.label] == table.label
        rows.append({name: 100 * np.mean(values) for name, values in right.items()})
        print(directory, {name: round(float(value), 1) for name, value in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    shown = pd.DataFrame({"accuracy": table.mean(), "cost": table.mean()["as it is, once"] - table.mean()})
    print(shown.round(1).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=WEIGHTS, help=f"weights, or a run's folder (default: {WEIGHTS})")
    parser.add_argument("--minutes", type=float, default=60, help="length of the long recording")
    parser.add_argument("--accuracy", type=Path, nargs="+", metavar="RUN")
    options = parser.parse_args()
    found = corpus.find(allow_download=False)
    if options.accuracy:
        accuracy(found, options.accuracy)
        return
    recognizer = EmotionRecognizer.load(options.model)
    speed(recognizer, list(found.index.path), options.minutes)


if __name__ == "__main__":
    main()
