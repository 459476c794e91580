"""ser_utils.evaluation.metrics: metrics against scikit-learn, files of runs, statistics with known answers."""

import json

import numpy as np
import pandas as pd
import pytest
from fakes import MODELS, clip_names, fake_probabilities, fake_results, fake_run
from sklearn import metrics as sk

from ser_utils.evaluation import metrics as ev
from ser_utils.paths import RESULTS


@pytest.fixture
def run(tmp_path):
    return fake_run(tmp_path / "runs")


# metrics


@pytest.mark.parametrize("seed", range(12))
def test_metrics_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, 300)
    predictions = np.where(rng.random(300) < 0.5, labels, rng.integers(0, 8, 300))
    if seed % 3 == 0:
        predictions[predictions == 4] = 1  # a class that is never predicted
    if seed % 4 == 0:
        labels[labels == 6] = 2  # a class that occurs only among the predictions, if at all
    ours = ev.metrics(labels, predictions)
    options = {"average": "macro", "zero_division": 0}
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    assert ours["precision"] == pytest.approx(sk.precision_score(labels, predictions, **options))
    assert ours["recall"] == pytest.approx(sk.recall_score(labels, predictions, **options))
    assert ours["f1"] == pytest.approx(sk.f1_score(labels, predictions, **options))
    assert (
        ev.confusion(labels, predictions) == sk.confusion_matrix(labels, predictions, labels=range(8))
    ).all()


def test_metrics_by_hand():
    # class 0: precision 2/3, recall 1; class 1: precision 1, recall 1/2
    scores = ev.metrics([0, 0, 1, 1], [0, 0, 0, 1], classes=2)
    assert scores == pytest.approx(
        {"accuracy": 3 / 4, "precision": 5 / 6, "recall": 3 / 4, "f1": (4 / 5 + 2 / 3) / 2}
    )


def test_probabilities_count_by_their_largest():
    labels = np.arange(8).repeat(5)
    probabilities = fake_probabilities(labels, 0.6, np.random.default_rng(1))
    assert ev.metrics(labels, probabilities) == ev.metrics(labels, probabilities.argmax(axis=1))


def test_per_class_recall():
    recall = ev.per_class_recall([0, 0, 0, 1, 2], [0, 0, 1, 1, 0], classes=4)
    assert recall[:3] == pytest.approx([2 / 3, 1, 0]) and np.isnan(recall[3])


