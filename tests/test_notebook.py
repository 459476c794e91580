import numpy as np
import pandas as pd
import pytest
from fakes import fake_run

from ser_utils import config
from ser_utils.data import corpus as corpora
from ser_utils.plots import style
from ser_utils.report import notebook
from ser_utils.training import fit as training

_extract = notebook.features.extract


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show."""
    things = []
    monkeypatch.setattr(notebook, "display", lambda *some: things.extend(some))
    return things


@pytest.fixture
def session(tiny_corpus, monkeypatch, shown, tmp_path):
    """A notebook's session on the tiny corpus; what it writes goes to a temporary folder."""
    monkeypatch.setattr(corpora, "for_profile", lambda profile: tiny_corpus)
    monkeypatch.setattr(notebook, "REPORT", tmp_path / "report")
    monkeypatch.setattr(notebook, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(notebook.features, "extract",
                        lambda corpus, settings: _extract(corpus, settings, tmp_path / "store", progress=False))
    yield notebook.start("smoke", networks=True)
    style.set_corpus("ravdess")


@pytest.fixture
def runs(tmp_path):
    """A made-up run of each protocol."""
    return {protocol: runs.Run(fake_run(tmp_path, protocol, "lstm", profile="smoke"))
            for protocol in ("random", "actors")}


def html(thing) -> str:
    return thing.data if hasattr(thing, "data") and isinstance(thing.data, str) else thing.to_html()


def test_a_synthetic_corpus_is_announced_in_plain_words(session, shown):
    assert corpora.BANNER in html(shown[0])
    assert "192 clips of 24 actors" in html(shown[1]) and "smoke" in html(shown[1])


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="Unknown profile 'big'.*quick"):
        notebook.start("big")


def test_tables_carry_the_banner_and_the_format(session, shown):
    session.table(pd.DataFrame({"a": [1.23456]}), "A table", a="{:.2f}")
    text = html(shown[-1])
    assert "A table" in text and corpora.BANNER in text and "1.23<" in text and "1.2345" not in text


def test_tables_have_words_on_the_left_and_figures_on_the_right(session, shown):
    table = {"name": ["LSTM", "x"], "share": [1.0, None], "text": ["not run", "78.9 to 82.9"], "step": ["–", "+2.5"],
             "order": [1, 2], "kept": ["last", "best"]}
    session.table(pd.DataFrame(table), "A table")
    rules = html(shown[-1]).split("</style>")[0]
    assert [f".col{number} " in rules for number in range(6)] == [True, False, False, False, False, True]


def test_figures_are_kept_with_their_banner(session, shown, tmp_path):
    figure = style.plt.figure()
    session.show(figure, "some_figure")
    assert style.is_synthetic(figure)
    assert (tmp_path / "report/figures/synthetic-smoke/some_figure.png").read_bytes() == shown[-1].data


def test_players_name_the_clip_and_refuse_unknown_ones(session, shown):
    clip = session.clip_where(emotion="angry", actor=3)
    session.play(clip)
    assert "angry, normal, actor 3 (male)" in html(shown[-2]) and shown[-1].data
    with pytest.raises(ValueError, match="No clip '03-01-99'"):
        session.play("03-01-99")
    with pytest.raises(ValueError, match="No clip with"):
        session.clip_where(emotion="bored")


@pytest.mark.parametrize("model", ["alexnet", "lstm"])
def test_the_network_shown_is_the_one_the_profile_trains(session, shown, model):
    session.show_network(model)
    c = config.run_configs("smoke", "synthetic", [model])[0]
    assert session.input_shape(model) == (c.frames // c.pool, c.features.n_mels // c.pool, 1)
    assert f"{session.network(model).count_params():,}" in html(shown[-2])
    session.recipe(model)
    assert str(c.learning_rate) in html(shown[-1])


def test_scores_stand_beside_the_papers(session, shown, runs):
    session.show_scores("lstm", runs)
    text = html(shown[-1])
    assert "79.8" in text and "ours, random, fold 0" in text
    assert f"{100 * runs['actors'].info['metrics']['test']['accuracy']:.1f}" in text


def test_differences_from_the_canonical_network_are_shown_with_their_source(session, shown, monkeypatch):
    found = pd.DataFrame({"what differs": ["a stem"], "why": ["small"], "worth (points)": ["+1.2"]}), "240 clips"
    monkeypatch.setattr("ser_utils.studies.ablation.differences", lambda model: found)
    session.show_differences("lstm")
    text = html(shown[-1])
    assert "canonical LSTM" in text and "240 clips" in text and "a stem" in text and "+1.2" in text
    assert corpora.BANNER not in text  # published runs are of RAVDESS, whatever this notebook plays


def test_curves_and_confusions_are_drawn_for_each_protocol(session, runs, tmp_path):
    session.show_learning("lstm", runs)
    session.show_confusion("lstm", runs)
    names = {path.stem for path in (tmp_path / "report/figures/synthetic-smoke").iterdir()}
    assert names == {f"lstm_{what}_{p}" for what in ("learning", "confusion") for p in ("random", "actors")}


def test_logmel_and_waveform_of_a_clip_belong_together(session):
    clip = session.clip_where(emotion="sad", actor=2)
    logmel = session.logmel([clip], 160)
    length = int((logmel[0] > config.PAD_DB).any(axis=1).sum())
    wave = session.waveform(clip, 160)
    assert length == 1 + len(wave) // 320
    np.testing.assert_allclose(notebook.features.log_mel(wave, session.store.config), logmel[0, :length], atol=1e-3)


def test_training_a_model_in_a_notebook_gives_its_runs(session, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "run", lambda c, *rest: asked.append(c.name) or c.name)
    assert session.train("vgg16") == {"actors": "actors/vgg16/fold0"} and asked == ["actors/vgg16/fold0"]
    assert session.finished("vgg16") == {}


def test_source_is_shown(shown):
    notebook.source(notebook.source)
    assert "def source(function" in html(shown[-1])


def test_a_computed_sentence_has_proper_minus_signs(monkeypatch):
    said = []
    monkeypatch.setattr(notebook, "display", said.append)
    notebook.say("changes by -3.1 points, 2-3 folds, fold-0")
    assert said[0].data == "changes by −3.1 points, 2-3 folds, fold-0"
