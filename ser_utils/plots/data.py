"""Figures that more than one page uses: the framework of the study, and a log-mel spectrogram on an axis."""

import librosa
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyBboxPatch

from ser_utils.config import FeatureConfig
from ser_utils.paper import MODEL_NAMES, TABLE1
from ser_utils.plots.style import GREY, INK, finish

TICKS_HZ = {125: "125", 500: "500", 1000: "1k", 2000: "2k", 4000: "4k", 8000: "8k"}


def framework(config: FeatureConfig) -> Figure:
    """The whole study as a block diagram, from the recordings to the tables."""
    rate, hop = config.sample_rate // 1000, 1000 * config.hop_length // config.sample_rate
    blue, plain, top = ("#EEF3F8", "#0072B2"), ("#F4F4F4", GREY), (20, 10.5)
    train, val, test = (("white", color) for color in ("#56B4E9", "#E69F00", "#882255"))
    boxes = [  # x, y, (width, height), (fill, edge), title, text
        (10.5, 60, top, blue, "RAVDESS speech", "1,440 clips, 24 actors,\n8 emotions"),
        (37.5, 60, top, blue, "Cleaning", f"mono, silence around the\nspeech cut, {rate} kHz"),
        (64.5, 60, top, blue, "Features", f"log-mel spectrogram:\n{config.n_mels} bands, every {hop} ms"),
        (92.5, 60, top, blue, "Fixed folds", "random, twins, actors;\n6 folds each"),
        (11.5, 40, (17, 9), train, "Training", f"{TABLE1['train']} clips"),
        (11.5, 24, (17, 9), val, "Validation", f"{TABLE1['val']} clips"),
        (11.5, 8, (17, 9), test, "Test", f"{TABLE1['test']} clips"),
        (34, 40, (19, 9), ("#E8F4EF", "#009E73"), "Augmentation", "training clips only"),
        (54.5, 24, (14, 41), plain, "Normalisation",
         "mean and\ndeviation of\neach band,\nmeasured on\ntraining clips\nonly"),
        (74, 24, (16, 41), ("#EFEDF7", "#332288"), "Seven networks", "\n".join(MODEL_NAMES.values())),
        (95, 40, (16, 9), train, "Learning", "loss, AdamW"),
        (95, 24, (16, 9), val, "Epoch by epoch", "best or last kept"),
        (95, 8, (16, 9), test, "Predictions", "one a test clip"),
        (54.5, -4.5, (54, 6), plain, "Tables, intervals, significance tests, figures", ""),
    ]
    arrows = [[(20.5, 60), (27.5, 60)], [(47.5, 60), (54.5, 60)], [(74.5, 60), (82.5, 60)], [(20, 40), (24.5, 40)],
              [(43.5, 40), (47.5, 40)], [(20, 24), (47.5, 24)], [(20, 8), (47.5, 8)], [(95, 28.5), (95, 35.5)],
              [(95, 3.5), (95, -4.5), (81.5, -4.5)],
              *([(92.5, 54.7), (92.5, 50), (1, 50), (1, y), (3, y)] for y in (40, 24, 8)),
              *([(start, y), (stop, y)] for start, stop in ((61.5, 66), (82, 87)) for y in (40, 24, 8))]
    fig, axis = plt.subplots(figsize=(10.5, 7), layout="constrained")
    axis.set(xlim=(0, 104), ylim=(-9, 66))
    axis.axis("off")
    for x, y, (width, height), (fill, edge), title, text in boxes:
        axis.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=fill, edgecolor=edge,
                                      linewidth=1.2, boxstyle="round,pad=0,rounding_size=1.2"))
        above = 1.15 * (text.count("\n") + 1) if text else 0
        axis.text(x, y + above, title, ha="center", va="center", fontsize=9.5, fontweight="bold")
        axis.text(x, y - 1.5, text, ha="center", va="center", fontsize=8.5, linespacing=1.35)
    for *line, last in arrows:
        axis.plot(*zip(*line, strict=True), color=INK, linewidth=1.3)
        axis.annotate("", last, line[-1], arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.3,
                                                      "shrinkA": 0, "shrinkB": 0})
    return finish(fig)


def label_bands(config: FeatureConfig, axis: Axis) -> None:
    """Label an axis (``axes.xaxis``, ``axes.yaxis``) that counts mel bands with frequencies."""
    bands = librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=config.fmax)[1:-1]
    axis.set_ticks(np.interp(list(TICKS_HZ), bands, np.arange(config.n_mels)), TICKS_HZ.values())
    axis.set_label_text("Frequency (Hz)")


def spectrogram(axis: Axes, logmel: np.ndarray, config: FeatureConfig, top: float | None = None, **options
                ) -> AxesImage:
    """Draw a log-mel spectrogram (frames, bands) in dB over seconds; the colours span 80 dB below ``top``."""
    top = logmel.max() if top is None else top
    step = config.hop_length / config.sample_rate
    image = axis.imshow(logmel.T, origin="lower", aspect="auto", interpolation="nearest",
                        extent=(-step / 2, (len(logmel) - 0.5) * step, -0.5, config.n_mels - 0.5),
                        **{"vmin": top - 80, "vmax": top, "cmap": "magma"} | options)
    axis.set_xlabel("Seconds")
    axis.grid(visible=False)
    label_bands(config, axis.yaxis)
    return image
