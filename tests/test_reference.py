"""ser_utils.evaluation.reference: classic classifiers, their run format, and that they never count as networks."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from fakes import fake_results

from ser_utils import config as configuration
from ser_utils.config import FeatureConfig
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import split
from ser_utils.evaluation import metrics, reference, tables
from ser_utils.features.spectral import FeatureStore
from ser_utils.paths import RESULTS
from ser_utils.training import runs

CONFIG = reference.ReferenceConfig("full", "ravdess", "random", "logistic", 2, 0, FeatureConfig(n_mels=8, n_mfcc=4),
                                   (1e-4, 1e-1))


def with_mfcc(store, mfcc):
    made = FeatureStore(CONFIG.features, "ravdess", store.clips, np.full(len(store.clips), 12), store.logmel)
    made.__dict__["mfcc"] = mfcc  # where the property keeps what it computed
    return made


@pytest.fixture(scope="module")
def material(made_up):
    """A store of all 1,440 clips with made-up MFCCs of which three coefficients speak of the emotion."""
    rng = np.random.default_rng(3)
    mfcc = rng.normal(0, 3, (len(made_up.clips), 12, 12)).astype(np.float32)
    signs = np.array([[label >> bit & 1 for bit in range(3)] for label in made_up.index.label])
    mfcc[:, :, :3] += 4.0 * signs[:, None, :]
    return with_mfcc(made_up, mfcc)


@pytest.fixture(scope="module")
def finished(material, tmp_path_factory):
    """One run of each reference: (root, name -> folder)."""
    root = tmp_path_factory.mktemp("references")
    return root, {name: reference.run(dataclasses.replace(CONFIG, model=name), material, root).dir
                  for name in metrics.REFERENCE_NAMES}


def test_a_profile_has_every_reference_on_every_protocol_and_fold_and_the_published_ones_are_recognised():
    configs = reference.run_configs("full", "ravdess")
    assert all(runs.holds(RESULTS / config.place, config) for config in configs)
    assert len({c.name for c in configs}) == len(configs) == 3 * 3 * 6
    assert {c.features.hash for c in configs} == {configuration.PROFILES["full"].features.hash}
    assert all(c.strengths for c in configs)


def test_the_runs_are_what_the_results_format_asks_for_and_learn_what_can_be_learnt(finished):
    scores = {}
    for name, folder in finished[1].items():
        row = runs.read(folder)  # raises where anything contradicts anything
        assert (row["model"], row["protocol"], row["fold"]) == (name, "random", 2)
        assert runs.Run(folder).info["config_hash"] == dataclasses.replace(CONFIG, model=name).hash
        assert len(runs.read_predictions(folder)) == 480 and len(runs.read_history(folder)) == 1
        assert {path.name for path in folder.iterdir()} == set(runs.FILES)
        scores[name] = row["test_accuracy"]
    assert scores["majority"] == 32 / 240  # one emotion's clips
    assert scores["logistic"] > 0.8 and scores["svm"] > 0.8


def test_nothing_but_training_clips_is_fitted(material, tmp_path):
    config, told = dataclasses.replace(CONFIG, strengths=(1e-1,)), []
    for part in (None, "val", "test"):
        spoilt = material.mfcc.copy()
        spoilt[split(material.index, "random", 2).get(part, [])] = 1e3
        told.append(runs.read_predictions(reference.run(config, with_mfcc(material, spoilt), tmp_path / f"{part}").dir))
    for other, answers in zip(("test", "val"), told[1:], strict=True):
        pd.testing.assert_frame_equal(*(table[table.subset == other] for table in (answers, told[0])))


@pytest.mark.parametrize("strengths", [(1e-4, 1e-1), (1e-1, 1e-4)])
def test_the_best_c_on_validation_is_kept(material, tmp_path, strengths):
    config = dataclasses.replace(CONFIG, strengths=strengths)
    scores = {}
    for c in strengths:
        folder = reference.run(dataclasses.replace(CONFIG, strengths=(c,)), material, tmp_path / str(c)).dir
        scores[c] = runs.read(folder)["val_accuracy"], -runs.read_history(folder).val_loss[0]
    assert reference.run(config, material, tmp_path).info["strength"] == max(scores, key=scores.get)


def test_the_svms_probabilities_keep_its_own_answers(material):
    rows = split(material.index, "random", 2)
    values = reference.spectral.clip_statistics(material).to_numpy()
    fitted = reference.classifier("svm", 1.0).fit(values[rows["train"]], material.index.label.to_numpy()[rows["train"]])
    vectors = fitted.calibrated_classifiers_[0].estimator
    decided = vectors.decision_function(values[rows["val"]]).argmax(axis=1)
    assert (fitted.predict_proba(values[rows["val"]]).argmax(axis=1) == decided).all()
    assert reference.parameters(fitted) > 960  # support vectors weigh


def test_a_finished_run_is_left_as_it_is_and_other_settings_replace_it(material, finished, tmp_path, monkeypatch):
    root, folders = finished
    other = dataclasses.replace(CONFIG, strengths=(1e-2,))
    done = reference.run(CONFIG, material, tmp_path)
    assert reference.run(other, material, tmp_path) == done and runs.is_finished(other, tmp_path)
    monkeypatch.setattr(reference, "classifier", lambda *a: pytest.fail("fitted again"))
    assert reference.run(CONFIG, material, root).dir == folders["logistic"]


def test_references_stand_below_the_networks_and_are_never_counted_among_them(finished, tmp_path):
    fake_results(tmp_path, ["random"], [*metrics.REFERENCE_NAMES, "vgg16", "alexnet"], [0])
    assert set(runs.table(tmp_path).model) == set(runs.predictions(tmp_path).model) == {"alexnet", "vgg16"}
    assert len([runs.read(path) for path in runs.find(tmp_path)]) == 5
    assert set(runs.predictions(tmp_path, model="svm").model) == {"svm"}
    table = tables.table2(tmp_path)
    part = table[table.protocol == "random"]
    assert part.group.tolist() == ["network"] * 7 + ["ensemble"] * 2 + ["reference"] * 3
    assert part.model.tolist()[9:] == list(metrics.REFERENCE_NAMES) and (part.folds[9:] == 1).all()
    assert part.paper_accuracy[part.group != "network"].isna().all()
    assert (table[table.protocol == "actors"].group == "network").all()  # none was run there
    assert "| Reference: SVM (RBF kernel) |" in tables.table2_markdown(tmp_path)


def test_the_command_line_prints_the_means(material, tmp_path, monkeypatch, capsys):
    configs = [dataclasses.replace(CONFIG, model=name, fold=fold) for name in ("majority", "logistic")
               for fold in (0, 1)]
    monkeypatch.setattr(reference.corpus, "for_profile", lambda profile: Corpus(None, "ravdess", material.index))
    monkeypatch.setattr(reference.spectral, "extract", lambda *a: material)
    monkeypatch.setattr(reference, "run_configs", lambda *a: configs)
    assert reference.main(["--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 of 6 folds" in said and "13.3" in said
