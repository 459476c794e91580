"""Figures of what a network hears in a recording."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ser_utils import EMOTIONS
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features import audio
from ser_utils.features.audio import Source
from ser_utils.paths import atomic_write
from ser_utils.plots.style import EMOTION_COLORS, finish, use_style


def timeline(recording: Source, table: pd.DataFrame) -> Figure:
    """The level of a recording, coloured by the emotion heard, and under it the eight probabilities over time.

    ``table`` is that of ``EmotionRecognizer.timeline``. Pauses stay grey.
    """
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
    top.set(yticks=[], ylabel="Level")
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


def save(recording: Source, table: pd.DataFrame, path: Path) -> None:
    """Write :func:`timeline` to an image file."""
    use_style()
    with atomic_write(path) as temporary:
        timeline(recording, table).savefig(temporary, dpi=120)
