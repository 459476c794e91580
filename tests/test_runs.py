"""ser_utils.training.runs: the files of runs, read and checked; whatever is damaged is found and named."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fakes import MODELS, clip_names, edit, fake_finished, fake_run

from ser_utils.config import learning, run_configs
from ser_utils.data import folds
from ser_utils.evaluation import metrics
from ser_utils.paths import RESULTS
from ser_utils.training import runs


@pytest.fixture
def run(tmp_path):
    return fake_run(tmp_path / "runs")


def test_load_runs(results):
    table = runs.table(results)
    assert len(table) == 5 + 12 + 4
    assert table.columns[:3].tolist() == ["protocol", "model", "fold"]
    assert list(dict.fromkeys(table.protocol)) == ["random", "actors"]
    assert list(dict.fromkeys(table.model)) == list(MODELS)
    row = runs.read(results / "actors" / "resnet" / "fold1")
    info = json.loads((row["dir"] / "run.json").read_text())
    assert row["test_f1"] == info["metrics"]["test"]["f1"] and row["parameters"] == 11_200_000
    found = table[(table.protocol == "actors") & (table.model == "resnet") & (table.fold == 1)]
    assert found.test_recall.item() == info["metrics"]["test"]["recall"]


def test_load_predictions(results):
    table = runs.predictions(results, "random", "alexnet")
    assert len(table) == 1440 and table["clip"].is_unique and set(table["clip"]) == set(clip_names()["clip"])
    assert set(table.subset) == {"test"} and set(table.fold) == set(range(6))
    assert (table.prediction == table[metrics.PROBABILITIES].to_numpy().argmax(axis=1)).all()
    assert len(runs.predictions(results, "actors", subset=None)) == 4 * 480
    assert set(runs.predictions(results, model="lstm", subset="val").model) == {"lstm"}
    with pytest.raises(ValueError, match="train"):
        runs.predictions(results, subset="train")
    with pytest.warns(UserWarning, match=f"{results} has no finished run actors/LSTM"):
        assert runs.predictions(results, "actors", "LSTM").empty
    assert runs.Run(str(results / "actors/resnet/fold0")).info["model"] == "resnet"


def test_relative_root_works_an_empty_one_and_smaller_runs_outside_full(results, monkeypatch, tmp_path):
    monkeypatch.chdir(results.parent)
    assert len(runs.table(results.name)) == 21
    monkeypatch.chdir(results)
    assert len(runs.predictions(".", "actors", "resnet")) == 480
    assert runs.table(tmp_path / "none").empty and runs.predictions(tmp_path).empty
    folder = fake_run(tmp_path, profile="quick")
    of_table(lambda table: table.groupby("subset").head(100))(folder)
    assert len(runs.read_predictions(folder)) == 200
    (folder / "run.json").unlink()
    assert runs.table(tmp_path).empty


def of_table(change, name="predictions.csv"):
    """A damage: a table changed."""
    return lambda folder: change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def set_cell(row, column, value):
    """A damage: another value in a table's cell, or some."""
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table
    return of_table(change)


def text(name, change):
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


def of_info(change):
    """A damage: run.json changed in place."""
    def changed(text):
        info = json.loads(text)
        change(info)
        return json.dumps(info)
    return text("run.json", changed)


def less_sure(table):
    """Another epoch's predictions: as right, less sure."""
    table[metrics.PROBABILITIES] = (0.3 * table[metrics.PROBABILITIES] + 0.7 / 8).round(5)
    return table


def easier_clip(table):
    """One test clip in place of another of its emotion that belongs to no test or validation fold."""
    row = table.index[table.subset == "test"][0]
    table.loc[row, "clip"] = next(clip for clip in folds.table()["clip"] if clip not in set(table["clip"])
                                  and int(clip[6:8]) == table.label[row] + 1)
    return table


