"""ser_utils.evaluation.tables: Table 2 follows from the files of runs; twins, other studies and people beside it."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fakes import MODELS, clip_names, fake_results, fake_run, fold_of

from ser_utils import paper
from ser_utils.data.corpus import BANNER
from ser_utils.data.folds import twin_key
from ser_utils.evaluation import metrics, statistics, tables
from ser_utils.paths import ROOT
from ser_utils.training import runs


@pytest.fixture(scope="module")
def published(results):
    return tables.table2(results)


def test_table2_rows(results, published):
    table = published.set_index(["protocol", "model"])
    assert len(table) == 21 + 4  # two ensembles where networks were run
    row = table.loc[("random", "alexnet")]
    folds = [runs.read(results / "random" / "alexnet" / f"fold{fold}") for fold in range(6)]
    for name in metrics.METRICS:
        assert row[name] == pytest.approx(100 * np.mean([fold[f"test_{name}"] for fold in folds]))
    assert row.accuracy_low < row.accuracy < row.accuracy_high and row.recall_low < row.recall < row.recall_high
    assert row.folds == 6 and row.paper_accuracy == 78.4
    assert row.difference == pytest.approx(row.accuracy - 78.4)
    assert table.loc[("random", "lstm")].folds == 1
    empty = table.loc[("twins", "vgg19")]
    assert empty.folds == 0 and np.isnan(empty.accuracy) and empty.paper_accuracy == 85.5


def test_table2_intervals_are_over_actors_where_speakers_are_new_else_over_pairs(results, published):
    table = published.set_index(["protocol", "model"])
    row = table.loc[("actors", "resnet")]
    pooled = runs.predictions(results, "actors", "resnet")
    groups = metrics.clip_facts(pooled["clip"]).actor
    by_actor = statistics.bootstrap_intervals(pooled.label, pooled.prediction, groups, pooled["clip"])["recall"]
    assert (row.recall_low, row.recall_high) == pytest.approx([100 * end for end in by_actor])
    row, pooled = table.loc[("random", "resnet")], runs.predictions(results, "random", "resnet")
    by_pair = statistics.bootstrap_intervals(pooled.label, pooled.prediction, pooled["clip"].map(twin_key))["recall"]
    assert (row.recall_low, row.recall_high) == pytest.approx([100 * end for end in by_pair])


def test_ten_folds_stand_among_the_other_rows_with_an_ensemble_that_needs_no_validation(tmp_path):
    for model, fold in [*((name, fold) for name in MODELS[:2] for fold in range(10)), (MODELS[2], 0)]:  # nine missing
        fake_run(tmp_path, "random10", model, fold, told={"protocol": "random10"})
    assert len(tables.table2(tmp_path)) == 21
    table = tables.table2(tmp_path, others=True)
    table = table[table.protocol == "random10"]
    assert table.model.tolist() == [*MODELS[:2], "ensemble"] and set(table.folds) == {10}
    assert set(tables.table2_display(table).Folds) == {"10/10"}


def test_table2_text_is_what_the_command_line_prints(results, published, capsys):
    assert tables.main([str(results)]) == 0
    text, row = capsys.readouterr().out, published.iloc[0]
    lines = text.splitlines()
    assert len(lines) == 2 + 25 and len({line.count("|") for line in lines}) == 1
    interval = f"{row.accuracy_low:.1f} to {row.accuracy_high:.1f}"
    assert lines[2].startswith(f"| random | AlexNet | 78.4 | {row.accuracy:.1f} | {interval} |")
    assert lines[2].endswith("| 6/6 |") and "nan" not in text
    narrow = tables.table2_display(published, whole=False).iloc[0]
    assert narrow.tolist() == ["random", "AlexNet", f"{row.accuracy:.1f}", interval, f"{row.recall:.1f}",
                               f"{row.f1:.1f}", "78.4", f"{row.difference:+.1f}".replace("-", "−"), "6/6"]


def test_unseen_speakers_are_ours_beside_other_studies_and_references_among_the_features_made_by_hand(published):
    table = published[published.protocol == "actors"]
    systems = tables.unseen_speakers(published)
    ours = systems[systems.group == "ours"].set_index("model")
    assert sorted(ours.index) == sorted([*MODELS[:2], *metrics.ENSEMBLE_NAMES]) and ours.same_folds.all()
    row = table[table.model == MODELS[0]].iloc[0]
    assert tuple(ours.loc[MODELS[0], ["uar", "low", "high"]]) == (row.recall, row.recall_low, row.recall_high)
    others = systems[systems.group != "ours"]
    assert len(others) == len(paper.UNSEEN) and others.url.str.startswith("https://").all()
    assert set(others[others.same_folds].source) == {"Ma et al. 2024 (EmoBox)"}
    svm = table.head(1).assign(group="reference", model="svm", name="SVM (RBF kernel)")
    systems = tables.unseen_speakers(pd.concat([svm, svm.assign(model="majority")]))
    assert systems[(systems.group == "features") & (systems.source == "here")].name.tolist() == [
        "SVM (RBF kernel) on MFCC"]


def test_on_seven_options_neutral_and_calm_are_accepted_for_each_other():
    answers = pd.DataFrame(0.0, range(3), metrics.PROBABILITIES).assign(label=[0, 0, 3], prediction=[1, 4, 4])
    answers.loc[0, ["p_calm", "p_neutral"]] = 0.6, 0.4
    answers.loc[1, ["p_neutral", "p_calm", "p_angry"]] = 0.3, 0.3, 0.4  # together they outweigh angry
    answers.loc[2, ["p_angry", "p_sad"]] = 0.8, 0.2
    scored = tables.on_seven_options(answers)
    assert (scored.label == scored.prediction).tolist() == [True, True, False]
    assert scored[metrics.PROBABILITIES].sum(axis=1).tolist() == pytest.approx([1.0] * 3)
    assert (scored.p_neutral == 0).all() and answers.p_neutral.sum() > 0  # the table given is left alone


def test_against_people(results):
    answers = runs.predictions(results, "actors")
    fair = tables.against_people(answers)
    assert set(fair.model) == set(MODELS[:2]) and fair.accuracy.is_monotonic_decreasing
    mine = tables.on_seven_options(answers[answers.model == fair.model[0]])
    by_fold = (mine.label == mine.prediction).groupby(mine.fold).mean()
    assert fair.low[0] < fair.accuracy[0] < fair.high[0] and fair.accuracy[0] == pytest.approx(100 * by_fold.mean())
    uneven = answers[(answers.model == MODELS[0]) | (answers.fold == 0)]
    assert tables.against_people(uneven).model.tolist() == [MODELS[0]]


def test_no_runs_a_synthetic_corpus_or_another_profile_are_said_and_a_missing_file_ends_with_1(tmp_path, capsys):
    assert tables.table2_markdown(tmp_path / "nowhere").count("not run") == 21
    folder = fake_run(tmp_path, corpus="synthetic", profile="quick")
    text = tables.table2_markdown(tmp_path)
    assert BANNER in text and "Profile quick" in text
    (folder / "predictions.csv").unlink()
    assert tables.main([str(tmp_path)]) == 1
    assert "predictions.csv is missing" in capsys.readouterr().err


def test_table2_needs_neither_deep_learning_nor_audio(tmp_path):
    fake_run(tmp_path, model="alexnet")
    code = """if True:
        import sys
        sys.modules |= dict.fromkeys("tensorflow keras librosa soundfile numba".split())
        import ser_utils.plots.results
        from ser_utils.evaluation import tables
        sys.exit(tables.main(sys.argv[1:]))"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| random | AlexNet |" in done.stdout


