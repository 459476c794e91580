"""Finished full runs become the published results."""

import pytest
from test_shipped import made  # noqa: F401

from ser_utils import config, shipped
from ser_utils.paths import RESULTS
from ser_utils.report import publish
from ser_utils.training import runs


@pytest.fixture
def finished(tmp_path, monkeypatch):
    for model in ("lstm", "transformer"):
        place = f"random/{model}/fold0"
        runs.copy(RESULTS / place, tmp_path / "runs" / "ravdess-full" / place)
    for name in ("RUNS", "RESULTS", "FIGURES"):
        monkeypatch.setattr(publish, name, tmp_path / name.lower())
    return tmp_path


def test_finished_runs_are_published_with_tables_and_figures(finished, capsys):
    runs.copy(RESULTS / "actors/face/fold0", finished / "runs/ravdess-full/actors/face/fold0")  # make fusion's
    runs.copy(RESULTS / "random/lstm/fold1", folder := finished / "runs/ravdess-full/random/lstm/fold1")
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"config_hash": "', '"config_hash": "x'))
    assert publish.main([]) == 0 and "1 finished runs belong to no row" in (said := capsys.readouterr().out)
    assert "2 runs are new in results/: random/lstm/fold0, random/transformer/fold0." in said and str(folder) in said
    assert "Transformer" in (finished / "results" / "README.md").read_text()
    assert [path.name for path in (finished / "figures").iterdir()] == ["table2.png"]
    assert publish.main([]) == 0 and "0 runs are new" in capsys.readouterr().out


def test_a_damaged_run_is_refused_and_nothing_is_copied(finished, capsys):
    path = finished / "runs/ravdess-full/random/transformer/fold0/predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert publish.main([]) == 1 and str(path.parent.name) in capsys.readouterr().err
    assert not (finished / "results").exists()


def test_every_published_run_has_todays_recipe():
    today = {}
    for one in publish.recipes():
        today.setdefault(one.place, set()).add(one.hash)
    found = {}
    for directory in runs.find(RESULTS, seeds=True):
        place = directory.relative_to(RESULTS).as_posix()
        if place in today:  # others are of a model with a recipe of its own
            runs.check(directory)
            found[place] = runs.Run(directory).info["config_hash"]
    assert {place for place, recipe in found.items() if recipe not in today[place]} == set()
    every = {one.place for one in config.run_configs("full", "ravdess")}
    assert len(every) == 126 and every <= set(found)


def test_the_runs_that_judge_ser_small_are_published_and_judge_what_is_made(made, tmp_path):  # noqa: F811
    robust = config.run_configs("robust", "ravdess", ["vgg19"])
    for one in robust:
        runs.check(RESULTS / "robust" / one.place)
        assert runs.holds(RESULTS / "robust" / one.place, one)
    about = shipped.read(shipped.ship(made[1], "a", [RESULTS / "robust" / one.place for one in robust], tmp_path))[1]
    found = publish.tables.figures(runs.predictions(RESULTS / "robust", "actors"), "actors")
    assert about["scores"] == {key: round(value, 1) for key, value in found.items()}
