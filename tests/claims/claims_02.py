"""Numbers in the prose of notebook 02 that follow from the settings of the features."""

from ser_utils.config import FeatureConfig
from ser_utils.features.spectral import STEP_DB

PAGE = "notebooks/02_feature_extraction.ipynb"
CONFIG = FeatureConfig()

CLAIMS = [(PAGE, "a Hann window $w$ of $N = {}$ samples ({:.0f} ms) that moves on by $H = {}$ samples ({:.0f} ms)",
     lambda: (CONFIG.n_fft, 1000 * CONFIG.n_fft / CONFIG.sample_rate,
              CONFIG.hop_length, 1000 * CONFIG.hop_length / CONFIG.sample_rate)),
    (PAGE, "in steps of 1/{:.0f} dB", lambda: 1 / STEP_DB),
    (PAGE, "with $D = {:.0f}$ dB", lambda: CONFIG.top_db)]
