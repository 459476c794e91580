"""A log-mel spectrogram on an axis, for every page that shows one."""

import librosa
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.image import AxesImage

from ser_utils.config import FeatureConfig

TICKS_HZ = {125: "125", 500: "500", 1000: "1k", 2000: "2k", 4000: "4k", 8000: "8k"}


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