@pytest.mark.parametrize(
    "labels, predictions, message",
    [
        ([0, 1], [0, 1, 2], "2 labels but 3 predictions"),
        ([], [], "at least one"),
        ([0, 8], [0, 1], "from 0 to 7"),
        ([0, 1], [0, -1], "from 0 to 7"),
        ([0, 1], [0, 1.5], "whole numbers"),
        ([0, 1], [0, np.nan], "NaN"),
        ([0, 1], np.full((2, 8), np.nan), "diverged"),
        ([0, 1], np.ones((2, 3)), "3 columns"),
    ],
)
def test_bad_metric_input(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        ev.metrics(labels, predictions)


def test_calibration_by_hand():
    probabilities = np.zeros((4, 8))
    probabilities[:, 0] = [0.95, 0.95, 0.95, 0.55]
    probabilities[:, 1] = 1 - probabilities[:, 0]
    table = ev.calibration([0, 0, 1, 0], probabilities)
    assert table.clips.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert table.accuracy.iloc[9] == pytest.approx(2 / 3) and table.confidence.iloc[9] == pytest.approx(0.95)
    assert ev.calibration_error([0, 0, 1, 0], probabilities) == pytest.approx((3 * (0.95 - 2 / 3) + 0.45) / 4)
    assert ev.calibration_error([0], np.eye(8)[:1]) == 0


# reading


def test_clip_facts_agree_with_the_parser():
    from ser_utils.data import ravdess

    facts = ev.clip_facts(["03-01-05-02-01-02-12", "03-01-01-01-02-01-07"])
    assert facts.to_dict("list") == {
        "intensity": ["strong", "normal"],
        "actor": [12, 7],
        "gender": ["female", "male"],
    }
    parsed = ravdess.parse_name("03-01-05-02-01-02-12.wav")
    assert facts.iloc[0].to_dict() == {key: parsed[key] for key in ("intensity", "actor", "gender")}
    with pytest.raises(ev.ResultsError, match="holiday"):
        ev.clip_facts(["03-01-05-02-01-02-12", "holiday"])


def test_load_runs(results):
    runs = ev.load_runs(results)
    assert len(runs) == 5 + 12 + 4
    assert runs.columns[:3].tolist() == ["protocol", "model", "fold"]
    assert list(dict.fromkeys(runs.protocol)) == ["random", "actors"]
    assert list(dict.fromkeys(runs.model)) == list(MODELS)
    row = ev.read_run(results / "actors" / "resnet" / "fold1")
    info = json.loads((row["dir"] / "run.json").read_text())
    assert row["test_f1"] == info["metrics"]["test"]["f1"] and row["parameters"] == 11_200_000
    found = runs[(runs.protocol == "actors") & (runs.model == "resnet") & (runs.fold == 1)]
    assert found.test_recall.item() == info["metrics"]["test"]["recall"]


def test_load_predictions(results):
    table = ev.load_predictions(results, "random", "alexnet")
    assert len(table) == 1440 and table["clip"].is_unique and set(table["clip"]) == set(clip_names()["clip"])
    assert set(table.subset) == {"test"} and set(table.fold) == set(range(6))
    assert (table.prediction == table[ev.PROBABILITIES].to_numpy().argmax(axis=1)).all()
    assert len(ev.load_predictions(results, "actors", subset=None)) == 4 * 480
    assert set(ev.load_predictions(results, model="lstm", subset="val").model) == {"lstm"}
    with pytest.raises(ValueError, match="train"):
        ev.load_predictions(results, subset="train")


def test_relative_root_works(results, monkeypatch):
    monkeypatch.chdir(results.parent)
    assert len(ev.load_runs(results.name)) == 21
    monkeypatch.chdir(results)
    assert len(ev.load_predictions(".", "actors", "resnet")) == 480


def test_nothing_finished(tmp_path):
    assert ev.load_runs(tmp_path / "none").empty
    assert ev.load_predictions(tmp_path).empty


def test_unfinished_run_is_left_out_but_named_when_asked_for(run):
    (run / "run.json").unlink()
    assert ev.load_runs(run.parents[2]).empty
    with pytest.raises(ev.ResultsError, match=r"run\.json is missing.*not finished"):
        ev.read_run(run)


def test_smaller_runs_are_allowed_outside_full(tmp_path):
    folder = fake_run(tmp_path, profile="quick")
    table = pd.read_csv(folder / "predictions.csv")
    table.groupby("subset").head(100).to_csv(folder / "predictions.csv", index=False)
    assert len(ev.read_predictions(folder)) == 200


def damage_table(change):
    def damage(folder):
        table = pd.read_csv(folder / "predictions.csv")
        table = change(table)
        table.to_csv(folder / "predictions.csv", index=False)

    return damage


def set_cell(row, column, value):
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return damage_table(change)


def cut(name):
    def damage(folder):
        text = (folder / name).read_text()
        (folder / name).write_text(text[: len(text) // 2])

    return damage


def edit_info(change):
    def damage(folder):
        info = json.loads((folder / "run.json").read_text())
        change(info)
        (folder / "run.json").write_text(json.dumps(info))

    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "predictions.csv").unlink(), r"predictions\.csv is missing"),
        (lambda folder: (folder / "predictions.csv").write_text(""), r"predictions\.csv cannot be read"),
        (lambda folder: (folder / "predictions.csv").write_bytes(b"\x00\xff\xfe\n" * 9), r"predictions\.csv"),
        (lambda folder: (folder / "history.csv").unlink(), r"history\.csv is missing"),
        (
            lambda folder: (folder / "history.csv").write_text("epoch,loss\n1,2\n"),
            r"history\.csv lacks accuracy",
        ),
        (cut("run.json"), r"run\.json is damaged"),
        (cut("predictions.csv"), r"predictions\.csv: (it has|row)"),
        (lambda folder: (folder / "run.json").write_text("[]"), r"run\.json lacks model"),
        (edit_info(lambda info: info.pop("seed")), r"run\.json lacks seed"),
        (edit_info(lambda info: info["metrics"].pop("test")), r"run\.json: metrics of test"),
        (
            edit_info(lambda info: info["metrics"]["test"].update(f1=float("nan"))),
            r"run\.json: metrics of test",
        ),
        (edit_info(lambda info: info["metrics"]["test"].update(f1="high")), r"run\.json: metrics of test"),
        (edit_info(lambda info: info.update(fold=3)), r"run\.json says it is random/resnet/fold3"),
        (
            edit_info(lambda info: info["metrics"]["test"].update(accuracy=0.99)),
            r"states a test accuracy of 0\.99",
        ),
        (
            damage_table(lambda table: table.drop(columns="p_sad")),
            r"predictions\.csv: columns missing: p_sad",
        ),
        (damage_table(lambda table: table.iloc[:-1]), r"predictions\.csv: it has 479 rows"),
        (damage_table(lambda table: table.iloc[:0]), r"predictions\.csv: it holds no rows"),
        (set_cell(5, "p_calm", np.nan), r"predictions\.csv: row 6 holds NaN"),
        (set_cell(5, "p_calm", "much"), r"predictions\.csv: row 6 holds NaN"),
        (set_cell(0, "clip", np.nan), r"predictions\.csv: row 1 holds NaN"),
        (set_cell(0, "label", 9), r"labels must be 0 to 7"),
        (set_cell(0, "label", 3), r"which its name contradicts"),
        (set_cell(0, "subset", "train"), r"subset must be 'val' or 'test'; found \['train'\]"),
        (set_cell(0, "p_neutral", 2.0), r"they must be 0 to 1 and sum to 1"),
        (
            damage_table(
                lambda table: table.assign(clip=table["clip"].where(table.index > 0, table["clip"][1]))
            ),
            r"occurs twice",
        ),
        (damage_table(lambda table: table.assign(subset="val")), r"predictions\.csv has no test clips"),
    ],
)
def test_damage_is_found_and_named(run, damage, message):
    damage(run)
    with pytest.raises(ev.ResultsError, match=message):
        ev.load_runs(run.parents[2])