@pytest.mark.parametrize("damage, message", [
    (lambda folder: (folder / "run.json").unlink(), r"run\.json is missing.*not finished"),
    (lambda folder: (folder / "predictions.csv").unlink(), r"predictions\.csv is missing"),
    (text("predictions.csv", lambda text: ""), r"predictions\.csv cannot be read"),
    (lambda folder: (folder / "predictions.csv").write_bytes(b"\x00\xff\xfe\n" * 9), r"predictions\.csv"),
    (text("predictions.csv", lambda text: text[: len(text) // 2]), r"predictions\.csv: (it has|row)"),
    (lambda folder: (folder / "history.csv").unlink(), r"history\.csv is missing"),
    (text("history.csv", lambda text: "epoch,loss\n1,2\n"), r"history\.csv lacks accuracy"),
    (text("run.json", lambda text: text[: len(text) // 2]), r"run\.json cannot be read"),
    (text("run.json", lambda text: "[]"), r"run\.json lacks protocol"),
    (of_info(lambda info: info.pop("seed")), r"run\.json lacks seed"),
    (of_info(lambda info: info["metrics"].pop("test")), r"run\.json: metrics of val and test"),
    (of_info(lambda info: info["metrics"]["test"].update(f1=float("nan"))), r"run\.json: metrics of val and test"),
    (of_info(lambda info: info["metrics"]["test"].update(f1="high")), r"run\.json: metrics of val and test"),
    (of_info(lambda info: info.update(fold=3)), r"run\.json says it is random/resnet/fold3"),
    *((of_info(lambda info, name=name: info["metrics"]["test"].update({name: info["metrics"]["test"][name] + 0.003})),
       f"states a test {name} of") for name in metrics.METRICS),
    (of_table(lambda table: table.drop(columns="p_sad")), r"predictions\.csv: columns missing: p_sad"),
    (of_table(lambda table: table.iloc[:-1]), r"predictions\.csv: it has 479 rows"),
    (of_table(lambda table: table.iloc[:0]), r"predictions\.csv: it has 0 rows"),
    (of_table(lambda table: table.assign(clip=table["clip"].where(table.index > 0, table["clip"][1]))), "occurs twice"),
    (of_table(lambda table: table.assign(subset="test")), r"predictions\.csv has no val clips"),
    (set_cell(5, "p_calm", np.nan), r"predictions\.csv: row 6 .* holds NaN"),
    (set_cell(5, "p_calm", "much"), r"predictions\.csv: row 6 .* holds NaN"),
    (set_cell(0, "clip", np.nan), r"predictions\.csv: row 1 .* holds NaN"),
    (set_cell(0, "label", 9), r"row 1 .* a label that its name contradicts"),
    (set_cell(0, "label", 3), r"row 1 .* a label that its name contradicts"),
    (set_cell(0, "subset", "train"), r"row 1 .* neither val nor test"),
    (set_cell(0, "p_neutral", 2.0), r"row 1 .* not 0 to 1 or do not sum to 1"),
    (set_cell(0, ["p_neutral", "p_calm", *metrics.PROBABILITIES[2:]], [1.1, -0.1] + 6 * [0.0]), "row 1 .* not 0 to 1"),
    (of_info(lambda info: info.update(best_epoch=12)),
     "epoch 12 was kept, but epoch 27 is the best on validation clips: something else chose the epoch"),
    (of_table(less_sure), "validation predictions .* are not those of the kept epoch"),
    (of_table(lambda table: table.drop(index=0), "history.csv"), "does not hold the epochs 1 to 30"),
    (of_table(easier_clip), "1 test clips do not belong to fold 0 of random")])
def test_damaged_files_and_such_that_contradict_each_other_are_found_and_named(run, damage, message):
    """Also a flattered metric, an epoch chosen on test clips, weights of an unstated one, one missing, easy clips."""
    runs.check(run)
    damage(run)
    with pytest.raises(metrics.ResultsError, match=message):
        runs.check(run)


def test_a_run_that_keeps_its_last_epoch_must_have_kept_it(run):
    kept = {"config": {"keep": "last", "versions": 3, "epochs": 30}, "best_epoch": 30}
    edit(run / "run.json", **kept)
    runs.check(run)
    for wrong, message in (
            ({"best_epoch": 27}, "epoch 27 was kept, but epoch 30 is the last one"),
            ({"config": {"keep": "last", "epochs": 40}}, "keeps the last of 40 epochs, but ended after 30"),
            ({"config": {"keep": "last", "epochs": 30}}, "are not those of the kept epoch")):
        edit(run / "run.json", **kept | wrong)
        with pytest.raises(metrics.ResultsError, match=message):
            runs.check(run)


def test_further_seeds_are_read_where_they_are_asked_for(tmp_path):
    first, second = run_configs("full", "ravdess", ["lstm"], ["random"], [0], seeds=(0, 1))
    for config in (first, second, learning(first, "all")):  # of all clips, which leaves none to test on
        fake_finished(tmp_path, config)
    root = tmp_path / "ravdess-full"
    assert [path.name for path in runs.find(root)] == ["fold0"] and len(runs.predictions(root)) == 240
    assert [path.name for path in runs.find(root, seeds=True)] == ["fold0", "fold0-seed1"]
    assert runs.predictions(root, seeds=True).groupby("seed").size().to_dict() == {0: 240, 1: 240}
    (root / "random/lstm/fold0-seed1").rename(root / "random/lstm/fold0-seed2")
    with pytest.raises(metrics.ResultsError, match="but lies in random/lstm/fold0-seed2"):
        runs.predictions(root, seeds=True)


def test_ten_folds_have_test_clips_alone(tmp_path):
    config = run_configs("full", "ravdess", ["lstm"], ["random10"], [9])[0]
    folder = fake_finished(tmp_path, config, config={"keep": "last", "epochs": 30}, best_epoch=30)
    runs.check(folder)
    assert len(runs.read_predictions(folder)) == 144 and "val_accuracy" not in runs.read(folder)
    edit(folder / "run.json", fold=8)
    folder = folder.rename(folder.with_name("fold8"))
    with pytest.raises(metrics.ResultsError, match="144 test clips do not belong to fold 8 of random10"):
        runs.check(folder)


def test_an_enrolled_voice_is_judged_on_clips_that_are_never_enrolled_alone(tmp_path):
    place = "actors_enrolled5/alexnet/fold0"
    folder = shutil.copytree(RESULTS / place, tmp_path / place)
    runs.check(folder)
    table = pd.read_csv(folder / "predictions.csv")
    row = table.index[table.subset == "test"][0]
    enrolled = {clip for clip in folds.table()["clip"] if clip[-2:] == table["clip"][row][-2:]} - {*table["clip"]}
    table.loc[row, "clip"] = next(clip for clip in enrolled if int(clip[6:8]) == table.label[row] + 1)
    table.to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(metrics.ResultsError, match="1 test clips do not belong to fold 0 of actors_enrolled5, and 1 "):
        runs.check(folder)


def test_finished_runs_are_published_without_weights_and_once_and_made_up_speech_and_smoke_runs_are_not(tmp_path):
    one, other = run_configs("full", "ravdess", ["lstm", "vgg16"], ["random"], [0])
    directory = fake_finished(tmp_path / "runs", one)
    results = tmp_path / "results"
    assert runs.publish([one, other], tmp_path / "runs", results) == ["random/lstm/fold0"]
    assert {path.name for path in (results / one.place).iterdir()} == set(runs.FILES)
    assert runs.publish([one, other], tmp_path / "runs", results) == []
    fake_finished(tmp_path / "runs", robust := run_configs("robust", "ravdess", ["lstm"], folds=[0])[0])
    assert runs.publish([one, robust], tmp_path / "runs", results) == ["robust/actors/lstm/fold0"]
    assert runs.publish([dataclasses.replace(one, epochs=3)], tmp_path / "runs", results) == []
    table = pd.read_csv(directory / "predictions.csv")
    table.iloc[:-1].to_csv(directory / "predictions.csv", index=False)
    with pytest.raises(metrics.ResultsError, match="479 rows"):
        runs.publish([one], tmp_path / "runs", tmp_path / "elsewhere")
    for changes in ({"corpus": "synthetic"}, {"profile": "smoke"}):
        fake_finished(tmp_path / "runs", unfit := dataclasses.replace(one, **changes))
        with pytest.raises(metrics.ResultsError, match="quick and full runs on ravdess"):
            runs.publish([unfit], tmp_path / "runs", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
