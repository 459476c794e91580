"""Figures of the corpus and its features. One function a figure; each returns a finished matplotlib Figure.

``index`` is the table of :func:`ser_utils.data.ravdess.index`, ``prosody`` that of
:func:`ser_utils.features.prosody.measure`. Spectrograms are (frames, bands) in dB, as
:func:`ser_utils.features.spectral.log_mel` makes them.
"""

from collections.abc import Mapping, Sequence

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

from ser_utils.config import PAD_DB, FeatureConfig
from ser_utils.data import folds
from ser_utils.data.ravdess import EMOTIONS
from ser_utils.features.spectral import FeatureStore
from ser_utils.paper import MODEL_NAMES, TABLE1
from ser_utils.plots.results import PROTOCOL_TITLES
from ser_utils.plots.style import EMOTION_COLORS, GREY, INK, finish

GENDER_COLORS = {"female": "#CC79A7", "male": "#0072B2"}
PART_COLORS = {"train": "#C9DDF0", "val": "#E69F00", "test": "#882255"}
PART_EDGES = PART_COLORS | {"train": "#56B4E9"}
PART_NAMES = {"train": "training", "val": "validation", "test": "test"}
RAW, KEPT, MARK = "#9A9A9A", "#0072B2", "#D55E00"
PADDING = "#DDDDDD"
SPAN_DB = 80  # a spectrogram's colours run from its maximum to so far below it
TICKS_HZ = (125, 500, 1000, 2000, 4000, 8000)


# ------------------------------------------------------------------------------------------- framework


def framework(config: FeatureConfig | None = None) -> Figure:
    """The whole study as a block diagram, from the recordings to the tables."""
    config = config or FeatureConfig()
    fig, axis = plt.subplots(figsize=(10.5, 7), layout="constrained")
    axis.set(xlim=(0, 105), ylim=(-11, 66))
    axis.axis("off")

    def box(x, y, text, width=19, height=9, color="#EEF3F8", edge="#0072B2"):
        axis.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=color,
                                      edgecolor=edge, linewidth=1.2, boxstyle="round,pad=0,rounding_size=1.2"))
        title, _, rest = text.partition("\n")
        lines = rest.count("\n") + 1 if rest else 0
        axis.text(x, y + 1.25 * lines, title, ha="center", va="center", fontsize=9.5, fontweight="bold")
        axis.text(x, y - 1.35, rest, ha="center", va="center", fontsize=8.2, linespacing=1.3)

    def arrow(*points, color=INK):
        for start, end in zip(points, points[1:-1], strict=False):
            axis.plot(*zip(start, end, strict=True), color=color, linewidth=1.3, solid_capstyle="round")
        axis.annotate("", points[-1], points[-2],
                      arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.3, "shrinkA": 0,
                                  "shrinkB": 0})

    rate, hop = config.sample_rate // 1000, 1000 * config.hop_length // config.sample_rate
    for x, text in ((11.5, "RAVDESS speech\n1,440 clips, 24 actors,\n8 emotions"),
                    (37.5, f"Cleaning\nmono, silence around the\nspeech cut, {rate} kHz"),
                    (64.5, f"Features\nlog-mel: {config.n_mels} bands, {hop} ms\n"
                           f"({config.n_mfcc} MFCC, deltas: notebook 02)"),
                    (92, "Fixed folds\nrandom, twins, actors;\n6 folds each")):
        box(x, 60, text, width=24 if "MFCC" in text else 20, height=10.5)
    for start, end in ((21.5, 27.5), (47.5, 52.5), (76.5, 82)):
        arrow((start, 60), (end, 60))

    lanes = {"train": 40, "val": 24, "test": 8}
    arrow((92, 54.7), (92, 50.5), (24, 50.5), (1, 50.5), (1, lanes["test"]), (3, lanes["test"]))
    for part in ("train", "val"):
        arrow((1, lanes[part]), (3, lanes[part]))
    for part, y in lanes.items():
        box(11.5, y, f"{PART_NAMES[part].capitalize()}\n{TABLE1[part]} clips", width=17, height=9,
            color="white", edge=PART_EDGES[part])
    box(34, lanes["train"], "Augmentation\ntraining clips only", edge="#009E73", color="#E8F4EF")
    box(54.5, 24, "", width=14, height=42, edge=GREY, color="#F4F4F4")
    axis.text(54.5, 41, "Normalisation", ha="center", va="center", fontsize=9.5, fontweight="bold")
    axis.text(54.5, 32, "mean and\ndeviation of\neach band,\nmeasured on\ntraining clips\nonly", ha="center",
              va="center", fontsize=8.2, linespacing=1.3)
    box(74, 24, "", width=16, height=42, edge="#332288", color="#EFEDF7")
    axis.text(74, 41, "Seven networks", ha="center", va="center", fontsize=9.5, fontweight="bold")
    for place, name in enumerate(MODEL_NAMES.values()):
        axis.text(74, 35.5 - 4.4 * place, name, ha="center", va="center", fontsize=8.8)
    arrow((20, lanes["train"]), (24.5, lanes["train"]))
    arrow((43.5, lanes["train"]), (47.5, lanes["train"]))
    for part in ("val", "test"):
        arrow((20, lanes[part]), (47.5, lanes[part]))
    for y in lanes.values():
        arrow((61.5, y), (66, y))

    for part, text in (("train", "Learning\nloss, AdamW"), ("val", "Epoch by epoch\nbest or last kept"),
                       ("test", "Predictions\none a test clip")):
        box(95, lanes[part], text, width=16, color="white", edge=PART_EDGES[part])
        arrow((82, lanes[part]), (87, lanes[part]))
    arrow((95, lanes["val"] + 4.5), (95, lanes["train"] - 4.5))
    arrow((95, lanes["test"] - 4.5), (95, -6.5), (81.5, -6.5))
    box(54.5, -6.5, "Tables, intervals, significance tests, figures", width=54, height=6, edge=GREY,
        color="#F4F4F4")
    return finish(fig)


