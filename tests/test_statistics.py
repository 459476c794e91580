"""ser_utils.evaluation.statistics: intervals and tests with known answers."""

import numpy as np
import pandas as pd
import pytest
from fakes import fake_results

from ser_utils.evaluation import metrics, statistics
from ser_utils.training import runs


def test_bootstrap_equals_drawing_clips_one_by_one():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, 240)
    predictions = np.where(rng.random(240) < 0.7, labels, rng.integers(0, 8, 240))
    actors = rng.integers(0, 12, 240)
    for groups, names in ((None, np.arange(240)), (actors, actors)):
        units = [np.flatnonzero(names == name) for name in np.unique(names)]
        drawn = []
        for _ in range(600):
            rows = np.concatenate([units[unit] for unit in rng.integers(len(units), size=len(units))])
            drawn.append(metrics.metrics(labels[rows], predictions[rows])["f1"])
        ours = statistics.bootstrap_metrics(labels, predictions, groups)["f1"]
        assert (ours.mean(), ours.std()) == pytest.approx((np.mean(drawn), np.std(drawn)), abs=0.003)


def test_seeds_of_one_training_are_the_clips_alone_and_other_seeds_widen_the_interval():
    rng = np.random.default_rng(5)
    labels, folds = np.tile(np.arange(8), 120), np.repeat(np.arange(6), 160)
    clips = np.arange(960).astype(str)
    answers = [np.where(rng.random(960) < rate, labels, (labels + 1) % 8) for rate in (0.6, 0.8)]  # far apart
    alone = statistics.bootstrap_metrics(labels, answers[0], clips)
    seeds = {"folds": np.tile(folds, 2), "seeds": np.repeat([0, 1], 960)}
    same = statistics.bootstrap_metrics(np.tile(labels, 2), np.tile(answers[0], 2), np.tile(clips, 2), **seeds)
    assert all(same[name] == pytest.approx(alone[name]) for name in metrics.METRICS)
    both = statistics.bootstrap_metrics(np.tile(labels, 2), np.concatenate(answers), np.tile(clips, 2), **seeds)
    rates = [(labels == answer).mean() for answer in answers]
    assert both["accuracy"].mean() == pytest.approx(np.mean(rates), abs=0.005)
    # Six folds with two trainings each: the variance of their mean is half the squared distance by 12.
    chance = both["accuracy"].var() - alone["accuracy"].var()
    assert chance == pytest.approx((rates[1] - rates[0]) ** 2 / 2 / 12, rel=0.15)


@pytest.mark.parametrize("by_actor", [False, True])
def test_intervals_hold_the_truth_as_often_as_they_say(by_actor, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    rng = np.random.default_rng(11)
    actors = np.arange(24).repeat(20)
    labels = np.tile(np.arange(20) % 8, 24)
    held, corpora, truth = 0, 300, 0.7
    for _ in range(corpora):
        # logit-normal skill would shift the mean; a beta distribution of mean 0.7 does not
        skill = rng.beta(7, 3, 24)[actors] if by_actor else truth
        predictions = np.where(rng.random(480) < skill, labels, (labels + 1) % 8)
        low, high = statistics.bootstrap_intervals(labels, predictions, actors if by_actor else None)["accuracy"]
        held += low <= truth <= high
    assert 0.925 <= held / corpora <= 0.975


def test_paired_interval_of_a_difference_where_pairs_of_one_voice_go_together():
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.7
    b = np.where(rng.random(1000) < 0.8, a, rng.random(1000) < 0.5)
    low, high = statistics.bootstrap_difference(a, b)
    pairs = a.astype(float) - b
    assert low < pairs.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * pairs.std() / np.sqrt(1000), rel=0.08)
    assert statistics.bootstrap_difference(a, a) == (0, 0)
    assert statistics.bootstrap_difference(b, a) == pytest.approx((-high, -low), abs=0.01)
    voices = np.repeat(np.arange(20), 50)
    better = np.repeat(np.arange(20) % 2 == 0, 50)
    by_clip = statistics.bootstrap_difference(better, ~better)
    by_voice = statistics.bootstrap_difference(better, ~better, voices)
    assert by_voice[1] - by_voice[0] > 5 * (by_clip[1] - by_clip[0])


def test_an_interval_over_few_voices_that_agree_is_not_narrower_than_over_clips():
    labels, voices = np.tile(np.arange(8), 30), np.repeat(np.arange(4), 60)
    predictions = np.where(np.arange(240) % 3 == 0, (labels + 1) % 8, labels)  # of every voice a third is wrong
    clips = statistics.bootstrap_intervals(labels, predictions)
    few, one = (statistics.bootstrap_intervals(labels, predictions, groups) for groups in (voices, 0 * voices))
    assert few["accuracy"] == pytest.approx(clips["accuracy"]) and one == clips
    right = labels == predictions
    assert statistics.bootstrap_difference(right, ~right, voices) == statistics.bootstrap_difference(right, ~right)