def test_negative_probability_is_found():
    table = pd.DataFrame(
        [["03-01-01-01-01-01-01", "val", 0, 1.1, -0.1, 0, 0, 0, 0, 0, 0]],
        columns=["clip", "subset", "label", *ev.PROBABILITIES],
    )
    with pytest.raises(ev.ResultsError, match="smallest -0.1000"):
        ev.check_predictions(table)


def test_ensemble_is_the_mean(results):
    both = ev.load_predictions(results, "actors")
    joint = ev.ensemble(both)
    assert (
        len(joint) == 480 and set(joint.model) == {"ensemble"} and list(joint.columns) == list(both.columns)
    )
    clip = joint["clip"].iloc[17]
    mean = both.loc[both["clip"] == clip, ev.PROBABILITIES].mean()
    assert joint[ev.PROBABILITIES].iloc[17].to_numpy() == pytest.approx(mean.to_numpy())
    assert joint.prediction.iloc[17] == mean.to_numpy().argmax()
    wrong = both.copy()
    wrong.loc[0, "label"] = (wrong.label[0] + 1) % 8
    with pytest.raises(ev.ResultsError, match="disagree"):
        ev.ensemble(wrong)


def test_ensemble_refuses_gaps(results):
    with pytest.raises(ev.ResultsError, match="1200 clips lack a model"):
        ev.ensemble(ev.load_predictions(results, "random"))


# intervals


def test_wilson_known_answer():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for hits, clips, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert ev.wilson_interval(hits, clips) == pytest.approx((low, high), abs=5e-5)