# ---------------------------------------------------------------------------------------- the recordings


def counts(index: pd.DataFrame) -> Figure:
    """Clips by emotion, intensity and gender, stacked."""
    number = index.groupby(["emotion", "gender", "intensity"]).size()
    fig, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for side, gender in ((-0.2, "female"), (0.2, "male")):
        bottom = np.zeros(len(EMOTIONS))
        for intensity, alpha in (("normal", 0.5), ("strong", 1.0)):
            heights = np.array([number.get((emotion, gender, intensity), 0) for emotion in EMOTIONS])
            bars = axis.bar(np.arange(len(EMOTIONS)) + side, heights, 0.36, bottom, alpha=alpha,
                            color=GENDER_COLORS[gender])
            axis.bar_label(bars, [str(n) if n else "" for n in heights], label_type="center", fontsize=8.5)
            bottom += heights
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS)
    axis.set(ylabel="Clips", title="Clips by emotion, gender and intensity")
    axis.grid(axis="x", visible=False)
    fig.legend(handles=[Patch(color=color, alpha=alpha, label=f"{gender}, {intensity} intensity")
                        for gender, color in GENDER_COLORS.items()
                        for intensity, alpha in (("normal", 0.5), ("strong", 1.0))],
               loc="outside lower center", ncols=4)
    return finish(fig)


