"""ser_utils.plots.data: what the figures of the corpus and its features hold."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import texts

from ser_utils import paper
from ser_utils.config import FeatureConfig
from ser_utils.plots import data, style

pytestmark = pytest.mark.usefixtures("clean_style")


def test_framework_names_every_part_and_no_words_lie_on_each_other():
    fig = data.framework(FeatureConfig())
    fig.canvas.draw()
    said = "\n".join(texts(fig))
    for wanted in (*paper.MODEL_NAMES.values(), "960 clips", "240 clips", "Augmentation", "Normalisation", "80 bands"):
        assert wanted in said
    assert "40 bands" in "\n".join(texts(data.framework(FeatureConfig(n_mels=40))))
    with style.corpus_shown("synthetic"):
        assert style.is_synthetic(data.framework(FeatureConfig()))
    frames = [text.get_window_extent() for text in fig.findobj(mpl.text.Text) if text.get_text()]
    assert not [1 for i, a in enumerate(frames) for b in frames[i + 1:] if a.overlaps(b)]


def test_a_spectrogram_is_labelled_in_hertz_and_seconds():
    config = FeatureConfig()
    fig, axis = plt.subplots()
    image = data.spectrogram(axis, np.linspace(-90, -10, 50 * 80).reshape(50, 80), config)
    assert image.get_clim() == (-90, -10) and image.get_array().shape == (80, 50)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["125", "500", "1k", "2k", "4k", "8k"]
    assert np.diff(axis.get_yticks()).min() > 0 and axis.get_ylabel() == "Frequency (Hz)"
    assert image.get_extent()[:2] == [-0.01, 0.99]
