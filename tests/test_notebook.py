import re

import keras
import numpy as np
import pandas as pd
import pytest
from fakes import fake_results, fake_run

from ser_utils import config
from ser_utils.data import corpus as corpora
from ser_utils.plots import style
from ser_utils.report import notebook
from ser_utils.training import frontend
from ser_utils.training.runs import Run


@pytest.fixture
def shown(monkeypatch):
    things = []
    monkeypatch.setattr(notebook, "display", lambda *some: things.extend(some))
    return things


@pytest.fixture(scope="module")
def store(tiny_store):
    return notebook.spectral.read(tiny_store)


@pytest.fixture
def session(tiny_corpus, store, monkeypatch, shown, tmp_path):
    """A notebook's session on the tiny corpus; what it writes goes to a temporary folder."""
    monkeypatch.setattr(corpora, "for_profile", lambda profile: tiny_corpus)
    for name in ("report", "runs", "results"):
        monkeypatch.setattr(notebook, name.upper(), tmp_path / name)
    monkeypatch.setattr(notebook.spectral, "extract", lambda corpus, settings: store)
    yield notebook.start("smoke", networks=True)
    style.set_corpus("ravdess")


@pytest.fixture
def own(tmp_path):
    """A made-up run of one's own for two protocols."""
    return {protocol: Run(fake_run(tmp_path / "own", protocol, "lstm", profile="smoke"))
            for protocol in ("random", "actors")}


def html(thing) -> str:
    return thing.to_html() if hasattr(thing, "to_html") else thing.data


def test_a_synthetic_corpus_is_announced_in_plain_words(session, shown):
    assert corpora.BANNER in html(shown[0])
    assert "192 clips of 24 actors" in html(shown[1]) and "smoke" in html(shown[1])
    with pytest.raises(ValueError, match="Unknown profile 'big'.*quick"):
        notebook.start("big")


def test_tables_carry_the_banner_and_the_format_words_on_the_left_and_figures_on_the_right(session, shown):
    table = {"name": ["LSTM", "x"], "share": [1.23456, None], "text": ["not run", "78.9 to 82.9"],
             "step": ["–", "+2.5"], "order": [1, 2], "kept": ["last", "best"]}
    for _ in range(2):
        session.table(pd.DataFrame(table), "A table", share="{:.2f}")
    rules, text = html(shown[-1]).split("</style>")
    assert "A table" in text and corpora.BANNER in text and "1.23<" in text and "1.2345" not in text
    assert [f".col{number} " in rules for number in range(6)] == [True, False, False, False, False, True]
    assert html(shown[-2]) == html(shown[-1])  # the same table is always the same HTML


def test_figures_are_kept_with_their_banner_and_players_name_the_clip(session, shown, tmp_path):
    figure, _ = style.plt.subplots(1, 2, subplot_kw={"title": "One", "xlabel": "Epoch", "ylabel": "Accuracy"})
    session.show(figure, "some_figure")
    assert style.is_synthetic(figure) and shown[-1].alt == "One; Accuracy by Epoch"
    assert (tmp_path / "report/figures/synthetic-smoke/some_figure.png").read_bytes() == shown[-1].data
    clip = session.clip_where(emotion="angry", actor=3)
    session.play(clip)
    assert "angry, normal, actor 3 (male)" in html(shown[-2]) and shown[-1].data
    with pytest.raises(ValueError, match="No clip with .*'03-01-99'"):
        session.play("03-01-99")
    with pytest.raises(ValueError, match="No clip with"):
        session.clip_where(emotion="bored")


def test_published_runs_come_first_after_the_paper_and_own_ones_below(session, shown, own, tmp_path):
    fake_results(tmp_path / "results", ["random", "random10"], ["lstm"], [0])  # of which the page shows the first alone
    session.show_published("lstm", own)
    text = html(shown[-1])
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)][1:]
    assert [re.split("[,:]", row[0])[0] for row in rows] == [
        "paper", "Random split (the paper's)", "Random split (the paper's)", "Unseen actors"]
    assert rows[0][1] == "79.8" and rows[2][1] == f"{100 * own['random'].info['metrics']['test']['accuracy']:.1f}"
    assert "of this page, smoke, fold 0" in text and corpora.BANNER in text
    session.show_published("lstm")
    assert corpora.BANNER not in html(shown[-1])  # published runs are of RAVDESS, whatever this notebook plays


def test_curves_and_confusions_are_of_published_runs(session, tmp_path):
    for protocol, fold in (("random", 0), ("random", 1), ("actors", 0)):
        fake_run(tmp_path / "results", protocol, "lstm", fold)
    session.show_learning("lstm")
    session.show_confusion("lstm")
    assert {path.stem for path in tmp_path.glob("report/**/*.png")} == {"lstm_learning", "lstm_confusion"}


def test_logmel_is_that_of_the_clips_asked_for(session, store):
    clips = [session.clip_where(emotion="sad", actor=2), session.clip_where(emotion="happy", actor=1)]
    rows = [list(store.clips).index(clip) for clip in clips]
    expected = notebook.spectral.fit_length(store.logmel[rows], store.lengths[rows], 160)
    np.testing.assert_array_equal(session.logmel(clips, 160), expected)


def test_training_a_model_in_a_notebook_gives_its_runs(session, monkeypatch, store, tmp_path):
    monkeypatch.setattr(notebook.fit, "run", lambda c, *rest: (c.name, *rest))
    assert session.train("vgg16") == {"actors": ("actors/vgg16/fold0", store, tmp_path / "runs")}


def test_test_clips_are_the_surest_first_and_right_or_wrong_as_asked(session, own):
    test = own["actors"].predictions.query("subset == 'test'")
    everything, right = session.test_clips(own["actors"], right=None), session.test_clips(own["actors"])
    wrong = session.test_clips(own["actors"], right=False)
    assert len(right) + len(wrong) == len(everything) == test["clip"].isin(session.index["clip"]).sum()
    assert (right.prediction == right.label).all() and (wrong.prediction != wrong.label).all()
    assert right.confidence.is_monotonic_decreasing


def test_inside_a_run_are_its_test_clips_as_its_network_sees_them(session, own, monkeypatch):
    settings = config.run_configs("smoke", "synthetic", ["alexnet"])[0]
    model = frontend.assemble(settings, np.zeros(80), np.ones(80))
    monkeypatch.setattr(frontend, "load", lambda directory: model)
    monkeypatch.setattr(config, "from_dict", lambda values: settings)
    view = session.inside(own["actors"])
    assert list(view.clips["clip"]) == sorted(view.clips["clip"]) and len(view.images) == len(view.clips)
    assert view.images.shape[1:] == (settings.frames // settings.pool, 80 // settings.pool, 1)
    assert isinstance(view.network, keras.Model) and view.network.input_shape[1:] == view.images.shape[1:]
