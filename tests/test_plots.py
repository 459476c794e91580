"""ser_utils.plots: every figure looks the same, whatever its user has set; what they hold, and their banner."""

from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fakes import fake_results, texts

from ser_utils import paper
from ser_utils.config import FeatureConfig
from ser_utils.evaluation import statistics, tables
from ser_utils.paths import FIGURES, NOTEBOOKS
from ser_utils.plots import data, explain, results, style
from ser_utils.training import runs

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


def test_curves_lie_under_their_clip():
    curve, logmel = np.linspace(0, 2, 100), RNG.normal(-40, 10, size=(100, 80))
    wave = RNG.normal(size=100 * FEATURES.hop_length)
    fig = explain.curves_over_clip(wave, logmel, {"attention": 3 * curve}, FEATURES, np.array([25, 50]), "happy")
    sound, picture, weights = fig.axes
    assert sound.get_xlim() == picture.get_xlim() == weights.get_xlim()
    np.testing.assert_allclose(weights.lines[0].get_ydata(), curve)  # relative to its mean
    assert [line.get_xdata()[0] for line in sound.lines[1:]] == pytest.approx([25 * HOP, 50 * HOP])
    assert "happy" in texts(fig) and any("nucleus" in text for text in texts(fig))
    without = explain.curves_over_clip(wave, logmel, {"a": curve, "b": curve}, FEATURES)
    assert len(without.axes[0].lines) == 1 and {"a", "b"} <= set(texts(without))
    assert not any("nucleus" in text for text in texts(without))


def test_weight_by_position_has_a_panel_an_emotion():
    style.set_corpus("synthetic")
    profiles, labels = RNG.random((14, 20)), np.arange(14) % 7  # nobody is surprised
    fig = explain.weight_by_position(profiles, labels)
    assert style.is_synthetic(fig) and len(fig.axes) == 8
    np.testing.assert_allclose(fig.axes[1].lines[1].get_ydata(), profiles[labels == 1].mean(axis=0))
    assert fig.axes[7].get_title("left") == "surprised (0)" and len(fig.axes[7].lines) == 1


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
    assert [text.get_text() for text in fig.axes[2].texts] == ["not run"] * 7
    diamonds = [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_marker() == "D"]
    assert diamonds == [row[0] for row in paper.TABLE2.values()]
    assert texts(fig).count("2/6 folds") == 9


def test_table2_bars_show_seeds_averaged_below_the_networks_in_their_colour(table):
    table = table.query("protocol == 'random'")
    row = table[table.model == "lstm"].assign(group="averaged", model="lstm_x3", name="LSTM × 3")
    axis = results.table2_bars(pd.concat([table, row], ignore_index=True)).axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()][::-1]
    assert labels[6:9] == ["Transformer", "LSTM × 3", "Ensemble, mean"]
    bars = {round(bar.get_y() + bar.get_height() / 2): bar.get_facecolor() for bar in axis.patches}
    assert bars[len(labels) - 1 - 7] == bars[len(labels) - 1 - 5]


def test_unseen_speakers_hold_every_system_in_its_group(tmp_path):
    for model, folds in (("alexnet", [0, 1]), ("lstm", [0])):
        fake_results(tmp_path, protocols=["actors"], models=[model], folds=folds)
    systems = tables.unseen_speakers(tables.table2(tmp_path))
    fig = results.unseen_speakers(systems)
    axis = fig.axes[0]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert sorted(line.get_xdata()[0] for line in points) == pytest.approx(sorted(systems.uar))
    filled = [line for line in points if line.get_markerfacecolor() != "white"]
    assert len(filled) == systems.same_folds.sum() < len(points)
    heads = [text.get_text() for text in axis.texts if text.get_fontweight() == "bold"]
    assert [head for head in heads if head[0].isalpha()] == list(results.SYSTEM_GROUPS.values())
    assert "1 of 6 folds" in texts(fig) and "2 of 6 folds" not in texts(fig)
    rows = dict(zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    assert rows["AlexNet"] > rows["Residual LSTM with attention"] > rows["WavLM large"]
    fig.draw_without_rendering()
    low, high = axis.get_xlim()
    assert low <= systems.low.min() and systems.high.max() <= high
    assert fig.bbox.containsx(max(text.get_window_extent().x1 for text in axis.texts))


@pytest.mark.parametrize("panels", [1, 2])
def test_table2_bars_keep_their_numbers_clear_of_the_intervals(table, panels):
    """Whatever the accuracy, and where folds differ from model to model."""
    table = table.query("protocol == 'random' and group == 'network'").copy()
    table[["accuracy", "accuracy_low", "accuracy_high"]] = [
        [0.0, 0.0, 2.0], [7.9, 4.0, 11.5], [12.5, 9.0, 17.0], [22.1, 17.0, 28.0], [25.0, 14.0, 33.0],
        [60.0, 48.0, 71.0], [99.0, 97.0, 100.0]]
    table["folds"] = [1, 2, 1, 3, 4, 5, 6]
    table = pd.concat([table, table.assign(protocol="actors")]).query("protocol == 'random' or @panels == 2")
    fig = results.table2_bars(table)
    fig.draw_without_rendering()
    assert len(fig.axes) == panels and fig.axes[0].get_title(loc="left") == results.PROTOCOL_TITLES["random"]
    assert fig.bbox.containsx(fig.legends[0].get_window_extent().x1)
    for axis in fig.axes:
        numbers = [text for text in axis.texts if "." in text.get_text()]
        notes = [text for text in axis.texts if "/6 folds" in text.get_text()]
        assert len(numbers) == 7 and len(notes) == 6  # the last has all folds
        for number, row in zip(numbers, table.itertuples(), strict=False):
            frame = axis.transData.inverted().transform_bbox(number.get_window_extent())
            assert number.get_text() == f"{row.accuracy:.1f}"
            assert frame.x1 < row.accuracy_low or frame.x0 > max(row.accuracy_high, row.accuracy)
            assert 0 < frame.x0 and frame.x1 < 100
        assert all(axis.bbox.x1 < note.get_window_extent().x0 for note in notes)


def test_critical_difference_names_every_network_with_its_rank(root):
    style.set_corpus("synthetic")
    predictions = runs.predictions(root, "random")
    right = predictions.assign(right=predictions.label == predictions.prediction, actor=predictions["clip"].str[-2:])
    comparison = statistics.critical_difference(right.pivot_table("right", "actor", "model"))
    fig = results.critical_difference(comparison, "A title")
    assert style.is_synthetic(fig) and any("A title: Friedman p" in text for text in texts(fig))
    shown = texts(fig)
    for model, rank in comparison["ranks"].items():
        assert any(paper.MODEL_NAMES[model] in text and f"{rank:.2f}" in text for text in shown)
