"""The figure of the ladder: what is drawn is what the table says."""

import pandas as pd
import pytest

from ser_utils.plots import style
from ser_utils.plots import validity as plots

pytestmark = pytest.mark.usefixtures("clean_style")


def texts(axis):
    return [text.get_text() for text in axis.texts]


def made_scores(models=("alexnet", "transformer")):
    rows = [{"shortcut": name, "title": title, "model": model, "accuracy": 40.0 + 10 * place + shift,
             "low": 35.0 + 10 * place + shift, "high": 45.0 + 10 * place + shift}
            for place, (name, title) in enumerate([("actors", "unseen"), ("random", "known"), ("copies", "copied")])
            for shift, model in enumerate(models)]
    return pd.DataFrame(rows)


def test_ladder_draws_every_rung_of_every_network():
    table = made_scores()
    axis = plots.ladder(table, "A title").axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["unseen", "known", "copied"]
    assert texts(axis) == [f"{value:.1f}" for value in table.accuracy]
    places = [text.get_position()[1] for text in axis.texts]
    assert places == sorted(places) and axis.yaxis_inverted()
    assert len(plots.ladder(made_scores(["lstm"])).axes[0].texts) == 3


def test_the_figure_carries_the_banner_of_a_synthetic_corpus():
    style.set_corpus("synthetic")
    assert style.is_synthetic(plots.ladder(made_scores(), "Title"))
