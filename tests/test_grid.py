import dataclasses
import heapq
import json
import os
import pickle
import queue
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.training import estimate, grid, runs

TINY = {"pool": 4, "warmup_epochs": 1, "options": {"width": 0.125, "dropout": 0.1}, "epochs": 4}


posix = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and fork are POSIX")


def tiny(protocol="random", fold=0, **changes) -> RunConfig:
    return RunConfig("smoke", "synthetic", protocol, "alexnet", fold, **TINY | changes)


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
    monkeypatch.setattr(grid, "Process", lambda *a: pytest.fail("started a process"))
    grid.train([tiny(), tiny("actors")], tiny_corpus, undisturbed, progress=False)


class Nursery:
    """Tiny grids that can be killed at chosen moments (see ``nursery.py``)."""

    def __init__(self, folder, corpus):
        self.configs = [tiny(protocol, fold=fold, epochs=6, augment=None)
                        for protocol in ("random", "actors") for fold in (0, 1)]
        self.root = folder / "runs"
        (folder / "task.pickle").write_bytes(pickle.dumps((self.configs, corpus, self.root)))
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("nursery.py")),
                                         str(folder / "task.pickle")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def grid(self, **moment):
        """Start a grid and wait for its end: how it ended and how many files it put in place."""
        print(json.dumps(moment), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer["ends"], answer["files"]

    def epochs(self):
        """Epochs that are safe on the disk by run, all of them for a finished one. Every file must be whole."""
        found = {}
        for path in sorted(self.root.glob("*/*/*/fold*")):
            found[path] = 0
            if (path / "state.npz").exists():
                with np.load(path / "state.npz") as state:
                    assert all(state[name] is not None for name in state.files)  # checksums
                    found[path] = len(json.loads(str(state["note"]))["rows"])
            if (path / "run.json").exists():
                found[path] = runs.read(path)["epochs"]
        return found

    def results(self):
        """History, predictions and scores of every finished run."""
        return {config.name: [(config.run_directory(self.root) / name).read_text()
                              for name in ("history.csv", "predictions.csv")] +
                [json.loads((config.run_directory(self.root) / "run.json").read_text())["metrics"]]
                for config in self.configs if runs.is_finished(config, self.root)}

    def clear(self):
        shutil.rmtree(self.root)


FILES = 6 + 4  # that a run puts in place: a state an epoch, and in the end weights, predictions, history, run.json


@pytest.fixture(scope="module")
def nursery(tiny_corpus, tmp_path_factory):
    found = Nursery(tmp_path_factory.mktemp("nursery"), tiny_corpus)
    yield found
    found.process.stdin.close()
    found.process.wait()


@pytest.fixture
def expected(nursery):
    """Results of a grid that nobody disturbs; an empty folder to start from."""
    if not hasattr(nursery, "expected"):
        assert nursery.grid() == (["finished"], 4 * FILES)
        nursery.expected = nursery.results()
        assert len(nursery.expected) == 4
    shutil.rmtree(nursery.root, ignore_errors=True)
    return nursery.expected


def moments(seed):
    """Random moments to kill a grid at: mostly while it writes, anywhere in a file, else at any time."""
    chance = random.Random(seed)
    while True:
        yield chance.choice([
            {"write": chance.randint(1, 8), "bytes": int(10 ** chance.uniform(0, 5.4))},
            {"write": chance.randint(1, 8), "bytes": int(10 ** chance.uniform(0, 5.4))},
            {"replace": chance.randint(1, 8)},
            {"seconds": chance.uniform(0.5, 4)},
        ])


@posix
def test_a_grid_killed_twenty_times_loses_no_epoch_and_ends_with_the_same_runs(nursery, expected):
    kills, before = 0, {}
    for moment in moments(seed=1):
        (end,), _ = nursery.grid(**moment)
        safe = nursery.epochs()
        assert all(safe[path] >= epochs for path, epochs in before.items()), moment
        before = safe
        if end == "finished":
            assert nursery.results() == expected
            nursery.clear()
            before = {}
        kills += end == "killed"
        if kills == 20:
            break
        assert end in ("killed", "finished")
    assert nursery.grid()[0] == ["finished"]
    assert nursery.results() == expected
    assert not list(nursery.root.glob("**/.*-*")), "half-written files are left behind"


@posix
def test_two_grids_at_once_share_the_work_and_train_no_run_twice(nursery, expected):
    assert nursery.grid(grids=2) == (["finished", "finished"], 4 * FILES)
    assert nursery.results() == expected


@posix
def test_a_full_disk_stops_the_grid_and_spoils_nothing(nursery, expected):
    ends, files = nursery.grid(full=10)
    assert ends == ["failed"]
    assert 7 <= files <= 9  # of 9 files written two may have been under way
    safe = nursery.epochs()
    assert 6 <= sum(safe.values()) <= files  # all are epochs but the last files of a run that had all its 6
    log = next(iter(nursery.root.glob("*/*/*/*/train.log"))).read_text()
    assert "The disk is full" in log
    assert nursery.grid()[0] == ["finished"]
    assert nursery.results() == expected


@posix
def test_a_real_grid_killed_at_random_moments_ends_with_the_same_runs(undisturbed, tiny_corpus, tmp_path):
    code = (
        "import pickle, sys; from pathlib import Path; from ser_utils import grid; "
        "configs, corpus, root = pickle.load(open(sys.argv[1], 'rb')); grid.train(configs, corpus, root)"
    )
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


class SimulatedRun(types.SimpleNamespace):
    __hash__ = object.__hash__


class Simulation:
    """Takes the place of the clock, the queue of events and ``grid.Process``: runs that only pass made-up time."""

    SPEED = {"alexnet": 2.0, "lstm": 6.0}  # seconds an epoch
    Empty = queue.Empty

    def __init__(self):
        self.now, self.events, self.count, self.trained = 0.0, [], 0, 0
        self.noise = np.random.default_rng(5)

    def monotonic(self):
        return self.now

    def Queue(self):  # noqa: N802
        return self

    def put(self, delay, event, deed=lambda: None):
        heapq.heappush(self.events, (self.now + delay, self.count, event, deed))
        self.count += 1

    def get(self, timeout):
        self.now, _, event, deed = heapq.heappop(self.events)
        deed()
        return event

    def process(self, config, corpus, root, threads, events):
        run = SimulatedRun(config=config, done=estimate.work(config, root).done, code=0)
        first = run.done + 1
        self.put(0, ("begin", run, None))
        when = 12.0
        for epoch in range(first, config.epochs + 1):
            when += self.SPEED[config.model] * self.noise.uniform(0.7, 1.3)
            row = {"epochs": epoch if epoch == first else 1, "val_accuracy": 0.01 * epoch}
            self.put(when, ("epoch", run, row), lambda: self.epoch(run))
        self.put(when + 3, ("end", run, None), lambda: self.write(run, root, "run.json", '{"config_hash": "%s"}'))
        run.stop, run.collect = lambda: self.stop(run, root), lambda: run.code
        return run

    def epoch(self, run):
        run.done += 1
        self.trained += 1

    def write(self, run, root, name, text):
        (run.config.run_directory(root) / name).write_text(text % run.config.hash)

    def stop(self, run, root):
        self.events = [one for one in self.events if one[2][1] is not run]
        heapq.heapify(self.events)
        note = {"hash": run.config.hash, "rows": [0] * run.done, "best": {"epoch": run.done, "val_accuracy": 0.1}}
        np.savez(run.config.run_directory(root) / "state.npz", note=np.array(json.dumps(note)))
        run.code = 143
        self.put(0.5, ("end", run, None))


@pytest.fixture
def simulated(monkeypatch, tmp_path):
    """A function (folds, epochs) that trains in made-up time: (the simulation, seconds taken, seconds promised)."""
    simulation = Simulation()
    monkeypatch.setattr(grid, "time", simulation)
    monkeypatch.setattr(grid, "queue", simulation)
    monkeypatch.setattr(grid, "Process", simulation.process)
    promised, close = [], grid._Grid.close
    monkeypatch.setattr(grid._Grid, "close", lambda self: (promised.append(self.promise), close(self)))

    def train(folds, epochs):
        configs = [RunConfig("smoke", "synthetic", "random", model, fold, epochs=epochs)
                   for fold in folds for model in Simulation.SPEED]
        began = simulation.now
        grid.train(configs, None, tmp_path, jobs=2, probe=True)
        assert all(runs.is_finished(config, tmp_path) for config in configs)
        return simulation, simulation.now - began, promised[-1]

    return train


def test_the_time_left_is_measured_printed_and_right(simulated, capsys):
    simulation, took, promised = simulated(range(3), 40)
    said = capsys.readouterr().out
    assert "6 runs to train, 2 at a time. How long they take is measured first" in said
    assert "in 3 epochs each of alexnet, lstm." in said and "Measured: about" in said
    assert promised == pytest.approx(took, rel=0.25)
    assert f"It took {estimate.words(took)}; the estimate was {estimate.words(promised)}." in said
    assert simulation.trained == 6 * 40  # the epochs that measured were no extra

    _, took, promised = simulated(range(6), 40)  # three folds more
    said = capsys.readouterr().out
    assert f"6 runs to train, 2 at a time: about {estimate.words(promised)}, going by 6 earlier runs" in said
    assert promised == pytest.approx(took, rel=0.25)


def test_few_epochs_are_not_measured_beforehand(simulated, capsys):
    simulated([0], 5)
    said = capsys.readouterr().out
    assert "follows when epochs of alexnet, lstm are measured" in said and "Measured: about" in said


def test_a_run_that_fails_is_named_and_the_others_finish(tiny_corpus, tmp_path):
    bad = dataclasses.replace(tiny("actors"), options={"width": -1})
    with pytest.raises(grid.GridError, match=r"1 runs failed(.|\n)*actors/alexnet/fold0"):
        grid.train([bad, tiny(epochs=1)], tiny_corpus, tmp_path, progress=False)
    assert list(results(tmp_path)) == ["synthetic-smoke/random/alexnet/fold0"]


def test_a_run_that_cannot_be_started_says_why_and_the_others_are_stopped(tiny_corpus, tmp_path):
    class Started:
        def __init__(self, config, events):
            if workers:
                raise OSError("no more processes")
            workers.append(self)

        def stop(self):
            self.stopped = True

    workers = []
    with pytest.raises(OSError, match="no more processes"):
        grid.train([tiny(fold=0), tiny(fold=1)], tiny_corpus, tmp_path, progress=False, start=Started)
    assert len(workers) == 1 and workers[0].stopped


def test_a_budget_that_is_over_starts_nothing(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "Process", lambda *a: pytest.fail("started a process"))
    grid.train([tiny()], tiny_corpus, tmp_path, budget=1e-9, progress=False)


def test_a_budget_stops_a_run_under_way(tiny_corpus, tmp_path):
    began = time.monotonic()
    grid.train([tiny(epochs=100_000)], tiny_corpus, tmp_path, budget=3, progress=False)
    assert time.monotonic() - began < 60 and results(tmp_path) == {}


def test_a_polite_kill_stops_the_trainings_as_ctrl_c_does(tiny_corpus, monkeypatch, capsys):
    monkeypatch.setattr("ser_utils.data.corpus.for_profile", lambda profile: tiny_corpus)
    monkeypatch.setattr("ser_utils.features.spectral.extract", lambda *a, **k: None)
    monkeypatch.setattr(grid, "run_all", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(9))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert grid.main(["--profile", "smoke"]) == 130
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "Stopped." in capsys.readouterr().out


def test_run_all_lists_every_run_of_the_profile(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "train", lambda *a, **k: None)
    table = grid.run_all("smoke", tiny_corpus, models=["lstm", "vgg16"], root=tmp_path)
    assert list(table.columns) == ["protocol", "model", "fold", "finished"]
    assert set(table.model) == {"lstm", "vgg16"} and not table.finished.any()


def test_published_runs_are_not_trained_again(tiny_corpus, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(grid, "train", lambda configs, *a, **k: trained.extend(c.place for c in configs))
    one, other = configuration.run_configs("smoke", "synthetic", ["lstm", "vgg16"])
    for config, held in ((one, one), (other, dataclasses.replace(other, epochs=1))):
        folder = tmp_path / "results" / config.place
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"config_hash": held.hash}))
    table = grid.run_all("smoke", tiny_corpus, ["lstm", "vgg16"], root=tmp_path, published=tmp_path / "results")
    assert trained == [other.place]  # published with other settings: not the same run
    assert set(table.model[table.finished]) == {"lstm"} and len(table) == 2

    monkeypatch.setattr("ser_utils.data.corpus.for_profile", lambda *a, **k: tiny_corpus)
    monkeypatch.setattr("ser_utils.features.spectral.extract", lambda *a, **k: None)
    monkeypatch.setattr(grid, "RESULTS", tmp_path / "results")
    for flags, expected in (([], {"lstm", "vgg16"}), (["--missing"], {"vgg16"})):
        trained.clear()
        assert grid.main(["--profile", "smoke", "--models", "lstm", "vgg16", "--runs", str(tmp_path), *flags]) == 0
        assert {place.split("/")[1] for place in trained} == expected


def test_the_command_line_refuses_unknown_names(capsys, monkeypatch, tiny_corpus, tmp_path):
    from ser_utils.data import corpus

    monkeypatch.setattr(corpus, "for_profile", lambda *a, **k: tiny_corpus)
    monkeypatch.setattr("ser_utils.features.spectral.extract", lambda *a, **k: None)
    assert grid.main(["--profile", "smoke", "--models", "gru", "--runs", str(tmp_path)]) == 1
    assert "Unknown model 'gru'" in capsys.readouterr().err
    assert grid.main(["--profile", "smoke", "--models", "lstm", "--budget", "1e-9", "--runs", str(tmp_path)]) == 0
    assert "0 of" in capsys.readouterr().out
