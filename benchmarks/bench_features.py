"""Feature extraction against the loop that tutorials use, both measured in this run, on the same clips.

The loop is ``librosa.load(path, sr=22050)`` followed by ``mfcc``, ``chroma_stft`` and ``melspectrogram``, one
clip after the other. Ours is ``ser_utils.features.spectral.extract`` into an empty folder: decoding, trimming,
resampling and log-mel on all cores, and writing the store. Every round measures both, one after the other, so that
what else the machine does touches both alike; the ratio printed is that of the medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import librosa
import soundfile

from ser_utils.data import corpus, ravdess
from ser_utils.features import spectral


def loop(paths) -> None:
    """The tutorials' loop."""
    for path in paths:
        wave, rate = librosa.load(path, sr=22050)
        librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=40)
        librosa.feature.chroma_stft(y=wave, sr=rate)
        librosa.feature.melspectrogram(y=wave, sr=rate)


def ours(found: corpus.Corpus) -> None:
    """The features of a corpus, computed and stored."""
    with tempfile.TemporaryDirectory() as folder:
        spectral.extract(found, folder=Path(folder), progress=False)


def milliseconds(function, argument, clips: int) -> float:
    """Wall time of one call, in milliseconds a clip."""
    began = time.perf_counter()
    function(argument)
    return 1000 * (time.perf_counter() - began) / clips


def compare(name: str, found: corpus.Corpus, step: int, rounds: int) -> None:
    """Print the times of both, round by round, and the ratio of their medians."""
    few, clips = list(found.index.path)[::step], len(found.index)
    loop(few[:2])  # neither side pays for first imports
    ours(corpus.Corpus(found.root, found.kind, found.index[:2]))
    times = {"loop": [], "ours": []}
    for number in range(rounds):
        times["loop"].append(milliseconds(loop, few, len(few)))
        times["ours"].append(milliseconds(ours, found, clips))
        print(f"  round {number + 1}: loop {times['loop'][-1]:.2f} ms a clip, ours {times['ours'][-1]:.2f}, "
              f"ratio {times['loop'][-1] / times['ours'][-1]:.1f}")
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"Features of {clips:,} {name} clips: loop {medians['loop']:.2f} ms a clip, "
          f"ours {medians['ours']:.2f} ms a clip, {medians['loop'] / medians['ours']:.1f} times as fast.")


def as_wav(found: corpus.Corpus, folder: str) -> corpus.Corpus:
    """The same recordings as 16-bit WAV, the format they are published in."""
    for path in found.index.path:
        wave, rate = soundfile.read(path, dtype="int16")
        soundfile.write(Path(folder) / f"{Path(path).stem}.wav", wave, rate)
    return corpus.Corpus(Path(folder), found.kind, ravdess.index(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop-clips", type=int, default=144, help="clips the loop gets (ours gets all)")
    options = parser.parse_args()
    found = corpus.find(allow_download=False)
    step = max(len(found.index) // options.loop_clips, 1)
    kind = Path(found.index.path[0]).suffix[1:].upper()
    compare(f"{found.kind} {kind}", found, step, options.rounds)
    if kind != "WAV":
        with tempfile.TemporaryDirectory() as folder:
            compare(f"{found.kind} WAV", as_wav(found, folder), step, options.rounds)


if __name__ == "__main__":
    main()
