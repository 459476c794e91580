"""Figures of what the networks do inside, computed by :mod:`ser_utils.explain`. One function a figure.

Spectrograms are (frames, bands) in dB, cut to the clip's speech; time is counted from its beginning.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ser_utils.config import FeatureConfig
from ser_utils.data.ravdess import EMOTIONS
from ser_utils.explain import Units, spread
from ser_utils.plots.data import _spectrogram
from ser_utils.plots.style import EMOTION_COLORS, GREY, INK, finish, text_color

HEAT = "#FF4F00"
PAIR_COLORS = {"plain": "#CC6677", "residual": "#332288"}
CURVE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


class Panel(NamedTuple):
    """A clip with the map of what a decision rests on."""

    title: str
    logmel: np.ndarray     # (frames, bands), dB
    importance: np.ndarray  # (image frames, image bins), 0 to 1; an image's points may span several frames


# --- AlexNet -----------------------------------------------------------------------------------------------


def first_filters(kernels: np.ndarray, magnitude: np.ndarray, units: Units, columns: int = 8) -> Figure:
    """The strongest filters of the first layer, each above its frequency response.

    ``kernels`` (filters, frames, bins), strongest first; ``magnitude`` (filters, rates, scales) as
    ``explain.modulation_response`` gives it. At most two rows of ``columns`` filters are drawn.
    """
    count = min(2 * columns, len(kernels))
    rows = -(-count // columns)
    fig, axes = plt.subplots(2 * rows, columns, figsize=(1.35 * columns + 1.2, 2.75 * rows + 0.4),
                             layout="constrained", squeeze=False)
    span = kernels.shape[1] * units.seconds * 1000, kernels.shape[2]
    for place in range(rows * columns):
        above, below = (axes[2 * (place // columns) + i, place % columns] for i in (0, 1))
        if place >= count:
            above.set_visible(False)
            below.set_visible(False)
            continue
        limit = np.abs(kernels[place]).max()
        above.imshow(kernels[place].T, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit,
                     extent=(0, span[0], 0, span[1]))
        _modulation_image(below, magnitude[place], units)
        above.set(xlabel="ms", ylabel="bins", xticks=[0, round(span[0], -1)])
        below.set(xlabel="Hz", ylabel="cycles/kHz")
        for axis in (above, below):
            axis.grid(False)
            axis.tick_params(labelsize=7.5, length=2)
            axis.xaxis.label.set_size(8)
            axis.yaxis.label.set_size(8)
            axis.xaxis.labelpad = 0
            if place % columns:
                axis.set_ylabel("")
                axis.tick_params(labelleft=False)
    return finish(fig)


def _modulation_image(axis, magnitude: np.ndarray, units: Units):
    """A response (rates, scales) over modulations per second and per kHz; the image."""
    rate, scale = 0.5 / units.seconds, 500 / units.hertz
    image = axis.imshow(magnitude.T, origin="lower", aspect="auto", cmap="magma", vmin=0,
                        extent=(-rate, rate, 0, scale), interpolation="bilinear")
    axis.axvline(0, color="white", linewidth=0.6, alpha=0.6)
    axis.set_xticks([-round(rate / 2), 0, round(rate / 2)])
    return image


def modulations(trained: np.ndarray, untrained: np.ndarray, units: Units) -> Figure:
    """Which modulations the first layer passes, all filters together, beside those of an untrained one.

    Both are mean magnitudes (rates, scales), as ``explain.modulation_response`` orders them; each is divided
    by its mean, so that 1 is what a layer without preference passes.
    """
    trained, untrained = trained / trained.mean(), untrained / untrained.mean()
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained", width_ratios=(1.25, 1, 1))
    image = _modulation_image(axes[0], trained, units)
    axes[0].set(xlabel="Hz   (left: rising ripples, right: falling)", ylabel="Cycles per kHz (below 1 kHz)",
                title="All filters after training")
    axes[0].grid(False)
    second = axes[0].secondary_yaxis("right", functions=(lambda y: y * units.hertz / 1000 / units.octaves,
                                                         lambda y: y * units.octaves * 1000 / units.hertz))
    second.set_ylabel("Cycles per octave (above 1 kHz)")
    fig.colorbar(image, ax=axes[0], label="relative to the mean", pad=0.02).outline.set_visible(False)
    rates = np.linspace(-0.5, 0.5, len(trained), endpoint=False) / units.seconds
    half = len(rates) // 2
    scales = np.linspace(0, 0.5, trained.shape[1]) * 1000 / units.hertz
    for response, color, name in ((untrained, GREY, "untrained"), (trained, HEAT, "trained")):
        by_rate = response.mean(axis=1)
        folded = (by_rate[half:] + by_rate[half:0:-1]) / 2  # falling and rising together
        axes[1].plot(rates[half:], folded, color=color, label=name)
        axes[2].plot(scales, response.mean(axis=0), color=color, label=name)
    axes[1].set(xlabel="Modulations per second (Hz)", ylabel="Response relative to the mean", title="Over time")
    axes[2].set(xlabel="Cycles per kHz (below 1 kHz)", title="Over frequency")
    for axis in axes[1:]:
        axis.set_ylim(bottom=0)
    axes[2].legend()
    return finish(fig)


def filter_answers(logmel: np.ndarray, kernels: np.ndarray, maps: np.ndarray, features: FeatureConfig,
                   seconds: float, title: str | None = None) -> Figure:
    """A clip's spectrogram, and under it where some filters answer to it.

    ``kernels`` (filters, frames, bins); ``maps`` (filters, steps, rows) are the filters' answers to the clip, a
    step of ``seconds`` each, padding included.
    """
    fig, axes = plt.subplots(1 + len(maps), 2, figsize=(10, 1.9 + 1.15 * len(maps)), layout="constrained",
                             width_ratios=(1, 9), height_ratios=(1.7, *[1] * len(maps)))
    axes[0, 0].set_visible(False)
    _spectrogram(axes[0, 1], logmel, features)
    axes[0, 1].set_xlabel("")
    axes[0, 1].tick_params(labelbottom=False)
    axes[0, 1].set_title(title or "")
    hop = features.hop_length / features.sample_rate
    for (left, right), kernel, answer in zip(axes[1:], kernels, maps, strict=True):
        limit = np.abs(kernel).max()
        left.imshow(kernel.T, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
        right.imshow(answer.T, origin="lower", aspect="auto", cmap="viridis", vmin=0,
                     extent=(-hop / 2, len(answer) * seconds - hop / 2, 0, 1))
        right.set_xlim(-hop / 2, (len(logmel) - 0.5) * hop)
        left.set(xticks=[], yticks=[])
        right.set(yticks=[])
        left.grid(False)
        right.grid(False)
        right.tick_params(labelbottom=False)
    axes[1, 0].set_title("filter", fontsize=9.5)
    axes[1, 1].set_title("where it answers", fontsize=9.5)
    axes[-1, 1].tick_params(labelbottom=True)
    axes[-1, 1].set_xlabel("Seconds")
    return finish(fig)


# --- ResNet ------------------------------------------------------------------------------------------------


def skip_or_not(losses: pd.DataFrame, norms: pd.DataFrame) -> Figure:
    """Loss and gradients of a network with and without skips, the tables of ``explain.train_briefly``."""
    fig, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", width_ratios=(1.15, 1, 1))
    for name, part in losses.groupby("network", sort=False):
        color = PAIR_COLORS[name]
        axes[0].plot(part.step, part.loss, color=color, linewidth=0.7, alpha=0.4)
        window = max(1, len(part) // 8)
        axes[0].plot(part.step, part.loss.rolling(window, min_periods=1).mean(), color=color)
    axes[0].axhline(np.log(len(EMOTIONS)), color=GREY, linewidth=1, linestyle=":")
    axes[0].set(xlabel="Step", ylabel="Cross-entropy (nats)", title="Training loss")
    for axis, moment in zip(axes[1:], ("before training", "after training"), strict=True):
        for name, part in norms[norms.moment == moment].groupby("network", sort=False):
            axis.plot(part.depth, part.norm, color=PAIR_COLORS[name], marker="o", markersize=3.5, linewidth=1.2)
        axis.set(yscale="log", xlabel="Convolution (1 is the first)", title=f"Gradient norm {moment}")
    low = norms.norm[norms.norm > 0].min() / 1.5
    for axis in axes[1:]:
        axis.set_ylim(low, norms.norm.max() * 1.5)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    for axis in axes:
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles = [Line2D([], [], color=color, marker="o", markersize=4, label=name)
               for name, color in PAIR_COLORS.items()]
    handles.append(Line2D([], [], color=GREY, linestyle=":", label="loss of a guess, ln 8"))
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return finish(fig)


def residual_shares(shares: pd.DataFrame) -> Figure:
    """How much each block of a ResNet adds to its shortcut, the table of ``explain.residual_shares``."""
    fig, axis = plt.subplots(figsize=(9, 3.4), layout="constrained")
    color = {"x": PAIR_COLORS["residual"], "projection": GREY}
    axis.bar(range(len(shares)), shares.share, color=[color[kind] for kind in shares.kind], width=0.7)
    axis.axhline(1, color=GREY, linestyle=":", linewidth=1)
    axis.set_xticks(range(len(shares)), [name.replace("_block", ".") for name in shares.block])
    axis.set(ylabel="Size of F(x) / size of the shortcut", title="What each block adds")
    axis.grid(axis="x", visible=False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color[kind]) for kind in color]
    axis.legend(handles, ["shortcut is x itself", "shortcut is a 1×1 convolution of x"])
    axis.margins(y=0.2)
    return finish(fig)


# --- Inception ---------------------------------------------------------------------------------------------


def branch_fields(fields: Mapping[str, tuple[np.ndarray, tuple[int, int]]], units: Units) -> Figure:
    """How far each branch sees, branch -> what ``explain.receptive_field`` gives; the point itself is marked."""
    fig, axes = plt.subplots(1, len(fields), figsize=(3 * len(fields), 3.7), layout="constrained", sharey=True,
                             squeeze=False)
    for axis, (name, (field, place)) in zip(axes[0], fields.items(), strict=True):
        left = -(place[0] + 0.5) * units.seconds
        bottom = -place[1] - 0.5
        axis.imshow(np.sqrt(field).T, origin="lower", aspect="auto", cmap="magma", vmin=0,
                    extent=(left, left + len(field) * units.seconds, bottom, bottom + field.shape[1]))
        axis.plot(0, 0, "+", color="white", markersize=10, markeredgewidth=1.2)
        time, frequency = spread(field)
        axis.set_title(name.replace(" → ", " →\n", 1) if len(name) > 24 else name, fontsize=9.5)
        axis.set_xlabel(f"Seconds\nspread {1000 * time * units.seconds:.0f} ms, {frequency:.1f} bins")
        axis.grid(False)
    axes[0, 0].set_ylabel("Bins from the point")
    return finish(fig)


def branch_emotions(means: Mapping[str, np.ndarray]) -> Figure:
    """Mean activation of each branch for each emotion, in standard deviations over all clips."""
    table = np.array(list(means.values()))
    limit = np.nanmax(np.abs(table))
    fig, axis = plt.subplots(figsize=(9, 0.55 * len(table) + 1.5), layout="constrained")
    image = axis.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        text = "–" if np.isnan(value) else f"{value:+.2f}"
        background = "white" if np.isnan(value) else image.cmap(image.norm(value))
        axis.text(column, row, text, ha="center", va="center", fontsize=9, color=text_color(background))
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS)
    axis.set_yticks(range(len(table)), list(means))
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title("Mean activation by emotion")
    fig.colorbar(image, ax=axis, label="standard deviations").outline.set_visible(False)
    return finish(fig)


def branch_patches(patches: Mapping[str, Sequence[tuple[np.ndarray, str]]], units: Units) -> Figure:
    """For each branch the pieces of input that one of its channels answers to most.

    ``patches`` maps a branch to pieces (frames, bins) of normalised log-mel with their emotion; padding is grey.
    """
    columns = max(len(row) for row in patches.values())
    fig, axes = plt.subplots(len(patches), columns, figsize=(1.45 * columns + 2.3, 1.55 * len(patches) + 0.7),
                             layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for row, (name, pieces) in zip(axes, patches.items(), strict=True):
        for axis, (patch, emotion) in zip(row, pieces, strict=False):
            axis.set_visible(True)
            padding = np.broadcast_to((patch == 0).all(axis=1)[:, None], patch.shape)
            axis.set_facecolor("#DDDDDD")
            axis.imshow(np.ma.masked_where(padding, patch).T, origin="lower", aspect="auto", cmap="magma", vmin=-1.5,
                        vmax=2.5)
            axis.set_title(emotion, fontsize=8.5, color=INK, loc="center", fontweight="normal")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color=EMOTION_COLORS.get(emotion, GREY), linewidth=2.5)
        row[0].set_ylabel(name.replace(" → ", "\n→ "), rotation=0, ha="right", va="center", fontsize=8.5,
                          labelpad=8)
    frames, bins = next(iter(patches.values()))[0][0].shape
    fig.supxlabel(f"Each piece: {1000 * frames * units.seconds:.0f} ms × {bins} bins, time to the right", fontsize=9.5)
    return finish(fig)


# --- VGG ---------------------------------------------------------------------------------------------------


def importance_panels(panels: Sequence[Panel], features: FeatureConfig, columns: int = 4) -> Figure:
    """Spectrograms in grey; in colour, what the decision rests on."""
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.05 * rows + 0.6), layout="constrained",
                             squeeze=False)
    step = features.hop_length / features.sample_rate
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _spectrogram(axis, panel.logmel, features, cmap="Greys_r")
        pool = features.n_mels // panel.importance.shape[1]
        shown = np.repeat(np.repeat(panel.importance, pool, axis=0), pool, axis=1)[: len(panel.logmel)]
        color = np.empty((*shown.T.shape, 4))
        color[:] = to_rgba(HEAT)
        color[..., 3] = 0.8 * shown.T
        axis.imshow(color, origin="lower", aspect="auto", interpolation="bilinear",
                    extent=(-step / 2, (len(shown) - 0.5) * step, -0.5, shown.shape[1] - 0.5))
        axis.set_xlim(-step / 2, (len(panel.logmel) - 0.5) * step)
        axis.set_title(panel.title, fontsize=9.5)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("Seconds", fontsize=8.5)
        axis.set_ylabel("Frequency (Hz)", fontsize=8.5)
        if not axis.get_subplotspec().is_first_col():
            axis.set_ylabel("")
            axis.tick_params(labelleft=False)
    for row in axes[:-1]:
        for axis in row:
            axis.set_xlabel("")
    return finish(fig)


# --- LSTM and Transformer: time ----------------------------------------------------------------------------


def curves_over_clip(wave: np.ndarray, logmel: np.ndarray, curves: Mapping[str, np.ndarray],
                     features: FeatureConfig, nuclei: np.ndarray | None = None, title: str | None = None) -> Figure:
    """A clip's waveform and spectrogram, and under them how much each moment counts.

    Parameters
    ----------
    wave : (samples,) at ``features.sample_rate``, beginning where ``logmel`` begins.
    curves : name -> values (frames,), one for each frame of ``logmel``; drawn relative to their mean.
    nuclei : frames of the syllables' nuclei, marked by lines.
    """
    step = features.hop_length / features.sample_rate
    seconds = np.arange(len(logmel)) * step
    fig, axes = plt.subplots(3, 1, figsize=(10, 6.4), layout="constrained", sharex=True,
                             height_ratios=(0.6, 1.5, 1.1))
    axes[0].plot(np.arange(len(wave)) / features.sample_rate, wave, color=GREY, linewidth=0.5)
    axes[0].set(yticks=[], ylabel="Waveform", title=title or "")
    axes[0].grid(False)
    _spectrogram(axes[1], logmel, features)
    axes[1].set_xlabel("")
    for (name, curve), color in zip(curves.items(), CURVE_COLORS, strict=False):
        relative = curve / max(curve.mean(), 1e-12)
        axes[2].step(seconds, relative, where="mid", color=color, label=name)
        if len(curves) == 1:
            axes[2].fill_between(seconds, relative, step="mid", color=color, alpha=0.25, linewidth=0)
    axes[2].axhline(1, color=GREY, linestyle=":", linewidth=1)
    axes[2].set(xlabel="Seconds from the beginning of the speech", ylabel="Weight (1: all alike)",
                xlim=(-step / 2, (len(logmel) - 0.5) * step))
    axes[2].set_ylim(bottom=0)
    for frame in () if nuclei is None else nuclei:
        for axis, color in zip(axes, (INK, "white", INK), strict=True):
            axis.axvline(frame * step, color=color, linewidth=0.9, linestyle="--", alpha=0.7)
    handles = axes[2].get_legend_handles_labels()[0]
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
    for label, (axis, emotion) in enumerate(zip(axes.flat, EMOTIONS, strict=True)):
        part = profiles[labels == label]
        axis.plot(place, overall, color=GREY, linewidth=1, linestyle="--")
        axis.set_title(f"{emotion} ({len(part)})", fontsize=10)
        if not len(part):
            continue
        color = EMOTION_COLORS[emotion]
        low, high = np.quantile(part, (0.25, 0.75), axis=0)
        axis.fill_between(place, low, high, color=color, alpha=0.25, linewidth=0)
        axis.plot(place, part.mean(axis=0), color=color)
    axes[0, 0].set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set_xlabel("Position in the clip (%)")
    for axis in axes[:, 0]:
        axis.set_ylabel("Weight (1: all alike)")
    handles = [Line2D([], [], color=INK, label="mean"), Line2D([], [], color=INK, linewidth=7, alpha=0.25,
                                                              label="middle half of the clips"),
               Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="mean of all emotions")]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return finish(fig)


def attention_heads(maps: np.ndarray, seconds: float) -> Figure:
    """Attention of every head in every layer for one clip.

    ``maps`` (layers, heads, steps, steps) without padded steps; ``seconds`` is the length of a step. Colours
    show the root of the weight, each panel to its own maximum, so that faint structure is seen.
    """
    layers, heads = maps.shape[:2]
    fig, axes = plt.subplots(layers, heads, figsize=(2 * heads + 1, 2 * layers + 0.9), layout="constrained",
                             squeeze=False, sharex=True, sharey=True)
    length = maps.shape[-1] * seconds
    for (layer, head), axis in np.ndenumerate(axes):
        axis.imshow(np.sqrt(maps[layer, head]), cmap="magma", vmin=0, extent=(0, length, length, 0),
                    interpolation="nearest")
        axis.grid(False)
        axis.tick_params(labelsize=8)
        axis.set_title(f"head {head + 1}" if layer == 0 else "", fontsize=9.5, loc="center")
        if head == 0:
            axis.set_ylabel(f"layer {layer + 1}", fontsize=9.5, fontweight="bold")
    fig.supxlabel("is looked at (s)", fontsize=10)
    fig.supylabel("looks (s)", fontsize=10)
    return finish(fig)


def head_distances(distances: np.ndarray, seconds: float, even: float) -> Figure:
    """How far each head looks, by layer: mean over the clips and the middle half of them.

    ``distances`` (N, layers, heads) in steps of ``seconds``; ``even`` is the distance in steps of a head that
    looks at all steps alike.
    """
    fig, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
    layers, heads = distances.shape[1:]
    offsets = np.linspace(-0.25, 0.25, heads) if heads > 1 else [0]
    for layer in range(layers):
        order = np.argsort(distances[:, layer].mean(axis=0))
        for offset, head in zip(offsets, order, strict=True):
            values = distances[:, layer, head] * seconds
            axis.vlines(layer + 1 + offset, *np.quantile(values, (0.25, 0.75)), color=CURVE_COLORS[0], linewidth=3,
                        alpha=0.35)
            axis.plot(layer + 1 + offset, values.mean(), "o", color=CURVE_COLORS[0], markeredgecolor="white",
                      markersize=8)
    axis.axhline(even * seconds, color=GREY, linestyle=":", linewidth=1.2)
    color = CURVE_COLORS[0]
    handles = [Line2D([], [], color=color, marker="o", linestyle="", markersize=8, label="a head, mean of the clips"),
               Line2D([], [], color=color, linewidth=3, alpha=0.35, label="middle half of the clips"),
               Line2D([], [], color=GREY, linestyle=":", linewidth=1.2, label="looking at all steps alike")]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    axis.set(xlabel="Layer", ylabel="Mean distance (s)", xlim=(0.5, layers + 0.5),
             title="How far each head looks")
    axis.set_xticks(range(1, layers + 1))
    axis.grid(axis="x", visible=False)
    axis.set_ylim(bottom=0)
    return finish(fig)
