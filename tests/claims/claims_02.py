"""Numbers in the prose of notebook 02 that follow from the settings of the features."""

import librosa
import numpy as np

from ser_utils.config import FeatureConfig
from ser_utils.features.spectral import STEP_DB

PAGE = "notebooks/02_feature_extraction.ipynb"
CONFIG = FeatureConfig()


def bands():
    """How far the sum of a band's weights lies below 1, dB; one over that sum."""
    bank = librosa.filters.mel(sr=CONFIG.sample_rate, n_fft=CONFIG.n_fft, n_mels=CONFIG.n_mels, fmin=CONFIG.fmin,
                               fmax=CONFIG.fmax)
    total = bank.sum(axis=1).mean()
    return -10 * np.log10(total), 1 / total



CLAIMS = [(PAGE, "a Hann window $w$ of $N = {}$ samples ({:.0f} ms) that moves on by $H = {}$ samples ({:.0f} ms)",
     lambda: (CONFIG.n_fft, 1000 * CONFIG.n_fft / CONFIG.sample_rate,
              CONFIG.hop_length, 1000 * CONFIG.hop_length / CONFIG.sample_rate)),
    (PAGE, "the bands lie about {:.0f} dB below the lines of the spectrum, for librosa makes the weights of each band "
           "add up to 1 / ({:.0f} Hz)", bands),
    (PAGE, "in steps of 1/{:.0f} dB", lambda: 1 / STEP_DB),
    (PAGE, "with $D = {:.0f}$ dB", lambda: CONFIG.top_db)]
