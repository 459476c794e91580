"""Training speed in the profile full: this project's training step against plain Keras, network by network.

Plain Keras is ``model.fit`` in float32, with Keras's own batch normalisation and LSTM and the same augmentation
written in NumPy in a Python generator. Both train the same architecture on the same made-up clips with the same
batch size. The two run in processes of their own and are timed in turns, one while the other waits, so that
whatever else the machine does hits both. Printed: clips per second of each, the median of the turns' ratios.

    python benchmarks/bench_training.py --models alexnet lstm --steps 6 --rounds 3
    python benchmarks/bench_training.py --against malloc    # what keeping memory is worth, ``machine.environment``
    python benchmarks/bench_training.py --against eigen     # what oneDNN is worth where TensorFlow leaves it off
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from ser_utils import machine
from ser_utils.config import PAD_DB, POWER_FLOOR, run_configs
from ser_utils.paper import MODEL_NAMES

OTHERS = {"plain": "plain Keras", "malloc": "usual malloc", "eigen": "no oneDNN"}


def clips(config, count: int = 240):
    """Made-up log-mel spectrograms (count, frames, bands) in dB, half of them followed by padding, and labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(-50, 12, (count, config.frames, config.features.n_mels)).astype(np.float32)
    x[::2, config.frames * 3 // 4:] = PAD_DB
    return x, rng.integers(0, 8, count)


def augmented(clip, config, rng):
    """One clip varied as ``ser_utils.training.augment`` does, one NumPy call after the other."""
    frames, bands = clip.shape
    length = int((clip > PAD_DB).any(axis=1).sum())
    source = (np.arange(frames) - rng.uniform(-0.5, 1) * config.shift) * np.exp(
        rng.uniform(-1, 1) * np.log1p(config.stretch))
    inside = (source >= 0) & (source <= length - 1)
    clip = np.stack([np.interp(source, np.arange(frames), band) for band in clip.T], axis=1)
    where = np.clip(np.arange(bands) * (1 + rng.uniform(-1, 1) * config.warp), 0, bands - 1)
    clip = np.stack([np.interp(where, np.arange(bands), frame) for frame in clip])
    waves = np.cos(np.pi * np.outer(np.arange(1, 4), np.arange(bands) + 0.5) / bands)
    clip = clip + rng.uniform(-1, 1) * config.gain_db + config.tilt_db * rng.uniform(-0.5, 0.5, 3) @ waves
    if rng.random() < config.noise_probability:
        power = 10 ** (clip / 10)
        colour = 10 ** (rng.uniform(-0.5, 0.5, 3) @ waves - rng.uniform(*config.noise_snr_db) / 10)
        noise = power[inside].mean() * colour * 10 ** (0.2 * rng.normal(size=(frames, 1)))
        clip = 10 * np.log10(np.maximum(power + noise, POWER_FLOOR))
    clip = np.where(inside[:, None], clip, PAD_DB)
    return clip, inside


def masked(clip, inside, config, rng):
    """SpecAugment on a normalised clip."""
    clip = clip * inside[:, None]
    for count, width, axis in ((config.time_masks, config.time_width, 0), (config.frequency_masks,
                                                                           config.frequency_width, 1)):
        for _ in range(count):
            start, wide = rng.integers(clip.shape[axis]), rng.integers(width + 1)
            clip[(slice(None),) * axis + (slice(start, start + wide),)] = 0
    return clip


def plain(config):
    """A function that trains ``steps`` steps with plain Keras."""
    import keras

    from ser_utils import models
    from ser_utils.models import common, lstm

    common.BatchNorm = keras.layers.BatchNormalization
    lstm.LSTM = lambda cell, **options: keras.layers.LSTM(cell.units, **options)
    x, labels = clips(config)
    mean, deviation = x[x > PAD_DB].mean(), x[x > PAD_DB].std()
    y = np.eye(8, dtype=np.float32)[labels]
    rng = np.random.default_rng(0)

    def generator():
        while True:
            rows = rng.integers(0, len(x), config.batch_size)
            batch = [augmented(x[row], config.augment, rng) for row in rows]
            batch = [masked((clip - mean) / deviation, inside, config.augment, rng) for clip, inside in batch]
            yield np.stack(batch)[..., None].astype(np.float32), y[rows]

    model = models.build(config.model, (config.frames, x.shape[2], 1), **config.options)
    model.compile(keras.optimizers.AdamW(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    source = generator()
    return lambda steps: model.fit(source, steps_per_epoch=steps, epochs=1, verbose=0)


def ours(config):
    """A function that trains ``steps`` steps as ``ser_utils.training.fit`` does."""
    from ser_utils.training import fit as training

    x, labels = clips(config)
    rows = np.arange(len(x))
    data = training.Data(rows.astype(str), x, labels, {"train": rows})
    model = training.compiled(config, data)

    def train(steps):
        few = rows[:steps * config.batch_size] if steps * config.batch_size < len(x) else rows
        model.steps_per_execution = training.steps_per_execution(len(few) // config.batch_size)
        batches = training.Batches(x[few], labels[few], config.batch_size, 0)
        model.fit(batches, epochs=1, shuffle=False, verbose=0)

    return train


def child(kind: str, name: str, steps: int) -> None:
    """Train on demand: a line in, the clips per second out."""
    config = run_configs("full", "ravdess", [name], ["random"], [0])[0]
    train = {"ours": ours, "plain": plain}[kind](config)
    train(steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        train(steps)
        print(steps * config.batch_size / (time.perf_counter() - began), flush=True)


def compare(name: str, other: str, steps: int, rounds: int) -> tuple[float, float, float]:
    """Clips per second, ours and the other's (see ``OTHERS``), and the median ratio of the rounds."""
    mine = machine.environment()
    theirs = {"plain": dict(os.environ), "eigen": mine | {"TF_ENABLE_ONEDNN_OPTS": "0"},
              "malloc": {key: mine[key] for key in mine.keys() - machine.KEEP_MEMORY.keys()}}
    environments = {"ours": mine, other: theirs[other]}
    command = [sys.executable, __file__, "--models", name, "--steps", str(steps), "--child"]
    workers = {kind: subprocess.Popen([*command, "plain" if kind == "plain" else "ours"], env=environment, text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for kind, environment in environments.items()}
    try:
        for worker in workers.values():
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"{name} could not be trained; {__file__} --child ours --models {name} says why.")
        turns = {kind: [] for kind in workers}
        for _ in range(rounds):
            for kind, worker in workers.items():
                worker.stdin.write("go\n")
                worker.stdin.flush()
                turns[kind].append(float(worker.stdout.readline()))
    finally:
        for worker in workers.values():
            worker.kill()
    ratios = [a / b for a, b in zip(turns["ours"], turns[other], strict=True)]
    return statistics.median(turns["ours"]), statistics.median(turns[other]), statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(MODEL_NAMES))
    parser.add_argument("--against", choices=OTHERS, default="plain",
                        help="plain Keras, ours with glibc's malloc as it comes, or ours without oneDNN")
    parser.add_argument("--steps", type=int, default=6, help="training steps in a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.models[0], options.steps)
        return
    print(f"{'network':14s}{'ours':>12s}{OTHERS[options.against]:>14s}{'ratio':>8s}   clips per second")
    for name in options.models:
        mine, theirs, ratio = compare(name, options.against, options.steps, options.rounds)
        print(f"{name:14s}{mine:12.1f}{theirs:14.1f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
