"""ser_utils.plots.explain: what the figures hold."""

import numpy as np
import pytest
from fakes import texts

from ser_utils.config import FeatureConfig
from ser_utils.plots import explain as plots
from ser_utils.plots import style

FEATURES = FeatureConfig()
HOP = FEATURES.hop_length / FEATURES.sample_rate
RNG = np.random.default_rng(0)
LOGMEL = RNG.normal(-40, 10, size=(100, 80))
pytestmark = pytest.mark.usefixtures("clean_style")


def test_curves_lie_under_their_clip():
    curve = np.linspace(0, 2, 100)
    wave = RNG.normal(size=100 * FEATURES.hop_length)
    fig = plots.curves_over_clip(wave, LOGMEL, {"attention": 3 * curve}, FEATURES, np.array([25, 50]), "happy")
    sound, picture, weights = fig.axes
    assert sound.get_xlim() == picture.get_xlim() == weights.get_xlim()
    np.testing.assert_allclose(weights.lines[0].get_ydata(), curve)  # relative to its mean
    marks = [line.get_xdata()[0] for line in sound.lines[1:]]
    assert marks == pytest.approx([25 * HOP, 50 * HOP])
    assert "happy" in texts(fig) and any("nucleus" in text for text in texts(fig))
    without = plots.curves_over_clip(wave, LOGMEL, {"a": curve, "b": curve}, FEATURES)
    assert len(without.axes[0].lines) == 1 and {"a", "b"} <= set(texts(without))
    assert not any("nucleus" in text for text in texts(without))


def test_weight_by_position_has_a_panel_an_emotion():
    style.set_corpus("synthetic")
    profiles = RNG.random((14, 20))
    labels = np.arange(14) % 7  # nobody is surprised
    fig = plots.weight_by_position(profiles, labels)
    assert style.is_synthetic(fig)
    assert len(fig.axes) == 8
    np.testing.assert_allclose(fig.axes[1].lines[1].get_ydata(), profiles[labels == 1].mean(axis=0))
    assert fig.axes[7].get_title("left") == "surprised (0)" and len(fig.axes[7].lines) == 1