def test_table2_has_ensembles_of_the_folds_all_networks_finished(tmp_path):
    fake_results(tmp_path, protocols=("random",), folds=(0,))
    fake_results(tmp_path, models=("alexnet",), protocols=("random",), folds=(1,))
    table = tables.table2(tmp_path)
    mixed = table[table.group == "ensemble"]
    assert list(mixed.model) == ["ensemble", "weighted"] and set(mixed.folds) == {1}
    assert set(mixed.protocol) == {"random"} and mixed.paper_accuracy.isna().all()
    assert mixed.name.tolist() == ["Ensemble, mean", "Ensemble, weighted"]  # of all seven
    assert mixed.accuracy.min() > table[table.folds == 1].accuracy.median()
    shutil.rmtree(tmp_path / "random" / "lstm")  # a network with fewer folds costs the ensemble none of its own
    for model in ("resnet", "vgg16"):
        fake_results(tmp_path, models=(model,), protocols=("random",), folds=(1,))
    mixed = tables.table2(tmp_path).query("group == 'ensemble'")
    assert set(mixed.folds) == {2} and mixed.name.tolist() == ["Ensemble of 3, mean", "Ensemble of 3, weighted"]


def test_an_eighth_network_adds_its_row_and_changes_no_other(tmp_path, monkeypatch):
    fake_results(tmp_path, ("random",), [f"{name}{refit}" for name in paper.TABLE2 for refit in ("", "_refit")], (0,))
    before = tables.table2(tmp_path)
    assert "ensemble_refit" in set(before.model)
    monkeypatch.setitem(paper.MODEL_NAMES, "gru", "GRU")
    fake_run(tmp_path, "random", "gru", 0)
    table = tables.table2(tmp_path)
    assert table.query("model == 'gru'").folds.tolist() == [1, 0, 0]
    pd.testing.assert_frame_equal(table.query("model != 'gru'").reset_index(drop=True), before)


