"""ser_utils.evaluation.tables: Table 2 follows from the files of runs, in figures, words and HTML; other studies and people."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fakes import MODELS, fake_results, fake_run

from ser_utils import paper
from ser_utils.evaluation import metrics as ev
from ser_utils.evaluation import tables
from ser_utils.paths import ROOT


def test_table2_rows(results):
    table = tables.table2(results).set_index(["protocol", "model"])
    assert len(table) == 21 + 4  # two ensembles where networks were run
    row = table.loc[("random", "alexnet")]
    folds = [ev.read_run(results / "random" / "alexnet" / f"fold{fold}") for fold in range(6)]
    for name in ev.METRICS:
        assert row[name] == pytest.approx(100 * np.mean([fold[f"test_{name}"] for fold in folds]))
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert row.folds == 6 and row.paper_accuracy == 78.4
    assert row.difference == pytest.approx(row.accuracy - 78.4)
    assert table.loc[("random", "lstm")].folds == 1
    empty = table.loc[("twins", "vgg19")]
    assert empty.folds == 0 and np.isnan(empty.accuracy) and empty.paper_accuracy == 85.5


def test_table2_intervals_are_over_actors_where_speakers_are_new(results):
    table = tables.table2(results).set_index(["protocol", "model"])
    row = table.loc[("actors", "resnet")]
    pooled = ev.load_predictions(results, "actors", "resnet")
    groups = ev.clip_facts(pooled["clip"]).actor
    by_actor = ev.bootstrap_interval(pooled.label, pooled.prediction, "f1", groups)
    assert (row.f1_low, row.f1_high) == pytest.approx([100 * end for end in by_actor])
    row, pooled = table.loc[("random", "resnet")], ev.load_predictions(results, "random", "resnet")
    by_clip = ev.bootstrap_interval(pooled.label, pooled.prediction, "f1")
    assert (row.f1_low, row.f1_high) == pytest.approx([100 * end for end in by_clip])


def test_table2_without_runs(tmp_path):
    table = tables.table2(tmp_path / "nowhere")
    assert len(table) == 21 and (table.folds == 0).all()
    assert tables.table2_markdown(table).count("not run") == 21
    assert tables.table2_html(table).count("not run") == 21


def test_table2_shows_other_models_after_the_seven(results, tmp_path):
    shutil.copytree(results / "random" / "vgg16", tmp_path / "random" / "vgg16")
    fake_run(tmp_path, model="majority", accuracy=0.13)
    table = tables.table2(tmp_path)
    assert len(table) == 22
    assert table[table.protocol == "random"].model.tolist() == [*MODELS, "majority"]
    assert np.isnan(table.set_index("model").paper_accuracy["majority"])


def test_table2_text(results):
    table = tables.table2(results)
    text = tables.table2_markdown(table)
    lines = text.splitlines()
    assert len(lines) == 2 + 25 and len({line.count("|") for line in lines}) == 1
    row = table.iloc[0]
    interval = f"{row.accuracy_low:.1f} to {row.accuracy_high:.1f}"
    assert lines[2].startswith(f"| random | AlexNet | 78.4 | {row.accuracy:.1f} | {interval} |")
    assert lines[2].endswith("| 6/6 |") and "nan" not in text
    html = tables.table2_html(table)
    networks, ensembles, *others = [part.count("<tr") for part in html.split("<tbody")[1:]]
    assert networks == 7 and ensembles + sum(others) == 18 and html.count("<tbody") == html.count("</tbody")
    assert html.count('<tbody class="protocol">') == 2
    assert html.count("<tr") == 26 and f"<td>{row.accuracy:.1f}</td>" in html and "nan" not in html.lower()


def row_of_table2(protocol, model, group, accuracy, folds, paper=np.nan):
    names = ev.MODEL_NAMES | ev.ENSEMBLE_NAMES
    return {"protocol": protocol, "group": group, "model": model, "name": names[model], "paper_accuracy": paper,
            "accuracy": accuracy, "accuracy_low": accuracy - 2, "accuracy_high": accuracy + 2,
            "difference": accuracy - paper, "folds": folds}


def test_unseen_speakers_are_ours_beside_other_studies(results):
    table = tables.table2(results)
    systems = tables.unseen_speakers(table)
    ours = systems[systems.group == "ours"].set_index("model")
    assert sorted(ours.index) == sorted([*MODELS[:2], *ev.ENSEMBLE_NAMES]) and ours.same_folds.all()
    row = table[(table.protocol == "actors") & (table.model == MODELS[0])].iloc[0]
    assert tuple(ours.loc[MODELS[0], ["uar", "low", "high"]]) == (row.recall, row.recall_low, row.recall_high)
    others = systems[systems.group != "ours"]
    assert len(others) == len(paper.UNSEEN) and others.url.str.startswith("https://").all()
    assert set(others[others.same_folds].source) == {"Ma et al. 2024 (EmoBox)"}
    text = "\n".join(tables.describe_unseen(table))
    best = ours.drop(index=list(ev.ENSEMBLE_NAMES)).nlargest(1, "uar").iloc[0]
    assert f"{best['name']} **{best.uar:.1f} %** ({best.low:.1f} to {best.high:.1f})" in text
    ensembles = ours.loc[list(ev.ENSEMBLE_NAMES)]
    assert all(f"; {row['name']} **{row.uar:.1f} %**" in text for _, row in ensembles.iterrows())
    assert all(f"{other.system}: {other.uar} %" in text for other in paper.UNSEEN)
    assert all(f"([{other.source}]({other.url}))" in text for other in paper.UNSEEN)
    assert tables.unseen_speakers(table[table.protocol == "random"]).empty
    assert tables.describe_unseen(table[table.protocol == "random"]) == []


def test_known_voices_are_ours_beside_other_studies(results):
    table = tables.table2(results)
    (text,) = tables.describe_known(table)
    ours = table[(table.protocol == "random") & (table.folds > 0)]
    ours = ours[ours.folds == ours.folds.max()]
    best = ours[ours.group == "network"].nlargest(1, "recall").iloc[0]
    for row in [best, *(row for _, row in ours[ours.model.isin(ev.ENSEMBLE_NAMES)].iterrows())]:
        assert f"{row['name']} **{row.recall:.1f} %** ({row.recall_low:.1f} to {row.recall_high:.1f})" in text
    assert all(f"{other.system}: {other.uar} %" in text and other.url in text for other in paper.KNOWN)
    assert "here, 960 clips" in text and "1,296 clips in training (ten folds) and no epoch chosen on test clips" in text
    assert tables.describe_known(table[table.protocol == "actors"]) == []
    assert tables.describe_known(table.assign(group="reference")) == []


def test_references_stand_among_the_features_made_by_hand(results):
    table = tables.table2(results)
    svm = table[(table.protocol == "actors") & (table.folds > 0)].head(1).assign(
        group="reference", model="svm", name="SVM (RBF kernel)", recall=44.0)
    systems = tables.unseen_speakers(pd.concat([table, svm, svm.assign(model="majority", name="Most frequent class")]))
    assert systems[(systems.group == "features") & (systems.source == "here")].name.tolist() == [
        "SVM (RBF kernel) on MFCC"]
    assert tables.unseen_speakers(svm).empty  # no network


def test_on_seven_options_neutral_and_calm_are_accepted_for_each_other():
    answers = pd.DataFrame(0.0, index=range(4), columns=ev.PROBABILITIES).assign(
        label=[0, 1, 0, 3], prediction=[1, 0, 4, 4])
    answers.loc[0, ["p_calm", "p_neutral"]] = 0.6, 0.4
    answers.loc[1, ["p_neutral", "p_calm"]] = 0.9, 0.1
    answers.loc[2, ["p_neutral", "p_calm", "p_angry"]] = 0.3, 0.3, 0.4  # together they outweigh angry
    answers.loc[3, ["p_angry", "p_sad"]] = 0.8, 0.2
    scored = tables.on_seven_options(answers)
    assert (scored.label == scored.prediction).tolist() == [True, True, True, False]
    assert scored[ev.PROBABILITIES].sum(axis=1).tolist() == pytest.approx([1.0] * 4)
    assert (scored.p_neutral == 0).all() and answers.p_neutral.sum() > 0  # the table given is left alone


def test_against_people(results):
    answers = ev.load_predictions(results, "actors")
    fair = tables.against_people(answers)
    assert set(fair.model) == set(MODELS[:2]) and fair.accuracy.is_monotonic_decreasing
    mine = tables.on_seven_options(answers[answers.model == fair.model[0]])
    by_fold = (mine.label == mine.prediction).groupby(mine.fold).mean()
    assert fair.accuracy[0] == pytest.approx(100 * by_fold.mean())
    assert (fair.low < fair.accuracy).all() and (fair.accuracy < fair.high).all()
    uneven = answers[(answers.model == MODELS[0]) | (answers.fold == 0)]
    assert tables.against_people(uneven).model.tolist() == [MODELS[0]]
    said = tables.describe_people(answers)
    assert f"{fair.name[0]}'s: **{fair.accuracy[0]:.1f} %** ({fair.low[0]:.1f} to {fair.high[0]:.1f})" in said
    assert f"{(fair.accuracy > 62.4).sum()} of the 2 networks" in said and "people recognise 62.4 %" in said


def test_describe_says_what_table2_says():
    table = pd.DataFrame([
        row_of_table2("random", "alexnet", "network", 79.0, 6, 78.4),
        row_of_table2("random", "vgg16", "network", 90.0, 1, 85.0),  # one lucky fold is not the best network
        row_of_table2("random", "lstm", "network", 78.0, 6, 79.8),
        row_of_table2("random", "resnet", "network", np.nan, 0, 83.6),
        row_of_table2("random", "ensemble", "ensemble", 81.0, 1),
        row_of_table2("twins", "resnet", "network", np.nan, 0, 83.6),
        row_of_table2("actors", "alexnet", "network", 50.0, 6, 78.4),
        row_of_table2("actors", "lstm", "network", 60.0, 6, 79.8),
    ])
    random, actors, change = tables.describe(table)
    assert random == (
        "**Random split (the paper's)**, 6 of 6 folds. The highest accuracy of a network is AlexNet's: **79.0 %** "
        "(77.0 to 81.0). Ensemble, mean (1 of 6 folds): **81.0 %** (79.0 to 83.0). At or above the paper's accuracy: "
        "AlexNet, VGG16 (1 of 6 folds). Below it, in points: LSTM by 1.8. 2 of 3 of the paper's accuracies lie inside "
        "our intervals.")
    assert "LSTM's: **60.0 %**" in actors and "AlexNet by 28.4, LSTM by 19.8. 0 of 2" in actors
    assert "by −29.0 (AlexNet), −18.0 (LSTM) points" in change
    quick = tables.describe(table.assign(folds=table.folds.clip(upper=1)))  # a profile of a single fold
    assert quick[0].count("1 of 6 folds") == 1 and "VGG16's: **90.0 %**" in quick[0] and "(AlexNet)" in quick[-1]
    assert len(tables.describe(table[table.protocol != "actors"])) == 1
    fewer = table.assign(folds=table.folds.where(table.protocol == "random", table.folds.clip(upper=1)))
    assert len(tables.describe(fewer)) == 2  # one fold of a protocol is not compared with six of the other
    assert tables.describe(table[table.folds == 0]) == []
    kept = pd.concat([table, pd.DataFrame([row_of_table2("twins", "lstm", "network", 75.5, 6, 79.8),
                                           row_of_table2("twins", "vgg16", "network", 70.0, 6, 85.0)])])
    *_, copies, _ = tables.describe(kept)
    assert "to twins kept together, accuracy changes by −2.5 (LSTM) points: what near-copies" in copies


def test_the_headline_names_the_best_network_of_the_protocols_that_ran():
    table = pd.DataFrame([
        row_of_table2("random", "alexnet", "network", 79.0, 6, 78.4),
        row_of_table2("random", "vgg16", "network", 90.0, 1, 85.0),  # one lucky fold is not the best network
        row_of_table2("random", "lstm", "network", 78.0, 6, 79.8),
        row_of_table2("random", "ensemble", "ensemble", 81.0, 6),
        row_of_table2("random", "alexnet", "reference", 99.0, 6),
        row_of_table2("twins", "resnet", "network", np.nan, 0, 83.6),
        row_of_table2("actors", "lstm", "network", 60.0, 2, 79.8),
    ])
    assert tables.headline(table) == (
        "Of clips split at random, as in the paper, the best network recognises **79.0 %** (AlexNet; the 2 "
        "networks averaged: 81.0 %); the paper's seven reach 78.4 to 87.3 %. Of clips by actors never heard before, "
        "the best recognises **60.0 %** (LSTM); people, who choose among 7 emotions, 62.4 %.")
    assert tables.headline(table[table.folds == 0]) == ""


def test_table2_warns_of_synthetic_and_reduced_runs(tmp_path):
    from ser_utils.data.corpus import BANNER

    fake_run(tmp_path, corpus="synthetic", profile="quick")
    table = tables.table2(tmp_path)
    for text in (tables.table2_markdown(table), tables.table2_html(table)):
        assert BANNER in text and "Profile quick" in text


def test_command_line(results, tmp_path, capsys):
    assert tables.main([str(results)]) == 0
    assert capsys.readouterr().out == tables.table2_markdown(tables.table2(results))
    assert tables.main([str(tmp_path / "none")]) == 0
    captured = capsys.readouterr()
    assert "does not exist" in captured.err and captured.out.count("not run") == 21
    folder = fake_run(tmp_path)
    (folder / "predictions.csv").unlink()
    assert tables.main([str(tmp_path)]) == 1
    assert "predictions.csv is missing" in capsys.readouterr().err


def test_table2_needs_neither_deep_learning_nor_audio(results):
    code = f"""
