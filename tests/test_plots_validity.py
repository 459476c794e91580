"""Figures of the audit, the ladder and the controls: what is drawn is what the tables say."""

import numpy as np
import pandas as pd
import pytest
from fakes import fake_results
from matplotlib.colors import to_hex

from ser_utils.evaluation import statistics
from ser_utils.plots import style
from ser_utils.plots import validity as plots
from ser_utils.studies import audit
from ser_utils.training import runs

pytestmark = pytest.mark.usefixtures("clean_style")


def texts(axis):
    return [text.get_text() for text in axis.texts]


def made_scores(models=("alexnet", "transformer")):
    rows = [{"shortcut": name, "title": title, "model": model, "accuracy": 40.0 + 10 * place + shift,
             "low": 35.0 + 10 * place + shift, "high": 45.0 + 10 * place + shift}
            for place, (name, title) in enumerate([("actors", "unseen"), ("random", "known"), ("copies", "copied")])
            for shift, model in enumerate(models)]
    return pd.DataFrame(rows)


def test_grim_marks_what_is_impossible():
    table = audit.grim()
    figure = plots.grim(table)
    accuracy, recall = figure.axes
    assert accuracy.get_title(loc="left").endswith("1/240") and recall.get_title(loc="left").endswith("1/256")
    for axis, metric in ((accuracy, "accuracy"), (recall, "recall")):
        rows = table[table.metric == metric]
        assert texts(axis) == [f"{row.printed:.1f}: {row.verdict}" for row in rows.itertuples()]
        colors = [to_hex(text.get_color()).upper() for text in axis.texts]
        assert colors == [plots.POSSIBLE_COLOR.upper() if verdict == "possible" else plots.IMPOSSIBLE_COLOR.upper()
                          for verdict in rows.verdict]


def test_grims_strokes_are_attainable_values():
    figure = plots.grim(audit.grim())
    strokes = [c for c in figure.axes[0].collections if hasattr(c, "get_segments")]
    assert len(strokes) == 7
    for collection, (printed, *_) in zip(strokes, audit.TABLE2.values(), strict=True):
        shares = np.array([segment[0, 0] for segment in collection.get_segments()]) + printed
        np.testing.assert_allclose(shares * 2.4, np.round(shares * 2.4), atol=1e-6)


def test_ladder_draws_every_rung_of_every_network():
    table = made_scores()
    axis = plots.ladder(table, "A title").axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["unseen", "known", "copied"]
    assert texts(axis) == [f"{value:.1f}" for value in table.accuracy]
    places = [text.get_position()[1] for text in axis.texts]
    assert places == sorted(places) and axis.yaxis_inverted()
    assert len(plots.ladder(made_scores(["lstm"])).axes[0].texts) == 3


def test_controls_with_and_without_trained_runs():
    cues = pd.DataFrame({"kind": ["emotion", "emotion", "actor"], "what": ["loudness", "loudness", "voice"],
                         "protocol": ["random", "actors", "random"], "score": [20.0, 19.0, 60.0],
                         "low": [17.0, 16.0, 50.0], "high": [23.0, 22.0, 70.0], "chance": [12.5, 12.5, 4.2]})
    trained = pd.DataFrame({"title": ["shuffled labels"], "model": ["lstm"], "uar": [12.0], "uar_low": [8.0],
                            "uar_high": [16.0]})
    emotion, actor = plots.controls(cues, trained).axes
    assert [tick.get_text() for tick in emotion.get_yticklabels()] == ["shuffled labels (LSTM)", "loudness alone"]
    assert sorted(texts(emotion)) == ["12.0", "19.0", "20.0"] and texts(actor) == ["60.0"]
    assert len(plots.controls(cues, trained[:0]).axes[0].get_yticklabels()) == 1


def test_surviving_differences_are_framed(tmp_path):
    results = fake_results(tmp_path, models=("alexnet", "transformer", "lstm"))
    pairs = {protocol: statistics.compare_all(runs.predictions(results, protocol))
             for protocol in ("random", "actors")}
    pairs["random"].loc[0, "significant"], pairs["actors"]["significant"] = True, False
    figure = plots.surviving(pairs, {"random": "Known", "actors": "New"})
    random, actors = figure.axes[:2]
    assert len(random.patches) == 2 * pairs["random"].significant.sum() > 0 and not actors.patches
    assert actors.get_title(loc="left") == "New: 0 of 3 survive"
    first = pairs["random"].iloc[0]
    assert f"{100 * first.difference:+.1f}".replace("-", "−") in texts(random)


@pytest.mark.parametrize("draw", [
    lambda: plots.grim(audit.grim()), lambda: plots.paper_intervals(audit.intervals()),
    lambda: plots.ladder(made_scores(), "Title")])
def test_figures_carry_the_banner_of_a_synthetic_corpus(draw):
    style.set_corpus("synthetic")
    assert style.is_synthetic(draw())