def test_seeds_count_by_their_mean_and_are_averaged_where_all_folds_have_them(tmp_path):
    fake_results(tmp_path, protocols=("random",), models=("alexnet", "lstm"))
    before = tables.table2(tmp_path).set_index(["protocol", "model"]).loc["random"]
    for fold in range(6):
        fake_run(tmp_path, "random", "lstm", fold, 0.4, seed=1, beside=True)
    fake_run(tmp_path, "random", "alexnet", 0, 0.4, seed=1, beside=True)
    table = tables.table2(tmp_path).set_index(["protocol", "model"]).loc["random"]
    assert table.group.tolist() == ["network"] * 7 + ["averaged"] + ["ensemble"] * 2
    assert table.seeds[["alexnet", "lstm", "lstm_x2", "ensemble"]].tolist() == [1, 2, 1, 1]
    every = pd.DataFrame([runs.read(path) for path in runs.find(tmp_path, seeds=True)])
    assert table.accuracy.lstm == pytest.approx(100 * every[every.model == "lstm"].test_accuracy.mean())
    mine = every[every.model == "alexnet"]  # a fold counts once, with however many seeds
    assert table.accuracy.alexnet == pytest.approx(100 * mine.groupby("fold").test_accuracy.mean().mean())
    assert table.name.lstm_x2 == "LSTM × 2" and table.paper_accuracy.lstm_x2 == 79.8 and table.folds.lstm_x2 == 6
    assert (table.accuracy[["ensemble", "weighted"]] == before.accuracy[["ensemble", "weighted"]]).all()
    wide, narrow = (found.accuracy_high.lstm - found.accuracy_low.lstm for found in (table, before))
    assert wide > 1.5 * narrow  # trainings this far apart
    row = tables.figures(runs.predictions(tmp_path, "random", "lstm", seeds=True), "random")
    assert row == pytest.approx(table.loc["lstm", list(row)].to_dict())
    fake_run(tmp_path, "random", "lstm", 0, 0.4, seed=2, beside=True)  # a third one on one fold alone changes nothing
    for fold in range(6):
        fake_run(tmp_path, "random", "alexnet", fold, 0.4, seed=1, beside=True)
        fake_run(tmp_path, "random", "aligned_dense", fold, 0.9)
    table = tables.table2(tmp_path, others=True).query("protocol == 'random'").set_index("model")
    assert table.seeds[["lstm", "lstm_x2", "ensemble", "aligned_ensemble"]].tolist() == [2, 1, 2, 2]


def test_a_refit_is_a_row_below_the_networks_beside_the_same_figure_of_the_paper_and_in_no_ensemble(tmp_path):
    fake_results(tmp_path, protocols=("random",), models=("alexnet", "lstm"))
    without = tables.table2(tmp_path)
    for fold in range(6):
        fake_run(tmp_path, "random", "lstm_refit", fold, 0.9)
    table = tables.table2(tmp_path)
    assert table.group[:10].tolist() == ["network"] * 7 + ["taught"] + ["ensemble"] * 2
    assert (table.name[7], table.paper_accuracy[7], table.folds[7]) == ("LSTM, refit", 79.8, 6)
    pd.testing.assert_frame_equal(table.drop(7).reset_index(drop=True), without)
    fake_results(tmp_path, ("random",), ["aligned_dense", *(f"{name}_refit" for name in MODELS)])
    fake_results(tmp_path, ("random",), ["aligned_dense_refit"], folds=range(4))  # averaged as far as it is there
    table = tables.table2(tmp_path, others=True).set_index("model")
    assert table.folds[["ensemble_refit", "aligned_ensemble", "aligned_ensemble_refit"]].tolist() == [6, 6, 4]
    assert table.name.aligned_ensemble == "Ensemble of 2 with the aligned view"
    members = runs.predictions(tmp_path, "random", references=True)
    mean = metrics.ensemble(members[members.model.isin([f"{name}_refit" for name in MODELS])])
    assert table.accuracy.ensemble_refit == pytest.approx(100 * (mean.label == mean.prediction).mean())


def test_twins_in_training_are_those_in_neither_the_test_nor_the_validation_fold(tmp_path):
    fake_results(tmp_path, protocols=("random",), models=("alexnet", "lstm"), folds=(0, 4))
    clips = clip_names().assign(fold=fold_of(clip_names(), "random"))
    clips["take"] = clips["clip"].str[:15] + clips["clip"].str[17:]
    answers = runs.predictions(tmp_path, "random", "lstm").merge(clips[["clip", "take"]])
    training = {fold: set(clips["take"][~clips.fold.isin([fold, fold + 1])]) for fold in (0, 4)}
    answers["twin"] = [take in training[fold] for take, fold in zip(answers["take"], answers.fold, strict=True)]
    right = {twin: (part.label == part.prediction) for twin, part in answers.groupby("twin")}
    table = tables.by_twin(tmp_path).set_index("model")
    assert table.index.tolist() == ["alexnet", "lstm", "ensemble"]
    assert table.loc["lstm", ["twin", "alone"]].tolist() == pytest.approx([100 * np.mean(right[True]),
                                                                          100 * np.mean(right[False])])
    assert table.loc["lstm", ["twin_clips", "alone_clips"]].tolist() == [len(right[True]), len(right[False])]
    assert (table.difference == table.twin - table.alone).all()
