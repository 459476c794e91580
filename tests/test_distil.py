"""ser_utils.training.distil: who teaches, and that a network learns from it."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from test_fit import CONFIG, PLAIN

from ser_utils.config import PROFILES, learning, run_configs
from ser_utils.data.folds import LeakError
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.training import distil, fit, frontend, runs

ALL_TEACHERS = distil.teachers
TEACHERS = [dataclasses.replace(PLAIN, model=model, keep="last") for model in ("alexnet", "resnet")]
STUDENT = learning(CONFIG, "distilled", 1)


@pytest.fixture(autouse=True, scope="module")
def two_teachers(quick_trainings):
    quick_trainings.setattr(distil, "teachers", lambda config: TEACHERS)


@pytest.fixture(scope="module")
def taught(made_up, tmp_path_factory):
    root = tmp_path_factory.mktemp("taught")
    for config in TEACHERS:
        fit.run(config, made_up, root, progress=False)
    return fit.run(STUDENT, made_up, root, progress=False), root


def test_the_teachers_are_all_networks_on_the_same_fold(monkeypatch):
    config = learning(run_configs("full", "ravdess", ["lstm"], ["actors"], [3])[0], "distilled", 2)
    found = ALL_TEACHERS(config)
    assert config.place == "actors/lstm_distilled/fold3" and config.epochs == 400 and config.mixup
    assert config.hash != learning(config, "distilled", 1).hash
    assert len(found) == 14 and {(one.protocol, one.fold, one.learns) for one in found} == {("actors", 3, "train")}
    before = config.hash
    monkeypatch.setitem(PROFILES["full"].networks, "resnet", {"epochs": 5})
    assert config.hash != before  # by another teacher this is another student


def test_a_student_answers_as_its_teachers_do_without_having_seen_a_label(taught, made_up):
    run, root = taught
    runs.check(run.dir)
    assert run.dir.parent.name == "alexnet_distilled" and run.info["config"]["teachers"] == 1
    assert run.history.loss.iloc[-1] < run.history.loss.iloc[0] / 2
    mean = np.mean([runs.Run(one.run_directory(root)).predictions[PROBABILITIES] for one in TEACHERS], axis=0)
    assert (run.predictions.prediction == mean.argmax(axis=1)).mean() > 0.7
    data = fit.prepare(STUDENT, made_up)
    alone = frontend.load(run.dir)
    assert [layer.name for layer in alone.layers][1:] == ["augment", "normalise", "alexnet"]  # without the teachers
    np.testing.assert_allclose(fit.probabilities(alone, data.logmel[data.rows["test"]]),
                               run.predictions.query("subset == 'test'")[PROBABILITIES], atol=2e-3)
    blind = fit.fit(STUDENT, dataclasses.replace(data, labels=data.labels[::-1].copy()), root / "scratch", root=root)[0]
    np.testing.assert_allclose(fit.probabilities(blind, data.logmel[:50]), fit.probabilities(alone, data.logmel[:50]),
                               atol=2e-3)


def test_teachers_do_not_learn_and_are_no_part_of_the_state(taught, made_up):
    data = fit.prepare(STUDENT, made_up)
    keras.backend.clear_session()
    model, plain = fit.compiled(STUDENT, data, taught[1]), fit.compiled(CONFIG, data)
    assert [w.shape for w in model.weights] == [w.shape for w in plain.weights] and len(model.trainable_variables) == 4


def test_a_teacher_of_another_fold_is_refused_and_a_missing_one_named(taught, made_up, tmp_path):
    for config in TEACHERS:
        shutil.copytree(config.run_directory(taught[1]), config.run_directory(tmp_path))
    data = fit.prepare(dataclasses.replace(TEACHERS[1], fold=1), made_up)
    fit.compiled(TEACHERS[1], data).save(TEACHERS[1].run_directory(tmp_path) / runs.WEIGHTS)
    with pytest.raises(LeakError, match="resnet/fold0 has not learned from the training clips of fold 0 of random"):
        fit.run(STUDENT, made_up, tmp_path, progress=False)
    (TEACHERS[0].run_directory(tmp_path) / runs.WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="make grid PROTOCOLS=random FOLDS=0 SEEDS=0"):
        fit.run(STUDENT, made_up, tmp_path, progress=False)


def test_the_lesson_is_the_divergence_from_the_mean_of_teachers_that_only_predict():
    told, (answers,) = (np.random.default_rng(0).dirichlet(np.ones(8), (count, 5)) for count in (2, 1))
    asked = []
    lesson = distil.Lesson([lambda image, training, p=p: asked.append(training) or p.astype("float32") for p in told])
    lesson([np.zeros((5, 4, 4, 1), np.float32), answers.astype("float32")], training=True)
    mean = told.mean(axis=0)
    expected = (mean * np.log(mean / answers)).sum(axis=1).mean()
    assert float(lesson.losses[0]) == pytest.approx(expected, abs=1e-3) and asked == [False, False]
