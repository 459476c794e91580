"""Whatever kills a training, it goes on from its last epoch and ends with the same run."""

import dataclasses
import json
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_fit import PLAIN

from ser_utils.training import runs

EPOCHS = 4
FILES = EPOCHS + 4  # that a run puts in place: a state an epoch, and in the end weights, predictions, history, run.json


class Nursery:
    """Tiny trainings that can be killed at chosen moments (see ``nursery.py``)."""

    def __init__(self, folder, store):
        self.configs = [dataclasses.replace(PLAIN, epochs=EPOCHS, protocol=name) for name in ("random", "actors")]
        self.root = folder / "runs"
        (folder / "task.pickle").write_bytes(pickle.dumps((self.configs, store, self.root)))
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("nursery.py")),
                                         str(folder / "task.pickle")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.train() == (["finished"], 2 * FILES)
        self.expected = self.results()
        assert len(self.expected) == 2

    def train(self, **moment):
        """Train and wait for the end: how it ended and how many files were put in place."""
        print(json.dumps(moment), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer["ends"], answer["files"]

    def epochs(self):
        """Epochs that are safe on the disk by run, all of them for a finished one. Every file must be whole."""
        found = {}
        for config in self.configs:
            path = config.run_directory(self.root)
            found[path] = runs.epochs_done(config, self.root)
            assert found[path] or not (path / runs.STATE).exists()
            if (path / "run.json").exists():
                found[path] = runs.read(path)["epochs"]
        return found

    def results(self):
        done = [config.run_directory(self.root) for config in self.configs if runs.is_finished(config, self.root)]
        return {path: [(path / "history.csv").read_text(), (path / "predictions.csv").read_text(),
                       runs.Run(path).info["metrics"]] for path in done}


@pytest.fixture(scope="module")
def whole_nursery(made_up, tmp_path_factory):
    found = Nursery(tmp_path_factory.mktemp("nursery"), made_up)
    yield found
    found.process.stdin.close()
    found.process.wait()


@pytest.fixture
def nursery(whole_nursery):
    shutil.rmtree(whole_nursery.root, ignore_errors=True)
    return whole_nursery


def a_moment(chance, left):
    """To kill a training at, while it writes one of the files left, anywhere in it, or puts it in its place.

    Between two such moments nothing is written to the disk, so that they stand for all others.
    """
    file, size = chance.randint(1, left), int(10 ** chance.uniform(0, 5.4))
    return chance.choice([{"write": file, "bytes": size}, {"write": file, "bytes": size}, {"replace": file}])


def test_a_training_killed_four_times_loses_no_epoch_and_ends_with_the_same_run(nursery):
    kills, before, chance = 0, {}, random.Random(1)
    while kills < 4:
        moment = a_moment(chance, FILES - sum(before.values()))
        (end,), _ = nursery.train(runs=1, **moment)
        safe = nursery.epochs()
        assert all(safe[path] >= epochs for path, epochs in before.items()), moment
        before = safe
        if end == "finished":
            assert nursery.results().items() <= nursery.expected.items()
            shutil.rmtree(nursery.root)
            before = {}
        kills += end == "killed"
        assert end in ("killed", "finished")
    assert nursery.train(runs=1)[0] == ["finished"] and len(nursery.results()) == 1
    assert nursery.results().items() <= nursery.expected.items()
    assert not list(nursery.root.glob("**/.*-*")), "half-written files are left behind"


def test_two_at_once_share_the_work_and_train_no_run_twice(nursery):
    assert nursery.train(processes=2) == (["finished", "finished"], 2 * FILES)
    assert nursery.results() == nursery.expected
