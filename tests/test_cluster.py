"""ser_utils.training.cluster: a scheduler and two workers on this machine, one of which is lost half-way."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import distributed
import pytest
from fakes import fake_run

from ser_utils.config import RunConfig
from ser_utils.training import cluster, grid, runs

CONFIGS = [RunConfig("smoke", "synthetic", protocol, "alexnet", 0, pool=4, warmup_epochs=1, augment=None, epochs=6,
                     options={"width": 0.125, "dropout": 0.1}) for protocol in ("random", "actors")]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums in the same order in every process, so that runs can be compared to the last digit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_NUM_INTRAOP_THREADS", "1")
        yield


def worker(address, name, *options):
    """A worker in a process group of its own, so that it can be lost with all it started."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
               "--no-dashboard", "--name", name, *options]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """The address of a scheduler with two workers that announce a GPU each, and the workers by name."""
    monkeypatch.chdir(tmp_path)  # where workers keep their scratch
    with distributed.LocalCluster(n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1",
                                  dashboard_address=None) as found:
        address = found.scheduler_address
        workers = {name: worker(address, name, "--resources", "GPU=1") for name in ("one", "two")}
        with distributed.Client(address) as client:
            client.wait_for_workers(2, timeout=240)
        yield address, workers
        for process in workers.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def results(root):
    """History, predictions and scores of the finished runs by folder."""
    return {str(path.parent.relative_to(root)): [path.with_name(name).read_text()
                                                 for name in ("history.csv", "predictions.csv")]
            + [json.loads(path.read_text())["metrics"]] for path in root.glob("*/*/*/fold0/run.json")}


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_a_worker_lost_half_way_changes_nothing(scheduler, tiny_corpus, tmp_path, monkeypatch):
    address, workers = scheduler
    starts, put = [], cluster.grid._Grid.epoch

    def epoch(self, task, row):
        """Once both runs are under way, the worker of one is killed, and with it what it trains."""
        put(self, task, row)
        starts.append(task.config.name)
        if len(set(starts)) == 2 and workers["one"].poll() is None:
            os.killpg(workers["one"].pid, signal.SIGKILL)

    monkeypatch.setattr(cluster.grid._Grid, "epoch", epoch)
    cluster.train(CONFIGS, tiny_corpus, address, tmp_path / "far", progress=False)
    assert workers["one"].wait() == -signal.SIGKILL
    assert len(starts) > 12, "no epoch was trained again: the worker was lost too late"
    monkeypatch.undo()
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    grid.train(CONFIGS, tiny_corpus, tmp_path / "near", progress=False)
    near, far = results(tmp_path / "near"), results(tmp_path / "far")
    assert len(near) == 2 and far == near
    for path in (tmp_path / "far").glob("*/*/*/fold0"):
        assert {file.name for file in path.iterdir()} - {".lock", "timing.json"} == set(cluster.FILES)
    began = time.monotonic()
    cluster.train(CONFIGS, tiny_corpus, address, tmp_path / "far", progress=False)  # finished: nothing to do
    assert time.monotonic() - began < 10

    bad = dataclasses.replace(CONFIGS[0], fold=1, options={"width": -1})
    with pytest.raises(grid.GridError, match=r"1 runs failed(.|\n)*random/alexnet/fold1"):
        cluster.train([bad], tiny_corpus, address, tmp_path / "far", progress=False)


@pytest.fixture
def sent(tmp_path):
    """A finished run as a worker would send it: (config, result)."""
    config = dataclasses.replace(CONFIGS[0], epochs=1)
    source = fake_run(tmp_path / "made", "random", "alexnet", 0, profile="smoke", corpus="synthetic")
    info = json.loads((source / "run.json").read_text()) | {"config_hash": config.hash}
    (source / "run.json").write_text(json.dumps(info))
    (source / "model.keras").write_bytes(b"weights")
    files = {name: (source / name).read_bytes() for name in cluster.FILES}
    return config, {"files": files, "sha256": {n: hashlib.sha256(c).hexdigest() for n, c in files.items()}}


def test_what_comes_back_whole_is_kept_once(sent, tmp_path):
    config, result = sent
    cluster.keep(config, result, tmp_path)
    assert runs.is_finished(config, tmp_path)
    directory = config.run_directory(tmp_path)
    assert runs.read(directory)["model"] == "alexnet"
    before = (directory / "run.json").stat().st_mtime_ns
    cluster.keep(config, result, tmp_path)
    assert (directory / "run.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("spoil, said", [
    (lambda r: r["files"].update({"predictions.csv": b"half"}), "damaged on its way"),
    (lambda r: r["files"].pop("model.keras"), "damaged on its way"),
])
def test_what_comes_back_damaged_is_not_kept(sent, tmp_path, spoil, said):
    config, result = sent
    spoil(result)
    with pytest.raises(cluster.ClusterError, match=said):
        cluster.keep(config, result, tmp_path)
    assert not config.run_directory(tmp_path).exists()


def test_a_worker_with_other_settings_is_told_apart(sent, tmp_path):
    config, result = sent
    with pytest.raises(cluster.ClusterError, match="other settings"):
        cluster.keep(dataclasses.replace(config, learning_rate=0.5), result, tmp_path)


def test_without_a_scheduler_the_message_says_what_to_start(tiny_corpus, tmp_path, monkeypatch):
    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: real(address, timeout=1))
    with pytest.raises(cluster.ClusterError, match="dask scheduler"):
        cluster.train(CONFIGS, tiny_corpus, "tcp://127.0.0.1:9", tmp_path, progress=False)
