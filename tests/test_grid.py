import dataclasses
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from ser_utils import config as configuration
from ser_utils import grid
from ser_utils.config import RunConfig

TINY = {"pool": 4, "warmup_epochs": 1, "options": {"width": 0.125, "dropout": 0.1}, "epochs": 4}


def tiny(protocol="random", **changes) -> RunConfig:
    return RunConfig("smoke", "synthetic", protocol, "alexnet", 0, **TINY | changes)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums in the same order in every process, so that runs can be compared to the last digit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_NUM_INTRAOP_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus, tmp_path_factory):
    root = tmp_path_factory.mktemp("grid")
    grid.train([tiny(), tiny("actors")], tiny_corpus, root, progress=False)
    return root


def results(root):
    """Every finished run's history and predictions, by folder."""
    found = {}
    for path in sorted(root.glob("*/*/*/fold0/run.json")):
        tables = [pd.read_csv(path.with_name(name)).round(3) for name in ("history.csv", "predictions.csv")]
        found[str(path.parent.relative_to(root))] = tables
    return found


def test_the_order_makes_partial_results_useful():
    names = [c.name for c in grid.order(configuration.run_configs("full", "ravdess"))]
    assert len(set(names)) == 126
    assert {name.split("/")[2] for name in names[:14]} == {"fold0"}
    assert names[:2] == ["random/alexnet/fold0", "actors/alexnet/fold0"] and names[13] == "actors/vgg19/fold0"
    assert all(name.startswith("twins") for name in names[84:])


def test_runs_train_in_processes_of_their_own(undisturbed):
    found = results(undisturbed)
    assert set(found) == {"synthetic-smoke/random/alexnet/fold0", "synthetic-smoke/actors/alexnet/fold0"}


def test_finished_runs_start_no_process(undisturbed, tiny_corpus, monkeypatch):
    monkeypatch.setattr(grid, "_Worker", lambda *a: pytest.fail("started a process"))
    grid.train([tiny(), tiny("actors")], tiny_corpus, undisturbed, progress=False)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_a_grid_killed_at_random_moments_ends_with_the_same_runs(undisturbed, tiny_corpus, tmp_path):
    code = (
        "import pickle, sys; from pathlib import Path; from ser_utils import grid; "
        "configs, corpus, root = pickle.load(open(sys.argv[1], 'rb')); grid.train(configs, corpus, root)"
    )
    import pickle

    task = tmp_path / "task.pickle"
    root = tmp_path / "runs"
    configs = [tiny(), tiny("actors")]
    task.write_bytes(pickle.dumps((configs, tiny_corpus, root)))
    chance = random.Random(1)
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, str(task)], start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 120
        while not list(root.glob("*/*/*/fold0/state.npz")) and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    grid.train(configs, tiny_corpus, root, progress=False)
    expected, found = results(undisturbed), results(root)
    assert set(found) == set(expected)
    for name, tables in expected.items():
        for one, two in zip(tables, found[name], strict=True):
            pd.testing.assert_frame_equal(one, two, atol=2e-2)


def test_a_run_that_fails_is_named_and_the_others_finish(tiny_corpus, tmp_path):
    bad = dataclasses.replace(tiny("actors"), options={"width": -1})
    with pytest.raises(grid.GridError, match=r"1 runs failed(.|\n)*actors/alexnet/fold0"):
        grid.train([bad, tiny(epochs=1)], tiny_corpus, tmp_path, progress=False)
    assert list(results(tmp_path)) == ["synthetic-smoke/random/alexnet/fold0"]


def test_a_budget_that_is_over_starts_nothing(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "_Worker", lambda *a: pytest.fail("started a process"))
    grid.train([tiny()], tiny_corpus, tmp_path, budget=1e-9, progress=False)


def test_a_budget_stops_a_run_under_way(tiny_corpus, tmp_path):
    began = time.monotonic()
    grid.train([tiny(epochs=100_000)], tiny_corpus, tmp_path, budget=3, progress=False)
    assert time.monotonic() - began < 60 and results(tmp_path) == {}


def test_run_all_lists_every_run_of_the_profile(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "train", lambda *a: None)
    table = grid.run_all("smoke", tiny_corpus, models=["lstm", "vgg16"], root=tmp_path)
    assert list(table.columns) == ["protocol", "model", "fold", "finished"]
    assert set(table.model) == {"lstm", "vgg16"} and not table.finished.any()


def test_the_command_line_refuses_unknown_names(capsys, monkeypatch, tiny_corpus, tmp_path):
    from ser_utils import corpus

    monkeypatch.setattr(corpus, "for_profile", lambda *a, **k: tiny_corpus)
    monkeypatch.setattr("ser_utils.features.extract", lambda *a, **k: None)
    assert grid.main(["--profile", "smoke", "--models", "gru", "--runs", str(tmp_path)]) == 1
    assert "Unknown model 'gru'" in capsys.readouterr().err
    assert grid.main(["--profile", "smoke", "--models", "lstm", "--budget", "1e-9", "--runs", str(tmp_path)]) == 0
    assert "0 of" in capsys.readouterr().out
