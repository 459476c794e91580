"""Figures of what the networks do inside, computed by :mod:`ser_utils.explain`. One function a figure.

Spectrograms are (frames, bands) in dB, cut to the clip's speech; time is counted from its beginning.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ser_utils.config import FeatureConfig
from ser_utils.plots.data import spectrogram
from ser_utils.plots.style import EMOTION_COLORS, GREY, INK, finish


def curves_over_clip(wave: np.ndarray, logmel: np.ndarray, curves: Mapping[str, np.ndarray],
                     features: FeatureConfig, nuclei: np.ndarray | None = None, title: str = "") -> Figure:
    """A clip's waveform (samples,) and spectrogram, and under them how much each moment counts.

    ``curves`` maps names to values (frames,), drawn relative to their mean; ``nuclei`` are frames, marked by lines.
    """
    step = features.hop_length / features.sample_rate
    seconds = np.arange(len(logmel)) * step
    fig, (top, middle, bottom) = plt.subplots(3, 1, figsize=(10, 6.4), layout="constrained", sharex=True,
                                              height_ratios=(0.6, 1.5, 1.1))
    top.plot(np.arange(len(wave)) / features.sample_rate, wave, color=GREY, linewidth=0.5)
    top.set(yticks=[], ylabel="Waveform", title=title)
    top.grid(False)
    spectrogram(middle, logmel, features)
    middle.set_xlabel("")
    for (name, curve), color in zip(curves.items(), ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        relative = curve / max(curve.mean(), 1e-12)
        bottom.step(seconds, relative, where="mid", color=color, label=name)
        if len(curves) == 1:
            bottom.fill_between(seconds, relative, step="mid", color=color, alpha=0.25, linewidth=0)
    bottom.axhline(1, color=GREY, linestyle=":", linewidth=1)
    bottom.set(xlabel="Seconds from the beginning of the speech", ylabel="Weight (1: uniform)",
               xlim=(-step / 2, (len(logmel) - 0.5) * step), ylim=(0, None))
    for frame in () if nuclei is None else nuclei:
        for axis, color in ((top, INK), (middle, "white"), (bottom, INK)):
            axis.axvline(frame * step, color=color, linewidth=0.9, linestyle="--", alpha=0.7)
    handles = bottom.get_legend_handles_labels()[0]
    if nuclei is not None:
        handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="syllable nucleus (by energy)"))
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return finish(fig)


def weight_by_position(profiles: np.ndarray, labels: np.ndarray) -> Figure:
    """How much each part of a clip counts, by emotion: mean and quartiles over the clips.

    ``profiles`` (N, bins) are those of ``explain.over_relative_time``, ``labels`` (N,) 0-7.
    """
    fig, axes = plt.subplots(2, 4, figsize=(11, 4.8), layout="constrained", sharex=True, sharey=True)
    place = (np.arange(profiles.shape[1]) + 0.5) * 100 / profiles.shape[1]
    overall = profiles.mean(axis=0)
    for label, (axis, (emotion, color)) in enumerate(zip(axes.flat, EMOTION_COLORS.items(), strict=True)):
        part = profiles[labels == label]
        axis.plot(place, overall, color=GREY, linewidth=1, linestyle="--")
        axis.set(xlabel="Position in the clip (%)", ylabel="Weight (1: uniform)")
        axis.set_title(f"{emotion} ({len(part)})", fontsize=10)
        axis.label_outer()
        if len(part):
            axis.fill_between(place, *np.quantile(part, (0.25, 0.75), axis=0), color=color, alpha=0.25, linewidth=0)
            axis.plot(place, part.mean(axis=0), color=color)
    axes[0, 0].set_ylim(bottom=0)
    handles = [Line2D([], [], color=INK, label="mean"),
               Line2D([], [], color=INK, linewidth=7, alpha=0.25, label="middle half of the clips"),
               Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="mean of all emotions")]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return finish(fig)
