"""Figures of what a network hears in a recording."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ser_utils import EMOTIONS
from ser_utils.config import FeatureConfig
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features import audio
from ser_utils.paths import atomic_write
from ser_utils.plots.data import spectrogram
from ser_utils.plots.style import EMOTION_COLORS, GREY, finish, use_style

PAIR = {"figsize": (5.8, 4.4), "layout": "constrained", "sharex": True, "height_ratios": (1, 2.2)}


def timeline(recording: audio.Source, table: pd.DataFrame) -> Figure:
    """The level of a recording, coloured by emotion, and the probabilities of its ``EmotionRecognizer.timeline``."""
    power, rate = audio.powers(recording)
    step = (rate // 50) / rate
    width = max(len(power) // 4000, 1)  # blocks drawn as one line
    level = np.sqrt(np.maximum.reduceat(power, np.arange(0, len(power), width)))
    seconds = np.arange(len(level)) * width * step
    minutes = seconds[-1] > 300
    unit = 60 if minutes else 1
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(10, 5), layout="constrained", sharex=True, height_ratios=(1, 1.4))
    top.vlines(seconds / unit, -level, level, color="#C8C8C8", linewidth=0.7)
    for row in table.itertuples():
        part = (seconds >= row.start - width * step) & (seconds < row.end)
        top.vlines(seconds[part] / unit, -level[part], level[part], color=EMOTION_COLORS[row.label], linewidth=1.2)
    top.set(yticks=[], ylabel="Amplitude")
    top.grid(False)
    edges = np.stack([table.start, table.end], axis=1) / unit
    floor = np.zeros(len(table))
    for name, column in zip(EMOTIONS, PROBABILITIES, strict=True):
        bottom.bar(edges[:, 0], table[column], edges[:, 1] - edges[:, 0], floor, align="edge", linewidth=0,
                   color=EMOTION_COLORS[name])
        floor += table[column].to_numpy()
    bottom.set(ylim=(0, 1), xlim=(0, len(power) * step / unit), ylabel="Probability",
               xlabel="Minutes" if minutes else "Seconds")
    fig.legend(handles=[Patch(color=EMOTION_COLORS[name], label=name) for name in EMOTIONS], ncols=8,
               loc="outside lower center")
    return finish(fig)


def heard(wave: np.ndarray, logmel: np.ndarray, features: FeatureConfig) -> Figure:
    """The speech of a recording, and under it the log-mel spectrogram (frames, bands) that the network got."""
    fig, (top, bottom) = plt.subplots(2, 1, **PAIR)
    top.plot(np.arange(len(wave)) / features.sample_rate, wave, color=GREY, linewidth=0.5)
    top.set(yticks=[], ylabel="Waveform")
    spectrogram(bottom, logmel, features)
    return finish(fig)


def looked(heat: np.ndarray, color: str, features: FeatureConfig) -> Figure:
    """Where a network looked: a map (frames, bands) of ``explain.occlusion``, and over it each moment's highest value.

    The map's colours run from 0 to the highest value of the curve. Its axes are those of :func:`heard`.
    """
    fig, (top, bottom) = plt.subplots(2, 1, **PAIR)
    seconds = np.arange(len(heat)) * features.hop_length / features.sample_rate
    top.fill_between(seconds, 100 * heat.clip(0).max(axis=1), step="mid", color=color, linewidth=0)
    top.set_ylabel("Points")
    top.set_ylim(bottom=0)
    spectrogram(bottom, heat, features, vmin=0, vmax=max(heat.max(), 1e-6))
    return finish(fig)


def save(recording: audio.Source, table: pd.DataFrame, path: Path) -> None:
    """Write :func:`timeline` to an image file."""
    use_style()
    with atomic_write(path) as temporary:
        timeline(recording, table).savefig(temporary, dpi=120)