def test_clip_bootstrap_is_the_binomial_one():
    labels = np.arange(8).repeat(125)
    predictions = np.where(np.arange(1000) % 5 == 0, (labels + 1) % 8, labels)  # 80 %
    low, high = ev.bootstrap_interval(labels, predictions, "accuracy", resamples=20000)
    error = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - error, 0.8 + error), abs=0.002)
    narrow = ev.bootstrap_interval(labels, predictions, "accuracy", level=0.5, resamples=20000)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_equals_drawing_clips_one_by_one():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, 240)
    predictions = np.where(rng.random(240) < 0.7, labels, rng.integers(0, 8, 240))
    actors = rng.integers(0, 12, 240)
    drawn, clustered = [], []
    for _ in range(1500):
        rows = rng.integers(0, 240, 240)
        drawn.append(ev.metrics(labels[rows], predictions[rows])["f1"])
        rows = np.concatenate([np.flatnonzero(actors == actor) for actor in rng.integers(0, 12, 12)])
        clustered.append(ev.metrics(labels[rows], predictions[rows])["f1"])
    ours = ev.bootstrap_metrics(labels, predictions, resamples=4000)["f1"]
    assert (ours.mean(), ours.std()) == pytest.approx((np.mean(drawn), np.std(drawn)), abs=0.003)
    ours = ev.bootstrap_metrics(labels, predictions, actors, resamples=4000)["f1"]
    assert (ours.mean(), ours.std()) == pytest.approx((np.mean(clustered), np.std(clustered)), abs=0.003)


def test_actor_interval_is_wider_when_voices_differ():
    actors = np.arange(24).repeat(60)
    labels = np.tile(np.arange(60) % 8, 24)
    hard = actors % 2 == 0
    predictions = np.where(hard & (np.arange(1440) % 10 < 9), (labels + 1) % 8, labels)
    by_clip = ev.bootstrap_interval(labels, predictions, "recall")
    by_actor = ev.bootstrap_interval(labels, predictions, "recall", groups=actors)
    assert by_actor[1] - by_actor[0] > 3 * (by_clip[1] - by_clip[0])


@pytest.mark.parametrize("by_actor", [False, True])
def test_intervals_hold_the_truth_as_often_as_they_say(by_actor):
    rng = np.random.default_rng(11)
    actors = np.arange(24).repeat(20)
    labels = np.tile(np.arange(20) % 8, 24)
    held, corpora, truth = 0, 1000, 0.7
    for corpus in range(corpora):
        # logit-normal skill would shift the mean; a beta distribution of mean 0.7 does not
        skill = rng.beta(7, 3, 24)[actors] if by_actor else truth
        predictions = np.where(rng.random(480) < skill, labels, (labels + 1) % 8)
        low, high = ev.bootstrap_interval(
            labels, predictions, "accuracy", actors if by_actor else None, resamples=600, seed=corpus
        )
        held += low <= truth <= high
    assert 0.93 <= held / corpora <= 0.97


def test_intervals_are_repeatable_and_check_their_input():
    labels, predictions = [0, 1, 2, 3] * 9, [0, 1, 2, 2] * 9
    assert ev.bootstrap_interval(labels, predictions) == ev.bootstrap_interval(labels, predictions)
    with pytest.raises(ValueError, match="Unknown metric 'auc'"):
        ev.bootstrap_interval(labels, predictions, "auc")
    with pytest.raises(ValueError, match="at least two groups"):
        ev.bootstrap_interval(labels, predictions, groups=[1] * 36)
    with pytest.raises(ValueError, match="36 labels but 3 groups"):
        ev.bootstrap_interval(labels, predictions, groups=[1, 2, 3])


# tests


def test_mcnemar_known_answer():
    # 9 against 1 discordant pairs: p = 2 (1 + 10) / 2^10
    a = np.array([1] * 9 + [0] + [1] * 20 + [0] * 5, dtype=bool)
    b = np.array([0] * 9 + [1] + [1] * 20 + [0] * 5, dtype=bool)
    assert ev.mcnemar(a, b) == {"only_a": 9, "only_b": 1, "p": pytest.approx(22 / 1024)}
    assert ev.mcnemar(a, a)["p"] == 1
    with pytest.raises(ValueError, match="same clips"):
        ev.mcnemar(a, b[:-1])


def test_wilcoxon_known_answer():
    # ten actors, all better with a by different amounts: the smallest possible p is 2 / 2^10
    actors = np.arange(10).repeat(20)
    place = np.tile(np.arange(20), 10)
    a = np.ones(200, dtype=bool)
    b = place > actors  # actor k: k + 1 clips wrong
    answer = ev.wilcoxon_actors(a, b, actors)
    assert answer["p"] == pytest.approx(2 / 1024) and answer["actors"] == 10
    assert answer["difference"] == pytest.approx(np.mean(np.arange(1, 11) / 20))
    assert ev.wilcoxon_actors(a, a, actors)["p"] == 1


