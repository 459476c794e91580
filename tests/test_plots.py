"""ser_utils.plots: every figure looks the same, whatever its user has set; what they hold, and their banner."""

from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes import fake_results, texts

from ser_utils import paper
from ser_utils.config import FeatureConfig
from ser_utils.evaluation import tables
from ser_utils.paths import FIGURES, NOTEBOOKS
from ser_utils.plots import data, results, style

OWN = {"figure.figsize": (2, 2), "savefig.dpi": 20, "savefig.transparent": True, "savefig.bbox": "tight",
       "axes.facecolor": "black", "axes.grid": False, "lines.linewidth": 9, "font.size": 30, "image.origin": "lower",
       "xtick.direction": "in", "text.usetex": True}
FEATURES = FeatureConfig()
HOP = FEATURES.hop_length / FEATURES.sample_rate
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("clean_style")


def drawn(folder) -> bytes:
    style.use_style()
    figure, axis = plt.subplots()
    axis.plot([0, 1], [0, 1], label="a line")
    axis.legend()
    return style.save_fig(figure, "line", folder).read_bytes()


def test_the_users_own_settings_change_no_figure(tmp_path):
    expected = drawn(tmp_path / "none")
    mpl.rcParams.update(OWN)
    assert drawn(tmp_path / "own") == expected and mpl.get_backend().lower() == "agg"


def test_a_figure_of_the_synthetic_corpus_is_not_saved_among_the_published_ones():
    with style.corpus_shown("synthetic"), pytest.raises(ValueError, match="shows the synthetic corpus"):
        style.save_fig(plt.figure(), "line", FIGURES)


def test_the_diagram_of_the_study_says_what_settings_and_paper_say():
    said = "\n".join(ElementTree.parse(NOTEBOOKS / "framework.svg").getroot().itertext())
    for wanted in (*paper.MODEL_NAMES.values(), *(f"{count} clips" for count in paper.TABLE1.values()),
                   f"speech cut, {FEATURES.sample_rate // 1000} kHz", f"{FEATURES.n_mels} bands, every 20 ms"):
        assert wanted in said
    assert HOP == 0.02


def test_a_spectrogram_is_labelled_in_hertz_and_seconds():
    image = data.spectrogram(plt.gca(), np.linspace(-90, -10, 50 * 80).reshape(50, 80), FEATURES)
    assert image.get_clim() == (-90, -10) and image.get_array().shape == (80, 50)
    assert [label.get_text() for label in image.axes.get_yticklabels()] == ["125", "500", "1k", "2k", "4k", "8k"]
    assert np.diff(image.axes.get_yticks()).min() > 0 and image.axes.get_ylabel() == "Frequency (Hz)"
    assert image.get_extent()[:2] == [-0.01, 0.99]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fake_results(tmp_path_factory.mktemp("results"), protocols=["random"], folds=[0, 1])


@pytest.fixture(scope="module")
def table(root):
    return tables.table2(root)


def test_table2_bars(table, tmp_path):
    fig = results.table2_bars(table)
    assert not style.is_synthetic(fig) and style.save_fig(fig, "table2", tmp_path).stat().st_size > 5000
    assert len(fig.axes) == 3
    bars = fig.axes[0].patches
    assert len(bars) == 9 and len(fig.axes[1].patches) == 0  # seven networks, two ensembles
    assert sorted(bar.get_width() for bar in bars) == pytest.approx(sorted(table.accuracy.dropna()))
    assert [text.get_text() for text in fig.axes[2].texts] == ["not run"] * 9
    diamonds = [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_marker() == "D"]
    assert diamonds == [row[0] for row in paper.TABLE2.values()]
    assert texts(fig).count("2/6 folds") == 9