def durations(index: pd.DataFrame, prosody: pd.DataFrame) -> Figure:
    """Length of the recordings and of the speech in them, and the speech by emotion."""
    table = index.merge(prosody, on="clip")
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=(1, 1.25))
    bins = np.arange(0, table.seconds.max() + 0.2, 0.1)
    for column, color, label in (("speech_seconds", KEPT, "speech"), ("seconds", RAW, "whole recording")):
        left.hist(table[column], bins, color=color, alpha=0.75)
        left.axvline(table[column].median(), color=color, linestyle="--", linewidth=1.2,
                     label=f"{label}, median {table[column].median():.2f} s")
    left.set(xlabel="Seconds", ylabel="Clips", title="Recording and speech")
    left.set_ylim(top=1.3 * left.get_ylim()[1])
    left.legend(loc="upper left", frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    drawn = right.boxplot([table.speech_seconds[table.emotion == emotion] for emotion in EMOTIONS],
                          patch_artist=True, widths=0.6, medianprops={"color": INK},
                          flierprops={"markersize": 3, "markeredgecolor": GREY})
    for patch, emotion in zip(drawn["boxes"], EMOTIONS, strict=True):
        patch.set(facecolor=EMOTION_COLORS[emotion], alpha=0.8)
    right.set_xticks(range(1, len(EMOTIONS) + 1), EMOTIONS, rotation=30, ha="right")
    right.set(ylabel="Seconds of speech", title="Speech by emotion")
    right.grid(axis="x", visible=False)
    return finish(fig)


def examples(waves: Mapping[str, np.ndarray], logmels: Mapping[str, np.ndarray], config: FeatureConfig,
             titles: Mapping[str, str] | None = None) -> Figure:
    """A waveform and the log-mel spectrogram under it for each emotion, all on one scale.

    ``waves`` maps emotions to speech at ``config.sample_rate`` (samples,), ``logmels`` to (frames, bands).
    """
    titles = titles or {}
    fig, axes = plt.subplots(4, 4, figsize=(11, 7.4), layout="constrained", height_ratios=(1, 2.2, 1, 2.2))
    longest = max(len(wave) for wave in waves.values()) / config.sample_rate
    loudest = max(np.abs(wave).max() for wave in waves.values())
    top = max(logmel.max() for logmel in logmels.values())
    for place, emotion in enumerate(waves):
        above, below = axes[2 * (place // 4): 2 * (place // 4) + 2, place % 4]
        seconds = np.arange(len(waves[emotion])) / config.sample_rate
        above.plot(seconds, waves[emotion], color=EMOTION_COLORS[emotion], linewidth=0.4)
        above.set(xlim=(0, longest), ylim=(-loudest, loudest), yticks=[], title=titles.get(emotion, emotion))
        above.tick_params(labelbottom=False)
        image = _spectrogram(below, logmels[emotion], config, top)
        below.set_xlim(0, longest)
        below.set_facecolor(PADDING)
        if place % 4:
            below.tick_params(labelleft=False)
            below.set_ylabel("")
        if place < 4:
            below.tick_params(labelbottom=False)
            below.set_xlabel("")
    for place in range(len(waves), 8):
        for axis in axes[2 * (place // 4): 2 * (place // 4) + 2, place % 4]:
            axis.axis("off")
    fig.colorbar(image, ax=axes, label="dB re full scale", shrink=0.5, pad=0.01)
    return finish(fig)


def prosody_by_emotion(index: pd.DataFrame, prosody: pd.DataFrame) -> Figure:
    """Level and pitch of each emotion, for women (left halves) and men (right halves)."""
    table = index.merge(prosody, on="clip")
    fig, axes = plt.subplots(2, 1, figsize=(9.5, 6.4), layout="constrained", sharex=True)
    for axis, column, label in ((axes[0], "level_db", "Level of the speech (dB re full scale)"),
                                (axes[1], "f0_median", "Median pitch (Hz)")):
        for gender, side in (("female", "low"), ("male", "high")):
            for place, emotion in enumerate(EMOTIONS):
                chosen = table[(table.emotion == emotion) & (table.gender == gender)]
                values = chosen[column].dropna().to_numpy()
                _half_violin(axis, values, place, side, GENDER_COLORS[gender], log=column == "f0_median")
        axis.set_ylabel(label)
        axis.grid(axis="x", visible=False)
    axes[0].set_title("How loud and how high the emotions are spoken")
    axes[1].set_yscale("log")
    axes[1].set_yticks([75, 100, 150, 200, 300, 400, 600], ["75", "100", "150", "200", "300", "400", "600"])
    axes[1].minorticks_off()
    axes[1].set_ylim(table.f0_median.min() / 1.08, table.f0_median.max() * 1.08)
    axes[1].set_xticks(range(len(EMOTIONS)), EMOTIONS)
    handles = [Patch(color=color, alpha=0.75, label=gender) for gender, color in GENDER_COLORS.items()]
    handles.append(Line2D([], [], color=INK, label="quartiles and median"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return finish(fig)


def _half_violin(axis, values: np.ndarray, place: float, side: str, color: str, log: bool) -> None:
    """Half a violin with quartiles; ``log`` for a logarithmic axis: the density is that of the logarithm."""
    scaled = np.log(values) if log else values
    quartiles = np.quantile(values, (0.25, 0.5, 0.75))
    shift = 0.09 if side == "high" else -0.09
    if scaled.std() > 0:
        body = axis.violinplot([scaled], [place], widths=0.85, side=side, showextrema=False)["bodies"][0]
        if log:
            body.get_paths()[0].vertices[:, 1] = np.exp(body.get_paths()[0].vertices[:, 1])
        body.set(facecolor=color, alpha=0.75, edgecolor="none")
    axis.plot([place + shift] * 2, quartiles[[0, 2]], color=INK, linewidth=3, solid_capstyle="butt")
    axis.plot(place + shift, quartiles[1], "o", color="white", markersize=4.5, markeredgecolor=INK)


def levels_by_actor(index: pd.DataFrame, prosody: pd.DataFrame) -> Figure:
    """Peak of every clip by actor, coloured by emotion."""
    table = index.merge(prosody, on="clip")
    fig, axis = plt.subplots(figsize=(10, 4), layout="constrained")
    places = table.actor + (table.label - 3.5) / 11  # the emotions side by side, in their order
    axis.scatter(places, 20 * np.log10(table.peak), s=9, c=table.emotion.map(EMOTION_COLORS), linewidths=0)
    axis.axhline(0, color=GREY, linewidth=1, linestyle=":")
    axis.set_xticks(sorted(table.actor.unique()))
    axis.set(xlabel="Actor", ylabel="Peak (dB re full scale)", title="The loudest sample of each clip",
             xlim=(table.actor.min() - 0.7, table.actor.max() + 0.7))
    axis.grid(axis="x", visible=False)
    handles = [Line2D([], [], marker="o", linestyle="", color=color, label=emotion)
               for emotion, color in EMOTION_COLORS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=8)
    return finish(fig)


def protocols(index: pd.DataFrame, fold: int = 0) -> Figure:
    """Which part every clip is in, under the three protocols: a row an actor, a column a recording.

    Repetitions of one recording are neighbouring columns.

    Raises
    ------
    ValueError
        For an unknown fold, or a clip that is not RAVDESS's.
    """
    order = ["label", "intensity", "statement", "repetition"]
    columns = index[order].drop_duplicates().sort_values(order).reset_index(drop=True)
    column = {tuple(values): place for place, values in enumerate(columns.itertuples(index=False))}
    actors = sorted(index.actor.unique())
    where = np.array([column[tuple(values)] for values in index[order].itertuples(index=False)])
    row = np.searchsorted(actors, index.actor)
    fig, axes = plt.subplots(1, 3, figsize=(11, 4.6), layout="constrained", sharey=True)
    for axis, protocol in zip(axes, folds.PROTOCOLS, strict=True):
        parts = folds.split(index, protocol, fold)
        grid = np.full((len(actors), len(columns)), np.nan)
        for number, part in enumerate(PART_COLORS):
            grid[row[parts[part]], where[parts[part]]] = number
        axis.pcolormesh(np.arange(len(columns) + 1), np.arange(len(actors) + 1), grid, vmin=0, vmax=2,
                        cmap=ListedColormap(list(PART_COLORS.values())), edgecolors="white", linewidth=0.3)
        starts = columns.index[~columns.label.duplicated()]
        for start in starts[1:]:
            axis.axvline(start, color=INK, linewidth=0.8)
        middles = columns.groupby("label").apply(lambda group: group.index.to_numpy().mean() + 0.5)
        axis.set_xticks(middles, [EMOTIONS[label] for label in middles.index], rotation=45, ha="right")
        axis.set_yticks(np.arange(len(actors)) + 0.5, actors, fontsize=7.5)
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.set_title(PROTOCOL_TITLES[protocol], fontsize=10.5)
    axes[0].invert_yaxis()
    axes[0].set_ylabel("Actor")
    fig.legend(handles=[Patch(color=color, label=PART_NAMES[part]) for part, color in PART_COLORS.items()],
               loc="outside lower center", ncols=3)
    return finish(fig)


# ------------------------------------------------------------------------------- from wave to features


def _bands(config: FeatureConfig) -> np.ndarray:
    """Centre of each mel band in Hz, (n_mels,)."""
    return librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=config.fmax)[1:-1]


def _label_bands(config: FeatureConfig, *axes) -> None:
    """Label axes (``axis.xaxis``, ``axis.yaxis``) that count mel bands with frequencies."""
    ticks = [hertz for hertz in TICKS_HZ if hertz <= config.fmax]
    places = np.interp(ticks, _bands(config), np.arange(config.n_mels))
    for axis in axes:
        axis.set_ticks(places, [f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz}" for hertz in ticks])
        axis.set_label_text("Frequency (Hz)")


def _spectrogram(axis, logmel: np.ndarray, config: FeatureConfig, top: float | None = None, **options):
    """Draw a log-mel spectrogram (frames, bands) over seconds; the image."""
    top = logmel.max() if top is None else top
    step = config.hop_length / config.sample_rate
    options = {"vmin": top - SPAN_DB, "vmax": top, "cmap": "magma"} | options
    image = axis.imshow(logmel.T, origin="lower", aspect="auto", interpolation="nearest",
                        extent=(-step / 2, (len(logmel) - 0.5) * step, -0.5, config.n_mels - 0.5), **options)
    axis.set_xlabel("Seconds")
    axis.grid(visible=False)
    _label_bands(config, axis.yaxis)
    return image


def trimming(wave: np.ndarray, rate: int, start: int, stop: int, top_db: float) -> Figure:
    """A recording with the part that is kept (samples ``start`` to ``stop``), and the level of its blocks."""
    block = max(rate // 50, 1)
    blocks = wave[: len(wave) // block * block].reshape(-1, block)
    level = 10 * np.log10(np.maximum((blocks.astype(np.float64) ** 2).mean(axis=1), 1e-12))
    seconds = np.arange(len(wave)) / rate
    fig, (above, below) = plt.subplots(2, 1, figsize=(9, 4.2), layout="constrained", sharex=True)
    above.plot(seconds, wave, color=RAW, linewidth=0.5)
    above.plot(seconds[start:stop], wave[start:stop], color=KEPT, linewidth=0.5)
    above.set(ylabel="Amplitude", title="Waveform: kept (blue) and cut (grey)")
    below.step(np.arange(len(level)) * block / rate, level, where="post", color=INK, linewidth=1.2)
    below.axhline(level.max() - top_db, color=MARK, linestyle="--",
                  label=f"{top_db:g} dB below the loudest block")
    for axis in (above, below):
        axis.axvspan(start / rate, stop / rate, color=KEPT, alpha=0.08, linewidth=0)
    below.set(xlabel="Seconds", ylabel="Level (dB)", xlim=(0, seconds[-1]), title="Level of blocks of 20 ms")
    below.legend(loc="upper left", fontsize=8.5)
    return finish(fig)


def short_time_fourier(wave: np.ndarray, power: np.ndarray, config: FeatureConfig, frame: int) -> Figure:
    """One frame: its samples under the window; its power spectrum; and the power of all frames.

    ``wave`` (samples,) at ``config.sample_rate``; ``power`` (frames, n_fft / 2 + 1).
    """
    half, rate = config.n_fft // 2, config.sample_rate
    middle = frame * config.hop_length
    samples = np.pad(wave, half)[middle: middle + config.n_fft]
    window = librosa.filters.get_window("hann", config.n_fft)
    hertz = np.fft.rfftfreq(config.n_fft, 1 / rate)
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.5), layout="constrained", width_ratios=(1, 1, 1.4))
    milliseconds = 1000 * (np.arange(config.n_fft) - half) / rate
    axes[0].plot(milliseconds, samples, color=RAW, linewidth=0.9, label="samples")
    axes[0].plot(milliseconds, samples * window, color=KEPT, linewidth=0.9, label="times window")
    axes[0].plot(milliseconds, window * np.abs(samples).max(), color=MARK, linewidth=1.2, label="window")
    axes[0].set(xlabel="Milliseconds", title=f"Frame {frame}")
    axes[0].set_ylim(top=1.45 * np.abs(samples).max())
    axes[0].legend(loc="upper left", ncols=2, fontsize=8, columnspacing=1, handlelength=1.2)
    axes[1].plot(hertz, decibels[frame], color=KEPT, linewidth=0.9)
    axes[1].set(xlabel="Frequency (Hz)", ylabel="Power (dB)", title="Its power spectrum", xlim=(0, rate / 2))
    image = axes[2].imshow(decibels.T, origin="lower", aspect="auto", cmap="magma",
                           vmin=decibels.max() - SPAN_DB, vmax=decibels.max(),
                           extent=(0, len(wave) / rate, 0, rate / 2))
    axes[2].axvline(middle / rate, color="white", linewidth=1, linestyle="--")
    axes[2].set(xlabel="Seconds", ylabel="Frequency (Hz)", title="Power of all frames")
    axes[2].grid(visible=False)
    fig.colorbar(image, ax=axes[2], label="dB")
    return finish(fig)


def mel_filterbank(bank: np.ndarray, spectrum: np.ndarray, config: FeatureConfig) -> Figure:
    """The triangles of the mel bands, and what they make of one power spectrum.

    ``bank`` (n_mels, n_fft / 2 + 1); ``spectrum`` (n_fft / 2 + 1,) a frame's power.
    """
    hertz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=(1.2, 1))
    for band, weights in enumerate(bank / bank.max(axis=1, keepdims=True)):
        reach = np.flatnonzero(weights)
        part = slice(max(reach[0] - 1, 0), reach[-1] + 2)
        accent = band % 10 == 5
        left.plot(hertz[part], weights[part], color=KEPT if accent else "#C8D3DC", linewidth=1.5 if accent else 0.6,
                  zorder=3 if accent else 2)
    left.set(xlabel="Frequency (Hz)", ylabel="Weight, of each band's largest", yticks=(0, 0.5, 1),
             title=f"{config.n_mels} mel bands, every tenth in blue", xlim=(0, config.fmax))
    place = np.interp(hertz, _bands(config), np.arange(config.n_mels), left=np.nan, right=np.nan)
    right.plot(place, 10 * np.log10(np.maximum(spectrum, 1e-10)), color=RAW, linewidth=0.8,
               label="power of a frame")
    right.plot(10 * np.log10(np.maximum(bank @ spectrum, 1e-10)), ".-", color=KEPT, linewidth=1, markersize=4,
               label="its mel bands")
    _label_bands(config, right.xaxis)
    right.set(ylabel="dB", title="One frame, before and after")
    right.legend(loc="upper right")
    return finish(fig)


def cosine_transform(frame: np.ndarray, basis: np.ndarray, config: FeatureConfig,
                     kept: Sequence[int] = (13, 40)) -> Figure:
    """The first cosines of the DCT, and one log-mel frame rebuilt from its first coefficients.

    ``frame`` (n_mels,) in dB; ``basis`` (n_mels, n_mels) the orthonormal DCT, a row a coefficient.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=(1, 1.3))
    for number in range(5):
        left.plot(basis[number] / np.abs(basis).max() / 2.4 - number, color=INK, linewidth=1.3)
    left.set_yticks(-np.arange(5), [f"{number}" for number in range(5)])
    left.set(ylabel="Coefficient", title="Each coefficient weighs one cosine")
    coefficients = basis @ frame
    right.plot(frame, color=RAW, linewidth=2.5, label="log-mel of one frame")
    for number, color in zip(kept, (MARK, KEPT), strict=True):
        right.plot(basis[:number].T @ coefficients[:number], color=color, linewidth=1.4,
                   label=f"from {number} coefficients")
    _label_bands(config, left.xaxis, right.xaxis)
    right.set(ylabel="dB", title="What the coefficients keep")
    right.legend()
    return finish(fig)


def mfcc_and_deltas(mfcc: np.ndarray, config: FeatureConfig) -> Figure:
    """MFCCs, deltas and delta-deltas of one clip, (frames, 3 * n_mfcc), without coefficient 0.

    Each coefficient is divided by its deviation over the clip: the higher ones are far smaller.
    """
    seconds = len(mfcc) * config.hop_length / config.sample_rate
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", sharey=True)
    for number, title in enumerate(("MFCC", "Delta: slope", "Delta-delta: curvature")):
        block = mfcc[:, number * config.n_mfcc + 1: (number + 1) * config.n_mfcc]
        scaled = (block - block.mean(axis=0)) / (block.std(axis=0) + 1e-9)
        image = axes[number].imshow(scaled.T, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3,
                                    extent=(0, seconds, 0.5, config.n_mfcc - 0.5), interpolation="nearest")
        axes[number].set(xlabel="Seconds", title=title)
        axes[number].grid(visible=False)
    axes[0].set_ylabel("Coefficient")
    fig.colorbar(image, ax=axes, label="deviations from the mean", pad=0.01)
    return finish(fig)


def mfcc_against_logmel(logmel: np.ndarray, mfcc: np.ndarray, config: FeatureConfig) -> Figure:
    """How strongly the values of a frame depend on each other, as log-mel and as MFCC.

    ``logmel`` (frames, n_mels) and ``mfcc`` (frames, n_mfcc): frames of many clips, in the same order.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 4.1), layout="constrained")
    for axis, values, title in ((axes[0], logmel, "Log-mel bands"), (axes[1], mfcc, "MFCC")):
        image = axis.imshow(np.corrcoef(values.T), origin="lower", cmap="RdBu_r", vmin=-1, vmax=1)
        axis.set_title(title)
        axis.grid(visible=False)
    _label_bands(config, axes[0].xaxis, axes[0].yaxis)
    axes[1].set(xlabel="Coefficient", ylabel="Coefficient")
    fig.colorbar(image, ax=axes, label="correlation over frames", pad=0.01)
    return finish(fig)


# ------------------------------------------------------------------------------------------ many clips


def relative_time(store: FeatureStore, steps: int = 100) -> np.ndarray:
    """Log-mels (N, steps, bands) of all clips, stretched to one length: the frame nearest to each step."""
    shares = (np.arange(steps) + 0.5) / steps
    return np.stack([logmel[(shares * length).astype(int)]
                     for logmel, length in zip(store.logmel, store.lengths, strict=True)])


def mean_spectrograms(means: Mapping[str, np.ndarray], config: FeatureConfig) -> Figure:
    """The mean log-mel (steps, bands) of each emotion; all on one scale, time as a share of the speech."""
    values = np.stack(list(means.values()))
    return _mean_grid(means, config, "dB re full scale", vmin=values.min(), vmax=values.max(), cmap="magma")


def mean_differences(means: Mapping[str, np.ndarray], config: FeatureConfig) -> Figure:
    """How far each emotion's mean log-mel lies above (red) or below (blue) the mean of all eight."""
    overall = np.mean(list(means.values()), axis=0)
    differences = {emotion: mean - overall for emotion, mean in means.items()}
    reach = max(np.abs(d).max() for d in differences.values())
    return _mean_grid(differences, config, "dB above the mean of all", vmin=-reach, vmax=reach, cmap="RdBu_r")


def _mean_grid(panels: Mapping[str, np.ndarray], config: FeatureConfig, label: str, **options) -> Figure:
    fig, axes = plt.subplots(2, 4, figsize=(11, 5), layout="constrained", sharex=True, sharey=True)
    for axis, (emotion, values) in zip(axes.flat, panels.items(), strict=True):
        image = axis.imshow(values.T, origin="lower", aspect="auto", interpolation="nearest",
                            extent=(0, 100, -0.5, config.n_mels - 0.5), **options)
        axis.set_title(emotion)
        axis.grid(visible=False)
        _label_bands(config, axis.yaxis)
        axis.label_outer()
    for axis in axes[1]:
        axis.set_xlabel("Speech (%)")
    fig.colorbar(image, ax=axes, label=label, pad=0.01, shrink=0.8)
    return finish(fig)


def embedding(points: np.ndarray, index: pd.DataFrame) -> Figure:
    """Clips as points (N, 2), the same ones coloured by emotion and by actor (women light, men dark)."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 5.4), layout="constrained")
    left.scatter(*points.T, s=11, c=index.emotion.map(EMOTION_COLORS), linewidths=0)
    actors = sorted(index.actor.unique())
    hues = plt.get_cmap("hsv")(np.linspace(0, 1, len(actors) // 2 + 2))
    colors = {actor: hues[place // 2] for place, actor in enumerate(actors)}
    for gender, marker in (("female", "o"), ("male", "^")):
        chosen = (index.gender == gender).to_numpy()
        right.scatter(*points[chosen].T, s=15, marker=marker, linewidths=0, alpha=0.85,
                      c=[colors[actor] for actor in index.actor[chosen]])
    for axis, title in ((left, "Coloured by emotion"), (right, "The same clips, coloured by actor")):
        axis.set(xticks=[], yticks=[], title=title)
        axis.grid(visible=False)
    left.legend(handles=[Line2D([], [], marker="o", linestyle="", color=color, label=emotion)
                         for emotion, color in EMOTION_COLORS.items()],
                loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4)
    right.legend(handles=[Line2D([], [], marker=marker, linestyle="", color=GREY, label=f"{gender} actors")
                          for gender, marker in (("female", "o"), ("male", "^"))],
                 loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2)
    return finish(fig)


def augmentation(panels: Mapping[str, np.ndarray], config: FeatureConfig) -> Figure:
    """One clip's log-mel (frames, bands), first as it is, then varied, on one scale; padding is grey."""
    top = next(iter(panels.values())).max()
    longest = max(np.flatnonzero((logmel > PAD_DB).any(axis=1))[-1] + 1 for logmel in panels.values())
    rows = -(-len(panels) // 4)
    fig, axes = plt.subplots(rows, 4, figsize=(11, 2.6 * rows), layout="constrained", sharex=True,
                             sharey=True, squeeze=False)
    for axis, (title, logmel) in zip(axes.flat, panels.items(), strict=False):
        padding = np.broadcast_to((logmel <= PAD_DB).all(axis=1, keepdims=True), logmel.shape)
        image = _spectrogram(axis, np.ma.masked_where(padding, logmel), config, top)
        axis.set_facecolor(PADDING)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(0, 1.05 * longest * config.hop_length / config.sample_rate)
        axis.label_outer()
    for axis in axes.flat[len(panels):]:
        axis.axis("off")
    fig.colorbar(image, ax=axes, label="dB re full scale", pad=0.01, shrink=0.8)
    return finish(fig)