def test_holm_known_answer():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert ev.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ev.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert len(ev.holm([])) == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        ev.holm([0.5, np.nan])


def test_compare_all(results):
    predictions = ev.load_predictions(results, "random")
    table = ev.compare_all(predictions)
    assert len(table) == 21
    assert table[["model_a", "model_b"]].iloc[0].tolist() == ["alexnet", "resnet"]
    assert table.clips.tolist() == [1440] + [240] * 20
    first = table.iloc[0]
    right = (
        predictions.assign(right=predictions.label == predictions.prediction)
        .pivot(index="clip", columns="model", values="right")
        .dropna(subset=["alexnet", "resnet"])
    )
    assert first.only_a == ((right.alexnet == True) & (right.resnet == False)).sum()  # noqa: E712
    assert first.difference == pytest.approx(first.accuracy_a - first.accuracy_b)
    assert table.holm_mcnemar.to_numpy() == pytest.approx(ev.holm(table.p_mcnemar))
    assert (table.holm_mcnemar >= table.p_mcnemar).all()
    assert table.significant.sum() == ((table.holm_mcnemar < 0.05) & (table.holm_wilcoxon < 0.05)).sum()


def test_compare_all_finds_a_planted_difference_and_no_other(tmp_path):
    table = ev.load_predictions(fake_results(tmp_path, ["actors"], ["alexnet"], range(3)))
    same = table.assign(model="copy")
    perfect = table.assign(model="perfect", prediction=table.label)
    pairs = ev.compare_all(pd.concat([table, same, perfect])).set_index(["model_a", "model_b"])
    assert pairs.significant.to_dict() == {
        ("alexnet", "copy"): False,
        ("alexnet", "perfect"): True,
        ("copy", "perfect"): True,
    }


def test_comparisons_refuse_mixed_protocols_and_strangers(results):
    with pytest.raises(ev.ResultsError, match="within one protocol"):
        ev.compare_all(ev.load_predictions(results))
    predictions = ev.load_predictions(results, "actors")
    strangers = predictions[(predictions.model == "alexnet") == (predictions.fold == 0)]
    with pytest.raises(ev.ResultsError, match="no clip in common"):
        ev.compare_all(strangers)


def test_actor_scores(results):
    predictions = ev.load_predictions(results, "actors")
    scores = ev.actor_scores(predictions)
    assert scores.columns.tolist() == ["alexnet", "resnet"] and len(scores) == 8
    one = predictions[(predictions.model == "resnet") & predictions["clip"].str.endswith("-20")]
    assert scores.loc[20, "resnet"] == pytest.approx((one.label == one.prediction).mean())


