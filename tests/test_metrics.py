"""ser_utils.evaluation.metrics: metrics against scikit-learn, calibration, ensembles."""

import numpy as np
import pandas as pd
import pytest
from fakes import clip_names, fake_probabilities, fake_scores

from ser_utils.evaluation import metrics
from ser_utils.training import runs


@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, 300)
    predictions = np.where(rng.random(300) < 0.5, labels, rng.integers(0, 8, 300))
    if seed == 0:
        predictions[predictions == 4] = 1  # a class that is never predicted
        labels[labels == 6] = 2  # a class that occurs only among the predictions, if at all
    assert metrics.metrics(labels, predictions) == pytest.approx(fake_scores(labels, np.eye(8)[predictions]))
    assert metrics.metrics(labels, np.eye(8)[predictions] + rng.random(8)) == metrics.metrics(labels, predictions)


@pytest.mark.parametrize("labels, predictions, message", [
    ([0, 1], [0, 1, 2], "2, 3"), ([], [], "empty"), ([0, 8], [0, 1], "from 0 to 7"), ([0, 1], [0, -1], "0 to 7"),
    ([0, 1], np.full((2, 8), np.nan), "diverged")])
def test_bad_metric_input(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        metrics.metrics(labels, predictions)


def test_calibration_by_hand():
    probabilities = np.zeros((4, 8))
    probabilities[:, 0] = [0.95, 0.95, 0.95, 0.55]
    probabilities[:, 1] = 1 - probabilities[:, 0]
    table = metrics.calibration([0, 0, 1, 0], probabilities)
    assert table.clips.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert table.accuracy.iloc[9] == pytest.approx(2 / 3) and table.confidence.iloc[9] == pytest.approx(0.95)
    assert metrics.calibration_error([0, 0, 1, 0], probabilities) == pytest.approx((3 * (0.95 - 2 / 3) + 0.45) / 4)
    assert metrics.calibration_error([0], np.eye(8)[:1]) == 0


def test_ensemble_is_the_mean_and_refuses_gaps(results):
    both = runs.predictions(results, "actors")
    joint = metrics.ensemble(both)
    assert len(joint) == 480 and set(joint.model) == {"ensemble"} and list(joint.columns) == list(both.columns)
    clip = joint["clip"].iloc[17]
    mean = both.loc[both["clip"] == clip, metrics.PROBABILITIES].mean()
    assert joint[metrics.PROBABILITIES].iloc[17].to_numpy() == pytest.approx(mean.to_numpy())
    assert joint.prediction.iloc[17] == mean.to_numpy().argmax()
    wrong = both.copy()
    wrong.loc[0, "label"] = (wrong.label[0] + 1) % 8
    with pytest.raises(metrics.ResultsError, match="clips lack a model"):  # that label is one model's alone
        metrics.ensemble(wrong)
    with pytest.raises(metrics.ResultsError, match="1200 clips lack a model"):
        metrics.ensemble(runs.predictions(results, "random"))


def test_ensemble_weights_prefer_the_better_model_and_leave_out_noise():
    rng = np.random.default_rng(0)
    clips = clip_names().sample(240, random_state=0)
    parts = []
    for model, accuracy in (("alexnet", 0.125), ("lstm", 0.8), ("transformer", 0.8)):
        p = fake_probabilities(clips.label, accuracy, rng)
        parts.append(pd.DataFrame(p, columns=metrics.PROBABILITIES).assign(
            clip=clips["clip"].to_numpy(), label=clips.label.to_numpy(), model=model))
    weights = metrics.ensemble_weights(pd.concat(parts))
    assert weights.sum() == pytest.approx(1) and weights["alexnet"] < 0.1
    assert weights["lstm"] > 0.2 and weights["transformer"] > 0.2


@pytest.fixture
def first(results):
    """Both subsets of two folds of two networks."""
    found = runs.predictions(results, "random", subset=None)
    return found[found.model.isin(["alexnet", "resnet"]) & (found.fold < 2)].replace({"model": {"resnet": "lstm"}})


def test_weighted_ensemble_is_the_weighted_mean_and_never_reads_test_labels(first):
    def weighted(predictions):
        return metrics.ensembles(predictions)[0].query("model == 'weighted'")

    mixed = weighted(first)
    assert len(mixed) == 480 and set(mixed.subset) == {"test"}
    fold = first[first.fold == 0]
    weights = metrics.ensemble_weights(fold[fold.subset == "val"])
    clip = mixed["clip"].iloc[0]
    expected = sum(weights[row.model] * row.p_angry for row in fold[fold["clip"] == clip].itertuples())
    assert mixed.p_angry.iloc[0] == pytest.approx(expected, abs=1e-6)
    blind = first.assign(label=first.label.where(first.subset == "val", 0))
    pd.testing.assert_frame_equal(weighted(blind)[metrics.PROBABILITIES], mixed[metrics.PROBABILITIES])


def test_the_ensembles_join_each_seed_by_itself_and_no_single_network(first):
    joint, count = metrics.ensembles(first)
    assert count == 2 and set(joint.model) == set(metrics.ENSEMBLE_NAMES) and len(joint) == 2 * 480
    both, _ = metrics.ensembles(pd.concat([first, first.assign(seed=1)]))
    assert len(both) == 2 * len(joint) and both.groupby("seed").size().tolist() == [960, 960]
    assert metrics.ensembles(first[first.model == "lstm"])[1] == 0
