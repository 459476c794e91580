"""Feature extraction against the loop that tutorials use, both measured in this run, on the same clips.

The loop is ``librosa.load(path, sr=22050)`` followed by ``mfcc``, ``chroma_stft`` and ``melspectrogram``, one
clip after the other. Ours is ``ser_utils.features.spectral.compute``: decoding, trimming, resampling, log-mel and MFCC
with deltas, on all cores. Every round measures both, one after the other, so that what else the machine does
touches both alike; the ratio printed is that of the medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import librosa
import soundfile

from ser_utils.config import FeatureConfig
from ser_utils.data import corpus
from ser_utils.features import spectral as features


def loop(paths) -> None:
    """The tutorials' loop."""
    for path in paths:
        wave, rate = librosa.load(path, sr=22050)
        librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=40)
        librosa.feature.chroma_stft(y=wave, sr=rate)
        librosa.feature.melspectrogram(y=wave, sr=rate)


def milliseconds(function, paths) -> float:
    """Wall time of one call, in milliseconds a clip."""
    began = time.perf_counter()
    function(paths)
    return 1000 * (time.perf_counter() - began) / len(paths)


def compare(name: str, paths: list[str], few: list[str], rounds: int) -> None:
    """Print the times of both, round by round, and the ratio of their medians."""
    config = FeatureConfig()
    loop(few[:2])  # neither side pays for first imports
    features.clip_features(few[0], config)
    times = {"loop": [], "ours": []}
    for number in range(rounds):
        times["loop"].append(milliseconds(loop, few))
        times["ours"].append(milliseconds(
            lambda some: features.compute(some, config, some, progress=False), paths))
        print(f"  round {number + 1}: loop {times['loop'][-1]:.2f} ms a clip, ours {times['ours'][-1]:.2f}, "
              f"ratio {times['loop'][-1] / times['ours'][-1]:.1f}")
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"Features of {len(paths):,} {name} clips: loop {medians['loop']:.2f} ms a clip, "
          f"ours {medians['ours']:.2f} ms a clip, {medians['loop'] / medians['ours']:.1f} times as fast.")


def as_wav(paths: list[str], folder: str) -> list[str]:
    """The same recordings as 16-bit WAV, the format they are published in."""
    copies = []
    for path in paths:
        wave, rate = soundfile.read(path, dtype="int16")
        copies.append(str(Path(folder) / f"{Path(path).stem}.wav"))
        soundfile.write(copies[-1], wave, rate)
    return copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop-clips", type=int, default=144, help="clips the loop gets (ours gets all)")
    options = parser.parse_args()
    found = corpus.find(allow_download=False)
    paths = list(found.index.path)
    step = max(len(paths) // options.loop_clips, 1)
    kind = Path(paths[0]).suffix[1:].upper()
    compare(f"{found.kind} {kind}", paths, paths[::step], options.rounds)
    if kind != "WAV":
        with tempfile.TemporaryDirectory() as folder:
            copies = as_wav(paths, folder)
            compare(f"{found.kind} WAV", copies, copies[::step], options.rounds)


if __name__ == "__main__":
    main()