import sys
BANNED = "tensorflow keras jax torch librosa soundfile pooch requests tqdm numba".split()

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BANNED:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
import ser_utils.plots.results
from ser_utils.evaluation import tables
sys.exit(tables.main([{str(results)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| random | AlexNet |" in done.stdout


def test_table2_has_ensembles_of_the_folds_all_networks_finished(tmp_path):
    fake_results(tmp_path, protocols=("random",), folds=(0,))
    fake_results(tmp_path, models=("alexnet",), protocols=("random",), folds=(1,))
    table = tables.table2(tmp_path)
    mixed = table[table.group == "ensemble"]
    assert list(mixed.model) == ["ensemble", "greedy"] and set(mixed.folds) == {1} and set(mixed.protocol) == {"random"}
    assert mixed.name.tolist() == ["Ensemble, mean", "Ensemble, weighed"]  # of all seven
    assert mixed.accuracy.min() > table[table.folds == 1].accuracy.median()
    assert mixed.paper_accuracy.isna().all()


def test_a_network_with_fewer_folds_does_not_cost_the_ensemble_its_own(tmp_path):
    fake_results(tmp_path, models=("alexnet", "lstm"), protocols=("random",), folds=(0, 1))
    before = tables.table2(tmp_path).set_index("model").loc[["ensemble", "greedy"]]
    fake_results(tmp_path, models=("vgg16",), protocols=("random",), folds=(0,))
    after = tables.table2(tmp_path).set_index("model").loc[["ensemble", "greedy"]]
    assert set(after.folds) == {2} and (after.accuracy == before.accuracy).all()
    assert list(after.name) == list(before.name) == ["Ensemble of 2, mean", "Ensemble of 2, weighed"]


def test_gaps_are_means_over_folds_of_history_and_metrics(tmp_path):
    fake_run(tmp_path, "random", "lstm", 0, 0.8)
    fake_run(tmp_path, "random", "lstm", 4, 0.6)
    (row,) = tables.gaps(tmp_path).itertuples()
    runs = ev.load_runs(tmp_path)
    assert (row.protocol, row.model, row.name, row.folds, row.epochs, row.kept) == (
        "random", "lstm", "LSTM", 2, 30, 27)
    assert row.test == pytest.approx(100 * runs.test_accuracy.mean())
    assert row.val == pytest.approx(100 * runs.val_accuracy.mean())
    histories = [pd.read_csv(folder / "history.csv").iloc[27:] for folder in runs.dir]  # 3 of 30 epochs
    assert row.train == pytest.approx(100 * np.mean([h.accuracy.mean() for h in histories]))
    assert row.val_end == pytest.approx(100 * np.mean([h.val_accuracy.mean() for h in histories]))
    assert row.paper_accuracy == 79.8
    assert tables.gaps(tmp_path / "nothing").empty
