"""ser_utils.plots.data: what the figures of the corpus and its features hold."""

from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ser_utils import paper
from ser_utils.config import FeatureConfig
from ser_utils.paths import NOTEBOOKS
from ser_utils.plots import data

pytestmark = pytest.mark.usefixtures("clean_style")


def test_the_diagram_of_the_study_says_what_settings_and_paper_say():
    said = "\n".join(ElementTree.parse(NOTEBOOKS / "framework.svg").getroot().itertext())
    config = FeatureConfig()
    for wanted in (*paper.MODEL_NAMES.values(), *(f"{count} clips" for count in paper.TABLE1.values()),
                   f"speech cut, {config.sample_rate // 1000} kHz", f"{config.n_mels} bands, every 20 ms"):
        assert wanted in said
    assert config.hop_length / config.sample_rate == 0.02


def test_a_spectrogram_is_labelled_in_hertz_and_seconds():
    config = FeatureConfig()
    fig, axis = plt.subplots()
    image = data.spectrogram(axis, np.linspace(-90, -10, 50 * 80).reshape(50, 80), config)
    assert image.get_clim() == (-90, -10) and image.get_array().shape == (80, 50)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["125", "500", "1k", "2k", "4k", "8k"]
    assert np.diff(axis.get_yticks()).min() > 0 and axis.get_ylabel() == "Frequency (Hz)"
    assert image.get_extent()[:2] == [-0.01, 0.99]
