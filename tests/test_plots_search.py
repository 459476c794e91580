import numpy as np
import pandas as pd
import pytest

from ser_utils.plots import search as plots


def test_worth_draws_every_variant_of_every_network(clean_style):
    rows = [(model, variant, -difference, -difference - 3, -difference + 2)
            for model in ("lstm", "transformer")
            for variant, difference in (("baseline", np.nan), ("again", 0), ("rate", -4), ("noise", 1))]
    table = pd.DataFrame(rows, columns=["model", "variant", "difference", "low", "high"])
    fig = plots.worth(table, "recipe", "Which choices pay")
    (axis,) = fig.axes
    dots = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert dots == [-4, -4, 1, 1, 0, 0]  # with the choice less without it; what is no choice last
    spans = np.vstack([span for line in axis.collections for span in line.get_segments()])
    assert (spans[:, 0].min(), spans[:, 0].max()) == (-6, 4)
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["a learning rate of 0.001, not half of it", "a learning rate of 0.002, not half of it",
                      "noise in a quarter of the clips", "for scale: nothing changed, trained once more"]
    heights = [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert len(set(heights)) == 6
    assert list(axis.get_yticks()) == [*heights[:2], sum(heights[2:4]) / 2, sum(heights[4:]) / 2]
    assert {text.get_text() for text in fig.legends[0].texts} == {"LSTM", "Transformer"}


@pytest.mark.parametrize("words, lines", [
    ("80 mel bands of 50 ms windows, not 128 of 100 ms", ["80 mel bands of 50 ms", "windows, not 128 of 100 ms"]),
    ("blanked stripes (SpecAugment)", ["blanked stripes (SpecAugment)"]),
    ("one", ["one"])])
def test_long_choices_fill_few_lines_evenly(words, lines):
    assert plots._balanced(words, 46).split("\n") == lines


def test_growth_draws_a_line_for_each_network_and_protocol(clean_style):
    rows = [("random", "alexnet", 480, 70.0, 66.0, 74.0), ("random", "alexnet", 960, 80.0, np.nan, np.nan),
            ("actors", "alexnet", 480, 50.0, 45.0, 55.0), ("actors", "alexnet", 960, 60.0, np.nan, np.nan),
            ("actors", "vgg16", 480, 40.0, 35.0, 45.0), ("actors", "vgg16", 960, 55.0, np.nan, np.nan)]
    fig = plots.growth(pd.DataFrame(rows, columns=["protocol", "model", "clips", "accuracy", "low", "high"]))
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["Random split (the paper's)", "Unseen actors"]
    assert [len(ax.lines) for ax in fig.axes] == [1, 2]
    assert list(fig.axes[1].lines[1].get_ydata()) == [40, 55]
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["480", "960"]
    assert [text.get_text() for text in fig.axes[1].get_xticklabels()] == ["480\n8 voices", "960\n16 voices"]
    whisker = fig.axes[1].collections[1].get_segments()[0]
    assert (whisker[0, 1], whisker[1, 1]) == (35, 45)
    assert {text.get_text() for text in fig.legends[0].texts} == {"AlexNet", "VGG16"}