def test_a_bootstrap_draws_voices_or_both_takes_of_a_recording():
    clips = pd.Series(["03-01-05-01-02-01-07", "03-01-05-01-02-02-07", "03-01-05-01-02-01-08"])
    assert statistics.units(clips, "actors_enrolled5").tolist() == ["07", "07", "08"]
    pair = statistics.units(clips, "random10")
    assert pair[0] == pair[1] != pair[2]


def test_tails_are_widened_for_the_few_units_drawn_and_a_paired_difference_is_told_in_points():
    found = statistics.expanded_percentiles(np.linspace(0, 1, 10_001), 6)  # Hesterberg (2015), by hand
    assert found == pytest.approx((0.00243, 0.99757), abs=5e-5)
    a, b = np.r_[np.ones(60), np.zeros(40)], np.r_[np.zeros(20), np.ones(40), np.zeros(40)]
    change, interval = statistics.in_points(a, b)
    assert change == pytest.approx(20)
    assert [float(end) for end in interval.split(" to ")] == pytest.approx([12, 28], abs=1)


def test_mcnemar_known_answer():
    # 9 against 1 discordant pairs: p = 2 (1 + 10) / 2^10
    a = np.array([1] * 9 + [0] + [1] * 20 + [0] * 5, dtype=bool)
    b = np.array([0] * 9 + [1] + [1] * 20 + [0] * 5, dtype=bool)
    assert statistics.mcnemar(a, b) == {"only_a": 9, "only_b": 1, "p": pytest.approx(22 / 1024)}
    assert statistics.mcnemar(a, a)["p"] == 1


def test_wilcoxon_known_answer():
    # ten actors, all better with a by different amounts: the smallest possible p is 2 / 2^10
    actors = np.arange(10).repeat(20)
    a, b = np.ones(200, dtype=bool), np.tile(np.arange(20), 10) > actors  # actor k: k + 1 clips wrong
    answer = statistics.wilcoxon_actors(a, b, actors)
    assert answer["p"] == pytest.approx(2 / 1024) and answer["actors"] == 10
    assert answer["difference"] == pytest.approx(np.mean(np.arange(1, 11) / 20))
    assert statistics.wilcoxon_actors(a, a, actors)["p"] == 1


def test_compare_all_finds_a_planted_difference_and_no_other(tmp_path):
    table = runs.predictions(fake_results(tmp_path, ["actors"], ["alexnet"], range(3)))
    same = table.assign(model="copy")
    perfect = table.assign(model="perfect", prediction=table.label)
    pairs = statistics.compare_all(pd.concat([table, same, perfect])).set_index(["model_a", "model_b"])
    assert pairs.holm_mcnemar.tolist() == pytest.approx([1, *np.minimum(pairs.p_mcnemar[1:] * [3, 2], 1)], abs=1e-9)
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as R says
    assert len(statistics.holm([])) == 0
    one = table["clip"].str[-2:] == table["clip"].str[-2:].min()  # better, but for a single voice
    partial = table.assign(model="partial", prediction=table.prediction.where(~one, table.label))
    (pair,) = statistics.compare_all(pd.concat([table, partial])).itertuples()
    assert pair.holm_mcnemar < 0.05 < pair.holm_wilcoxon and not pair.significant
    assert pairs.only_b["alexnet", "perfect"] == (table.label != table.prediction).sum()
    assert pairs.significant.to_dict() == {("alexnet", "copy"): False, ("alexnet", "perfect"): True,
                                           ("copy", "perfect"): True}


def test_networks_are_compared_within_one_protocol(results):
    with pytest.raises(metrics.ResultsError, match="within one protocol"):
        statistics.compare_all(runs.predictions(results))


@pytest.mark.parametrize("models, quantile", [(3, 2.343), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_nemenyi_known_quantiles(models, quantile):
    scores = pd.DataFrame(np.random.default_rng(0).random((24, models)))
    expected = quantile * np.sqrt(models * (models + 1) / (6 * 24))  # Demsar (2006), table 5(a)
    found = statistics.critical_difference(scores)
    assert found["difference"] == pytest.approx(expected, rel=5e-4)
    apart = np.abs(np.subtract.outer(*[found["ranks"].sort_index().to_numpy()] * 2)) > expected
    np.testing.assert_array_equal(found["pairs"] < 0.05, apart)


def test_friedman_known_ranks():
    scores = pd.DataFrame({"low": [1, 2, 3, 4.0], "high": [3, 4, 5, 6.0], "mid": [2, 3, 4, 5.0]})
    answer = statistics.critical_difference(scores)
    assert answer["ranks"].to_dict() == {"high": 1.0, "mid": 2.0, "low": 3.0}
    assert (answer["statistic"], answer["p"]) == pytest.approx((8, np.exp(-4)))
    tied = statistics.critical_difference(pd.DataFrame(np.ones((5, 3)), columns=list("abc")))
    assert tied["p"] == 1 and (tied["ranks"] == 2).all()
