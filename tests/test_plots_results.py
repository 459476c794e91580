"""ser_utils.plots.results: what the figures hold, and their banner."""

import shutil

import pandas as pd
import pytest
from fakes import fake_results, texts

from ser_utils import paper
from ser_utils.evaluation import statistics, tables
from ser_utils.plots import results, style
from ser_utils.training import runs

pytestmark = pytest.mark.usefixtures("clean_style")


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
    fake_results(tmp_path, protocols=["actors"], models=["alexnet", "lstm"], folds=[0, 1])
    shutil.rmtree(tmp_path / "actors" / "lstm" / "fold1")
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
