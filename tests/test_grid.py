import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pytest
import work

from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.paths import ROOT
from ser_utils.training import frontend, grid, runs

CONFIGS = [RunConfig("smoke", "synthetic", protocol, "alexnet", 0, epochs=4) for protocol in ("random", "actors")]


@pytest.fixture(autouse=True)
def children_find_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(ROOT)]))


def worse(how, number=0):
    return dataclasses.replace(CONFIGS[number], variant=how)


def finished(root):
    return sorted(str(path.parent.relative_to(root)) for path in root.glob("**/fold*/run.json"))


def test_the_order_makes_partial_results_useful():
    names = [c.name for c in grid.order(configuration.run_configs("full", "ravdess"))]
    assert len(set(names)) == 126
    assert {name.split("/")[2] for name in names[:14]} == {"fold0"}
    assert names[:2] == [f"{protocol}/inceptionnet/fold0" for protocol in ("actors", "random")]
    assert names[13] == "random/resnet/fold0"
    assert all(name.startswith("twins") for name in names[84:])


def test_what_is_missing_is_trained_in_processes_of_its_own_and_what_fails_is_named(
        tiny_store, tmp_path, monkeypatch, capsys):
    other = dataclasses.replace(CONFIGS[0], fold=1, features=configuration.FeatureConfig(n_mels=40))
    stores = {CONFIGS[0].features: tiny_store, other.features: tmp_path / "nowhere.npz"}
    with pytest.raises(grid.GridError) as failure:
        grid.train([worse("fails"), worse("dies", 1), worse("busy"), other, *CONFIGS], stores, tmp_path, jobs=2,
                   work=work.run)
    assert "6 runs" in capsys.readouterr().out
    for said in ("3 runs failed", "no such network", "dies/actors/alexnet/fold0 (killed by signal 9", "nowhere.npz"):
        assert said in str(failure.value)
    names = [f"synthetic-smoke/{protocol}/alexnet/fold0" for protocol in ("actors", "random")]
    assert finished(tmp_path) == [f"busy/{names[1]}", *names]  # busy: under way elsewhere, and waited for
    assert len({path.read_text() for path in tmp_path.rglob("pid")} | {str(os.getpid())}) == 4
    state = CONFIGS[0].run_directory(tmp_path) / runs.STATE
    state.touch()
    monkeypatch.setattr(grid, "Processes", lambda *a: pytest.fail("started a process"))
    grid.train(CONFIGS, stores, tmp_path, work=work.run)
    assert not state.exists()


def test_a_budget_stops_what_is_under_way_and_starts_nothing_when_it_is_over(tiny_store, tmp_path, monkeypatch):
    began = time.monotonic()
    grid.train([worse("long")], tiny_store, tmp_path, budget=2, work=work.run, progress=False)
    assert time.monotonic() - began < 60 and finished(tmp_path) == []
    monkeypatch.setattr(grid, "Processes", lambda *a: pytest.fail("started a process"))
    grid.train(CONFIGS, tiny_store, tmp_path, budget=0, work=work.run, progress=False)


def test_the_command_line_trains_what_is_missing_and_lists_all(tiny_store, tmp_path, monkeypatch, capsys):
    one, other = configuration.run_configs("smoke", "synthetic", ["lstm", "vgg16"])
    for config, held in ((one, one), (other, dataclasses.replace(other, epochs=1))):  # published with other settings
        made = work.run(config, None, tmp_path / "made")
        runs.copy(made.dir, tmp_path / "results" / config.place)
        (tmp_path / "results" / config.place / "run.json").write_text(f'{{"config_hash": "{held.hash}"}}')
    trained = []
    monkeypatch.setattr(grid, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(grid, "train", lambda configs, *args, **options: trained.extend(c.model for c in configs))
    words = ["--profile", "smoke", "--features", str(tiny_store), "--runs", str(tmp_path), "--models", "lstm", "vgg16"]
    assert grid.main([*words, "--missing"]) == 0 and trained == ["vgg16"]
    assert "1 of 2 runs are finished" in capsys.readouterr().out
    assert grid.main([*words, "--seeds", "1"]) == 0 and "fold0-seed1" in capsys.readouterr().out
    assert grid.main([*words, "--learns", "distilled"]) == 1
    assert "7 of the networks that should teach are not trained" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        grid.main([*words, "--jobs", "0"])
    assert grid.main([*words, "gru"]) == 1 and "Unknown model 'gru'" in capsys.readouterr().err


def test_a_machine_without_audio_libraries_or_tensorflow_trains_from_a_file_of_features(tiny_store, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("librosa", "soundfile", "soxr", "tensorflow", "numba", "matplotlib", "seaborn",
                                  "statsmodels", "optuna", "pooch", "distributed", "IPython", "papermill"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, Block())
""")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "KERAS_BACKEND": "jax",
                                "JAX_PLATFORMS": "cpu"}

    def call(*words):
        return subprocess.run([sys.executable, *words], env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert "blocked" in call("-c", "import librosa").stderr
    words = ("-m", "ser_utils.training.grid", "--profile", "smoke", "--models", "alexnet", "--runs", "there",
             "--features", str(tiny_store))
    done = call(*words)
    assert done.returncode == 0 and "1 of 1 runs are finished" in done.stdout, done.stdout + done.stderr
    config, = configuration.run_configs("smoke", "synthetic", ["alexnet"])
    run = runs.Run(config.run_directory(tmp_path / "there"))
    assert runs.is_finished(config, tmp_path / "there") and run.info["backend"] == "jax"
    assert runs.read(run.dir)["epochs"] == config.epochs
    assert frontend.load(run.dir).input_shape == (None, config.frames, config.features.n_mels)


def test_a_cluster_trains_the_same_runs_even_if_a_worker_is_lost_and_stops_when_told(tiny_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where workers keep their scratch
    monkeypatch.setattr(grid, "RETRIES", 1)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, resources={"GPU": 1}, host="127.0.0.1",
                                  dashboard_address=None) as cluster:
        train = functools.partial(grid.train, root=tmp_path, work=work.run, progress=False,
                                  scheduler=cluster.scheduler_address)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        with pytest.raises(grid.GridError, match="1 runs failed(.|\n)*fails/random/alexnet/fold0(.|\n)*no such netw"):
            train([*CONFIGS, worse("fails")], tiny_store)
        names = {path.name for path in CONFIGS[0].run_directory(tmp_path).iterdir()}
        assert len(finished(tmp_path)) == 2 and names >= {runs.WEIGHTS, *runs.FILES, "train.log"}
        train([worse("long")], tiny_store, budget=4)
        pids = [path.read_text() for path in tmp_path.rglob("pid")]
        assert not any(Path("/proc", pid).exists() for pid in pids) and len(finished(tmp_path)) == 2


def test_without_a_scheduler_the_message_says_what_to_start(tiny_store, tmp_path, monkeypatch):
    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: real(address, timeout=1))
    with pytest.raises(OSError, match="dask scheduler"):
        grid.train(CONFIGS, tiny_store, tmp_path, progress=False, scheduler="tcp://127.0.0.1:9")
