"""ser_utils.evaluation.reference: the classic classifiers, their run format, and that they never count as networks."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from fakes import fake_run

from ser_utils import config as configuration
from ser_utils.config import FeatureConfig
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import split
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import reference, statistics, tables
from ser_utils.features.spectral import FeatureStore
from ser_utils.plots import results as figures
from ser_utils.report import publish
from ser_utils.training import runs

CONFIG = reference.ReferenceConfig("full", "ravdess", "random", "logistic", 2, 0, FeatureConfig(n_mels=8, n_mfcc=4),
                                   (1e-4, 1e-1))


@pytest.fixture(scope="module")
def material(made_up):
    """All 1,440 clips with made-up MFCCs of which three coefficients speak of the emotion: (corpus, store)."""
    corpus, store = made_up
    rng = np.random.default_rng(3)
    mfcc = rng.normal(0, 3, (len(store.clips), 12, 12)).astype(np.float32)
    signs = np.array([[label >> bit & 1 for bit in range(3)] for label in corpus.index.label])
    mfcc[:, :, :3] += 4.0 * signs[:, None, :]
    return (Corpus(None, "ravdess", corpus.index),
            FeatureStore(CONFIG.features, store.clips, np.full(len(store.clips), 12), store.logmel, mfcc))


@pytest.fixture(scope="module")
def finished(material, tmp_path_factory):
    """One run of each reference: (root, name -> folder)."""
    root = tmp_path_factory.mktemp("references")
    return root, {name: reference.run(dataclasses.replace(CONFIG, model=name), *material, root)
                  for name in evaluation.REFERENCE_NAMES}


def test_a_profile_has_every_reference_on_every_protocol_and_fold():
    configs = reference.run_configs("full", "ravdess")
    assert len({c.name for c in configs}) == len(configs) == 3 * 3 * 6
    assert {c.features.hash for c in configs} == {configuration.PROFILES["full"].features.hash}
    assert all(c.strengths for c in configs)


def test_the_runs_are_what_the_results_format_asks_for(finished):
    _, folders = finished
    for name, folder in folders.items():
        row = runs.read(folder)  # raises where anything contradicts anything
        info = json.loads((folder / "run.json").read_text())
        assert (row["model"], row["protocol"], row["fold"]) == (name, "random", 2)
        assert info["config_hash"] == dataclasses.replace(CONFIG, model=name).hash
        assert len(runs.read_predictions(folder)) == 480
        assert len(runs.read_history(folder)) == 1
        assert {path.name for path in folder.iterdir()} == {"run.json", "history.csv", "predictions.csv"}


def test_what_can_be_learnt_is_learnt(finished):
    scores = {name: runs.read(folder)["test_accuracy"] for name, folder in finished[1].items()}
    assert scores["majority"] == 32 / 240  # one emotion's clips
    assert scores["logistic"] > 0.8 and scores["svm"] > 0.8


def test_nothing_but_training_clips_is_fitted(material, finished, tmp_path):
    """Scaler and classifier stay what they are when test clips change; C is chosen without them."""
    corpus, store = material
    rows = split(corpus.index, "random", 2)
    spoilt = store.mfcc.copy()
    spoilt[rows["test"]] = 1e3
    changed = corpus.index.copy()
    folder = reference.run(CONFIG, Corpus(None, "ravdess", changed), dataclasses.replace(store, mfcc=spoilt), tmp_path)
    before, after = (runs.read_predictions(f).query("subset == 'val'") for f in (finished[1]["logistic"], folder))
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize("strengths", [(1e-4, 1e-1), (1e-1, 1e-4)])
def test_the_best_c_on_validation_is_kept(material, tmp_path, strengths):
    config = dataclasses.replace(CONFIG, strengths=strengths)
    scores = {}
    for c in strengths:
        folder = reference.run(dataclasses.replace(CONFIG, strengths=(c,)), *material, tmp_path / str(c))
        row = runs.read(folder)
        scores[c] = row["val_accuracy"], -runs.read_history(folder).val_loss[0]
    info = json.loads((reference.run(config, *material, tmp_path) / "run.json").read_text())
    assert info["strength"] == max(scores, key=scores.get)


def test_the_svms_probabilities_keep_its_own_answers(material):
    corpus, store = material
    rows = split(corpus.index, "random", 2)
    values = reference.features.clip_statistics(store).to_numpy()
    fitted = reference.classifier("svm", 1.0).fit(values[rows["train"]], corpus.index.label.to_numpy()[rows["train"]])
    vectors = fitted.calibrated_classifiers_[0].estimator
    decided = vectors.decision_function(values[rows["val"]]).argmax(axis=1)
    assert (fitted.predict_proba(values[rows["val"]]).argmax(axis=1) == decided).all()
    assert reference.parameters(fitted) > 960  # support vectors weigh


def test_a_finished_run_is_left_as_it_is_and_other_settings_replace_it(material, finished, tmp_path, monkeypatch):
    root, folders = finished
    other = dataclasses.replace(CONFIG, strengths=(1e-2,))
    folder = reference.run(CONFIG, *material, tmp_path)
    assert reference.run(other, *material, tmp_path) == folder and runs.is_finished(other, tmp_path)
    monkeypatch.setattr(reference, "classifier", lambda *a: pytest.fail("fitted again"))
    assert reference.run(CONFIG, *material, root) == folders["logistic"]


def test_references_stand_below_the_networks_and_are_never_counted_among_them(finished, tmp_path):
    for name in evaluation.REFERENCE_NAMES:
        fake_run(tmp_path, "random", name, 0, accuracy=0.4)
    for name in ("vgg16", "alexnet"):
        fake_run(tmp_path, "random", name, 0)
    assert set(runs.table(tmp_path).model) == {"alexnet", "vgg16"}
    assert set(runs.predictions(tmp_path).model) == {"alexnet", "vgg16"}
    assert len(statistics.compare_all(runs.predictions(tmp_path, "random"))) == 1  # one pair
    assert len(runs.table(tmp_path, references=True)) == len(runs.find(tmp_path)) == 5
    assert set(runs.predictions(tmp_path, model="svm").model) == {"svm"}

    table = tables.table2(tmp_path)
    part = table[table.protocol == "random"]
    assert part.group.tolist() == ["network"] * 7 + ["ensemble"] * 2 + ["reference"] * 3
    assert part.model.tolist()[9:] == list(evaluation.REFERENCE_NAMES)
    assert (part.folds[part.group == "reference"] == 1).all()
    assert np.isnan(part.paper_accuracy[part.group != "network"]).all()
    assert (table[table.protocol == "actors"].group == "network").all()  # none was run there
    assert "| Reference: SVM (RBF kernel) |" in tables.table2_markdown(table)

    axis = figures.table2_bars(table.query("protocol == 'random'")).axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()][::-1]
    assert labels[9:] == list(evaluation.REFERENCE_NAMES.values())


def test_full_references_can_be_published(material, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "run_configs", lambda *a: [CONFIG])
    root = tmp_path / "ravdess-full"
    reference.run(CONFIG, *material, tmp_path)
    assert publish.publish(root, tmp_path / "results") == ["random/logistic/fold2"]
    assert "Logistic regression" in publish.readme_table(tmp_path / "results")
    publish.draw(tmp_path / "results", tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"framework.png", "table2.png"}


def test_the_command_line_prints_the_means(material, tmp_path, monkeypatch, capsys):
    from ser_utils.data import corpus

    configs = [dataclasses.replace(CONFIG, model=name, fold=fold) for name in ("majority", "logistic")
               for fold in (0, 1)]
    monkeypatch.setattr(corpus, "for_profile", lambda profile: material[0])
    monkeypatch.setattr(reference.features, "extract", lambda *a: material[1])
    monkeypatch.setattr(reference, "run_configs", lambda *a: configs)
    assert reference.main(["--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 of 6 folds" in said and "13.3" in said