@pytest.mark.parametrize("models, quantile", [(3, 2.343), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_nemenyi_known_quantiles(models, quantile):
    scores = pd.DataFrame(np.random.default_rng(0).random((24, models)))
    expected = quantile * np.sqrt(models * (models + 1) / (6 * 24))  # Demsar (2006), table 5(a)
    assert ev.critical_difference(scores)["difference"] == pytest.approx(expected, rel=5e-4)


def test_friedman_known_ranks():
    scores = pd.DataFrame({"low": [1, 2, 3, 4.0], "high": [3, 4, 5, 6.0], "mid": [2, 3, 4, 5.0]})
    answer = ev.critical_difference(scores)
    assert answer["ranks"].to_dict() == {"high": 1.0, "mid": 2.0, "low": 3.0}
    assert answer["statistic"] == pytest.approx(8) and answer["p"] == pytest.approx(np.exp(-4))
    tied = ev.critical_difference(pd.DataFrame(np.ones((5, 3)), columns=list("abc")))
    assert tied["p"] == 1 and (tied["ranks"] == 2).all()
    with pytest.raises(ValueError, match="at least 3 models"):
        ev.critical_difference(scores[["low", "mid"]])


def test_greedy_weights_prefer_the_better_model_and_leave_out_noise():
    rng = np.random.default_rng(0)
    clips = clip_names().sample(240, random_state=0)
    parts = []
    for model, accuracy in (("alexnet", 0.125), ("lstm", 0.8), ("transformer", 0.8)):
        p = fake_probabilities(clips.label, accuracy, rng)
        parts.append(pd.DataFrame(p, columns=ev.PROBABILITIES).assign(
            clip=clips["clip"].to_numpy(), label=clips.label.to_numpy(), model=model))
    weights = ev.greedy_weights(pd.concat(parts))
    assert weights.sum() == pytest.approx(1) and weights["alexnet"] < 0.1
    assert weights["lstm"] > 0.2 and weights["transformer"] > 0.2


def test_greedy_ensemble_is_the_weighted_mean_and_never_reads_test_labels(tmp_path):
    fake_results(tmp_path, models=("alexnet", "lstm"), protocols=("random",), folds=(0, 1))
    predictions = ev.load_predictions(tmp_path, subset=None)
    mixed = ev.greedy_ensemble(predictions)
    assert len(mixed) == 480 and set(mixed.subset) == {"test"}
    fold = predictions[predictions.fold == 0]
    weights = ev.greedy_weights(fold[fold.subset == "val"])
    clip = mixed["clip"].iloc[0]
    expected = sum(weights[row.model] * row.p_angry for row in fold[fold["clip"] == clip].itertuples())
    assert mixed.p_angry.iloc[0] == pytest.approx(expected, abs=1e-6)
    blind = predictions.assign(label=predictions.label.where(predictions.subset == "val", 0))
    pd.testing.assert_frame_equal(ev.greedy_ensemble(blind)[ev.PROBABILITIES],
                                  mixed[ev.PROBABILITIES])


# how a model stands, and whether a run can be trusted


def test_standing_counts_what_survives():
    pairs = pd.DataFrame({
        "model_a": ["lstm", "lstm", "vgg16", "alexnet"], "model_b": ["vgg16", "vgg19", "vgg19", "lstm"],
        "difference": [0.1, -0.2, 0.3, -0.05], "significant": [True, True, True, False]})
    assert ev.standing(pairs, "lstm") == {
        "better_than": ["vgg16"], "worse_than": ["vgg19"], "open": ["alexnet"], "ahead_of": 2}
    with pytest.raises(ValueError, match="'resnet' is in none"):
        ev.standing(pairs, "resnet")


def test_made_up_and_published_runs_tell_one_story(run):
    ev.check_run(run)
    for directory in ev.run_dirs(RESULTS):
        ev.check_run(directory)


def test_an_epoch_that_validation_did_not_choose_is_refused(run):
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"best_epoch": 12}))
    with pytest.raises(ev.ResultsError, match="epoch 12 was kept, but epoch 27 is the best on validation clips"):
        ev.check_run(run)


def test_a_run_that_keeps_its_last_epoch_must_have_kept_it(run):
    info = json.loads((run / "run.json").read_text())
    kept = {"config": {"keep": "last", "versions": 3, "epochs": 30}, "best_epoch": 30}
    (run / "run.json").write_text(json.dumps(info | kept))
    ev.check_run(run)
    (run / "run.json").write_text(json.dumps(info | kept | {"best_epoch": 27}))
    with pytest.raises(ev.ResultsError, match="epoch 27 was kept, but epoch 30 is the last one"):
        ev.check_run(run)
    (run / "run.json").write_text(json.dumps(info | kept | {"config": {"keep": "last", "epochs": 40}}))
    with pytest.raises(ev.ResultsError, match="keeps the last of 40 epochs, but ended after 30"):
        ev.check_run(run)
    (run / "run.json").write_text(json.dumps(info | kept | {"config": {"keep": "last", "epochs": 30}}))
    with pytest.raises(ev.ResultsError, match="are not those of the kept epoch"):
        ev.check_run(run)


def test_holm_is_the_step_down_of_holm_1979():
    rng = np.random.default_rng(3)
    for size in (1, 2, 21):
        pvalues = rng.random(size) ** 3
        order = np.argsort(pvalues)
        by_hand = np.minimum(np.maximum.accumulate(pvalues[order] * np.arange(size, 0, -1)), 1)
        np.testing.assert_allclose(ev.holm(pvalues)[order], by_hand)


def test_mcnemar_is_that_of_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar

    rng = np.random.default_rng(4)
    a, b = rng.random(240) < 0.7, rng.random(240) < 0.6
    table = pd.crosstab(a, b).to_numpy()
    assert ev.mcnemar(a, b)["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
