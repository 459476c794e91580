import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec

import filelock
import numpy as np
import pandas as pd
import pytest

from ser_utils import PROTOCOLS, config
from ser_utils.data import corpus, folds, ravdess
from ser_utils.evaluation import metrics as evaluation
from ser_utils.features import spectral as features
from ser_utils.paths import ROOT
from ser_utils.training import bundle, frontend, runs
from ser_utils.training import fit as training

ABSENT = """librosa soundfile soxr numba matplotlib seaborn sklearn joblib threadpoolctl pooch IPython papermill
nbformat jupyterlab""".split()  # what a machine that only trains need not have
CLIPS = ravdess.speech_names()
jax_too = pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")


# -------------------------------------------------------------------------------------- made-up runs


def smoke(model="lstm", fold=0, **changes) -> config.RunConfig:
    return dataclasses.replace(config.run_configs("smoke", "synthetic", [model], ["actors"], [fold])[0], **changes)


def finish(c, runs, seed=0):
    """Write a finished run of a configuration as training does, with made-up probabilities; returns its folder."""
    rng = np.random.default_rng([seed, c.fold])
    rows, tables = folds.split(pd.DataFrame({"clip": CLIPS}), c.protocol, c.fold), []
    for subset in ("val", "test"):
        clips = [CLIPS[row] for row in rows[subset]]
        values = rng.dirichlet(np.ones(8), len(clips)).round(5)
        table = pd.DataFrame({"clip": clips, "subset": subset, "label": [int(clip[6:8]) - 1 for clip in clips]})
        tables.append(table.join(pd.DataFrame(values, columns=evaluation.PROBABILITIES)))
    folder = c.run_directory(runs)
    folder.mkdir(parents=True)
    pd.concat(tables).to_csv(folder / "predictions.csv", index=False)
    pd.DataFrame([[1, 2.0, 0.1, 2.0, 0.1, 1e-3]], columns=runs.HISTORY_COLUMNS).to_csv(
        folder / "history.csv", index=False)
    info = dict.fromkeys(runs.RUN_KEYS, 1) | {
        key: getattr(c, key) for key in ("model", "protocol", "fold", "seed", "profile", "corpus")} | {
        "config": dataclasses.asdict(c), "config_hash": c.hash, "metrics": {
            table.subset[0]: evaluation.metrics(table.label, table[evaluation.PROBABILITIES].to_numpy())
            for table in tables}}
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def state(c, runs, epochs, size=1000):
    """Write a saved state after some epochs."""
    folder = c.run_directory(runs)
    folder.mkdir(parents=True, exist_ok=True)
    note = {"hash": c.hash, "rows": [{"epoch": n + 1} for n in range(epochs)]}
    np.savez(folder / "state.npz", note=np.array(json.dumps(note)),
             values=np.random.default_rng(epochs).bytes(size))
    return folder / "state.npz"


def contents(path):
    with zipfile.ZipFile(path) as part:
        return {name: part.read(name) for name in part.namelist()}


def write(path, files):
    with zipfile.ZipFile(path, "w") as part:
        for name, data in files.items():
            part.writestr(name, data)
    return path


@pytest.fixture
def sent(tmp_path):
    """An archive of one finished run and the state of another, as they come from the other machine."""
    there = tmp_path / "there"
    finish(smoke("lstm"), there)
    state(smoke("vgg16"), there, epochs=1)
    return bundle.archive([smoke("lstm"), smoke("vgg16")], CLIPS, there, tmp_path / "out")[0]


# ----------------------------------------------------------------------------------------------- pack


@pytest.fixture(scope="module")
def packed(tiny_corpus, tmp_path_factory):
    """The bundle of the tiny synthetic corpus: (archive, folder it is unpacked to)."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ser_utils.data.corpus.for_profile", lambda profile: tiny_corpus)
        patch.setattr(features, "extract", functools.partial(features.extract, folder=folder, progress=False))
        finish(smoke("resnet"), folder / "runs")
        state(smoke("alexnet", fold=3), folder / "runs", epochs=1)
        state(smoke("alexnet", fold=4, epochs=9), folder / "runs", epochs=1)
        archive = bundle.pack("smoke", folder / "bundle.tar.gz", folder / "runs", folder / "wheels")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return archive, folder / "bundle"


@pytest.fixture
def packing(packed, tiny_corpus, monkeypatch):
    """`pack` takes the tiny corpus, whose features are there already."""
    monkeypatch.setattr("ser_utils.data.corpus.for_profile", lambda profile: tiny_corpus)
    monkeypatch.setattr(features, "extract",
                        functools.partial(features.extract, folder=packed[1].parent, progress=False))


def test_a_bundle_holds_code_names_and_features_but_no_audio(packed, tiny_corpus):
    archive, root = packed
    assert archive.stat().st_size < 48 * 2**20
    suffixes = {path.suffix for path in root.rglob("*") if path.is_file()}
    assert suffixes == {".py", ".csv", ".txt", ".npz", ".json"}
    note = bundle.read(root)
    assert note["features_hash"] == config.PROFILES["smoke"].features.hash and note["step_db"] == features.STEP_DB
    assert set(note["files"]) | {"bundle.json", "runs/synthetic-smoke/actors/alexnet/fold3/state.npz"} == {
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    index = corpus.at(root / bundle.CORPUS, "synthetic").index
    pd.testing.assert_frame_equal(index, tiny_corpus.index.drop(columns="path"))


def test_a_bundle_knows_what_is_finished_and_brings_states_of_today(packed):
    note = bundle.read(packed[1])
    assert note["finished"] == {"actors/resnet/fold0": smoke("resnet").hash}
    states = [path.parent.name for path in packed[1].rglob("state.npz")]
    assert states == ["fold3"]  # that of fold 4 has other settings


def test_what_is_published_is_not_trained_there_if_asked(packing, tmp_path, monkeypatch):
    from ser_utils.studies import ablation as studies

    monkeypatch.setattr(bundle.paths, "RESULTS", tmp_path / "results")
    variant = studies.run_configs("canonical", "smoke", "synthetic", ["alexnet"], ["stem"])["stem"][0]
    for c, place in ((smoke("vgg16"), "actors/vgg16/fold0"), (smoke("lstm", epochs=9), "actors/lstm/fold0"),
                     (variant, "studies/canonical/stem/actors/alexnet/fold0")):
        finish(c, tmp_path / "there")
        os.renames(c.run_directory(tmp_path / "there"), tmp_path / "results" / place)
    words = ["pack", "--profile", "smoke", "--to", str(tmp_path / "b.tar.gz"), "--wheels", str(tmp_path),
             "--runs", str(tmp_path / "none")]

    def finished(*more):
        assert bundle.main([*words, *more]) == 0
        with tarfile.open(tmp_path / "b.tar.gz") as archive:
            return json.load(archive.extractfile("bundle/bundle.json"))["finished"]

    assert finished() == {}
    assert finished("--missing") == {  # the published LSTM has other settings
        "actors/vgg16/fold0": smoke("vgg16").hash, "studies/canonical/stem/actors/alexnet/fold0": variant.hash}


def test_wheels_come_along_and_a_bundle_that_is_too_large_is_refused(packing, tmp_path, monkeypatch):
    (tmp_path / "one.whl").write_bytes(np.random.default_rng(0).bytes(2**20))
    state(smoke(), tmp_path / "runs", epochs=1, size=10**7)
    archive = bundle.pack("smoke", tmp_path / "bundle.tar.gz", tmp_path / "runs", tmp_path, limit_mb=8)
    with tarfile.open(archive) as tar:
        assert "bundle/wheels/one.whl" in tar.getnames()
        assert not [name for name in tar.getnames() if name.endswith("state.npz")]  # no room for 10 MB
    with pytest.raises(bundle.BundleError, match="1.0 MB wheels"):
        bundle.pack("smoke", tmp_path / "small.tar.gz", tmp_path / "runs", tmp_path, limit_mb=1.5)
    assert not (tmp_path / "small.tar.gz").exists()


def test_a_damaged_bundle_and_a_checkout_are_refused(packed, tmp_path):
    with pytest.raises(bundle.BundleError, match="no unpacked bundle"):
        bundle.read(tmp_path)
    (tmp_path / "bundle.json").write_text(json.dumps({"files": {"a.py": bundle.sha256(b"1")}}))
    (tmp_path / "a.py").write_bytes(b"2")
    with pytest.raises(bundle.BundleError, match=r"a.py is missing or differs"):
        bundle.read(tmp_path)


def test_the_requirements_are_what_training_needs_beyond_jax_and_no_more():
    lines = (ROOT / "requirements-gpu.txt").read_text().splitlines()
    listed = {re.split("[=>]", line)[0] for line in lines if line and not line.startswith("#")}
    with_jax = {"jax", "jaxlib", "numpy", "scipy", "ml-dtypes", "opt-einsum"}
    needed, todo = set(), ["keras", "pandas", "filelock", "tqdm"]
    while todo:
        name = todo.pop()
        if name not in needed | with_jax:
            needed.add(name)
            todo += [re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
                     for requirement in importlib.metadata.requires(name) or []
                     if "extra ==" not in requirement and "win32" not in requirement and "Windows" not in requirement]
    assert listed == needed
    assert {line for line in lines if line.startswith("keras")} <= set(
        (ROOT / "requirements.txt").read_text().splitlines())


# ------------------------------------------------------------------------------------------------ run


def test_settings_for_runs_side_by_side(monkeypatch, tmp_path):
    for name in ("KERAS_BACKEND", "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION",
                 "XLA_CLIENT_MEM_FRACTION", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    alone, four = bundle.environment(1, tmp_path), bundle.environment(4, tmp_path)
    assert alone["KERAS_BACKEND"] == "jax" and "XLA_PYTHON_CLIENT_PREALLOCATE" not in alone
    assert four["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert 4 * float(four["XLA_PYTHON_CLIENT_MEM_FRACTION"]) <= 0.95
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.1")
    assert not {"KERAS_BACKEND", "XLA_PYTHON_CLIENT_MEM_FRACTION"} & set(bundle.environment(4, tmp_path))


@pytest.fixture
def unpacked(packed, monkeypatch, tmp_path):
    """The unpacked bundle's folder, this process's settings safe from what `run` sets."""
    monkeypatch.setattr(os, "environ", os.environ | {"KERAS_BACKEND": training.keras.backend.backend()})
    return packed[1]


def test_what_is_finished_here_is_not_trained_there(unpacked, tmp_path, monkeypatch):
    from ser_utils.training import grid

    def train(configs, found, root, jobs, budget):
        trained.extend(c.name for c in configs)
        assert found.packed and jobs == 2 and 80 <= budget <= 90
        finish(configs[0], tmp_path)
        os.renames(configs[0].run_directory(tmp_path), configs[0].run_directory(root))
        raise grid.GridError("one run failed")

    trained = []
    monkeypatch.setattr(grid, "train", train)
    with pytest.raises(grid.GridError):
        bundle.run(tmp_path / "out", ["resnet"], folds=[0, 1], budget=100, jobs=2, root=unpacked)
    assert trained == ["actors/resnet/fold1"]
    found = contents(tmp_path / "out" / "runs-1of1.zip")  # written although one run failed
    assert set(json.loads(found["manifest.json"])["runs"]) == {"actors/resnet/fold1"}


def test_a_study_is_trained_there_and_comes_home(unpacked, tmp_path, monkeypatch):
    from ser_utils.studies import ablation as studies
    from ser_utils.training import grid

    def train(configs, found, root, jobs, budget):
        trained.extend(c.name for c in configs)
        finish(configs[1], tmp_path)
        os.renames(configs[1].run_directory(tmp_path), configs[1].run_directory(root))

    trained = []
    monkeypatch.setattr(grid, "train", train)
    written = bundle.run(tmp_path / "out", ["alexnet"], study="canonical", variants=["stem"], root=unpacked)
    variant = "studies/canonical/stem/actors/alexnet/fold0"
    assert trained == ["actors/alexnet/fold0", variant]
    assert set(json.loads(contents(written[0])["manifest.json"])["runs"]) == {variant}
    config = studies.run_configs("canonical", "smoke", "synthetic", ["alexnet"], ["stem"])["stem"][0]
    finish(config, tmp_path)
    written = bundle.archive([config], CLIPS, tmp_path, tmp_path / "out")  # of the whole corpus
    assert bundle.collect(written, tmp_path / "home") == {variant: "new"}
    assert (tmp_path / "home/studies/canonical/stem/synthetic-smoke/actors/alexnet/fold0/run.json").exists()
    with pytest.raises(ValueError, match="Unknown study 'luck'"):
        bundle.run(tmp_path / "out", study="luck", root=unpacked)


def test_variants_of_other_features_are_left_out_of_a_bundle(unpacked, tmp_path, monkeypatch, capsys):
    from ser_utils.studies import ablation as studies
    from ser_utils.training import grid

    finer = studies.Change({"features": {"n_mels": 128}}, "80 bands, not 128", "fewer")
    monkeypatch.setitem(studies.STUDIES, "made up", {"alexnet": {"finer": finer}})
    trained = []
    monkeypatch.setattr(grid, "train", lambda configs, *args, **kwargs: trained.extend(c.name for c in configs))
    bundle.run(tmp_path / "out", ["alexnet"], study="made up", root=unpacked)
    assert trained == ["actors/alexnet/fold0"]
    assert "need other features than the bundle holds: studies/made up/finer/actors/alexnet/fold0" in (
        capsys.readouterr().out)


def test_a_missing_package_is_named_before_anything_starts(unpacked, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(bundle.BundleError, match=r"Not installed here: no_such_package.*\n?.*pip install --no-index"):
        bundle.run(tmp_path, root=unpacked)


def bare(tmp_path, backend) -> dict[str, str]:
    """The environment of a machine with one backend and without all that training must not need."""
    absent = ABSENT + (["tensorflow", "requests"] if backend == "jax" else ["jax"])
    (tmp_path / "sitecustomize.py").write_text(f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked)", name=name)
sys.meta_path.insert(0, Block())
""")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=jax_too)])
def test_a_bundle_trains_where_there_is_no_audio_library_and_its_runs_come_home(packed, tmp_path, backend):
    environment = bare(tmp_path, backend)
    with tarfile.open(packed[0]) as tar:
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / "bundle"

    def call(*words):
        return subprocess.run([sys.executable, *words], env=environment, cwd=root, capture_output=True, text=True)

    assert "blocked" in call("-c", "import librosa").stderr
    train = ("-m", "ser_utils.training.bundle", "run", "--models", "alexnet", "--folds", "0", "--weights", "--jobs", "2",
             "--out", str(tmp_path / "out"))
    done = call(*train)
    assert done.returncode == 0 and "1 of 1 runs are finished" in done.stdout, done.stdout + done.stderr
    again = call(*train)
    assert again.returncode == 0 and "to train" not in again.stdout, again.stdout + again.stderr

    outcome = bundle.collect(list((tmp_path / "out").iterdir()), tmp_path / "home")
    assert outcome == {"actors/alexnet/fold0": "new"}
    c = smoke("alexnet")
    assert runs.is_finished(c, tmp_path / "home")  # the same hash, whichever machine trained
    run = runs.Run(c.run_directory(tmp_path / "home"))
    runs.read(run.dir)
    assert run.info["backend"] == backend and run.info["revision"] == bundle.read(root)["revision"]
    assert set(run.info["metrics"]["test"]) == set(evaluation.METRICS) and len(run.history) == c.epochs
    assert {path.name for path in run.dir.iterdir()} == {*bundle.RESULTS, "model.keras", ".lock"}
    assert run.model().input_shape == (None, c.frames, c.features.n_mels)


# ------------------------------------------------------------------------ quantisation and backends


def frozen(c):
    """A network with made-up weights, in float32, whose answers differ from clip to clip."""
    training.keras.config.set_dtype_policy("float32")
    model = frontend.assemble(c, np.full(80, -45.0), np.full(80, 12.0))
    rng = np.random.default_rng(1)
    for weight in model.get_layer(c.model).weights:
        if not weight.dtype.startswith("float"):
            continue  # states of random generators
        if any(word in weight.name for word in ("gamma", "variance")):
            values = rng.uniform(0.7, 1.3, weight.shape)
        elif len(weight.shape) > 1:
            values = rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
        else:
            values = rng.normal(0, 0.1, weight.shape)
        weight.assign(values * (3 if "predictions" in weight.path else 1))
    return model


@pytest.fixture(scope="module")
def logmels(tiny_corpus, packed):
    """Log-mels of the tiny corpus as training gets them: exact, and from a bundle."""
    c = smoke()
    exact = features.extract(tiny_corpus, c.features, packed[1].parent, progress=False)
    there = features.unpack(packed[1] / bundle.CORPUS / features.PACKED, c.features)
    return [features.fit_length(store.logmel, store.lengths, c.frames) for store in (exact, there)]


@pytest.mark.parametrize("model", ["alexnet", "lstm", "transformer"])
def test_packed_features_do_not_move_probabilities_or_metrics(logmels, tiny_corpus, model):
    network = frozen(smoke(model))
    exact, there = (training.probabilities(network, x) for x in logmels)
    assert exact.std(axis=0).max() > 0.02  # the network tells clips apart
    np.testing.assert_allclose(there, exact, atol=2e-3)
    labels = tiny_corpus.index.label.to_numpy()
    one, two = (evaluation.metrics(labels, p) for p in (exact, there))
    assert one == pytest.approx(two, abs=1.01 / len(labels))


def answers(folder):
    """Load the seven saved networks and write what they answer; for another process and backend."""
    x = np.load(f"{folder}/x.npy")
    training.keras.config.set_dtype_policy("float32")
    found = {name: training.probabilities(training.keras.saving.load_model(f"{folder}/{name}.keras", compile=False), x)
             for name in config.MODEL_NAMES}
    np.savez(f"{folder}/answers.npz", backend=training.keras.backend.backend(), **found)


@jax_too
def test_tensorflow_and_jax_agree_on_every_network(logmels, tmp_path):
    here = training.keras.backend.backend()
    other = "tensorflow" if here == "jax" else "jax"
    x, expected = logmels[0][:48], {}
    np.save(tmp_path / "x.npy", x)
    for name in config.MODEL_NAMES:
        network = frozen(smoke(name))
        expected[name] = training.probabilities(network, x)
        network.save(tmp_path / f"{name}.keras")
    done = subprocess.run([sys.executable, "-c", f"import test_bundle; test_bundle.answers({str(tmp_path)!r})"],
                          env=os.environ | {"KERAS_BACKEND": other, "JAX_PLATFORMS": "cpu"}, cwd=ROOT / "tests",
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "answers.npz") as found:
        assert str(found["backend"]) == other
        for name in config.MODEL_NAMES:
            assert expected[name].std(axis=0).max() > 0.01, name  # not the same answer for every clip
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


def begin(folder):
    """Train the first epoch of a run on a packed corpus and stop; for another process and backend."""
    def stop(row):
        raise KeyboardInterrupt

    c, found = small(), corpus.at(folder, "synthetic")
    with pytest.raises(KeyboardInterrupt):
        training.run(c, found, features.extract(found, c.features), root=folder, progress=False, on_epoch=stop)


def small():
    return smoke("alexnet", features=config.FeatureConfig(n_mels=16, n_mfcc=4), frames=40, pool=1, ema=0.9)


@jax_too
def test_a_run_begun_on_one_backend_is_finished_on_the_other(made_up, tmp_path):
    here = training.keras.backend.backend()
    features.pack(made_up[1], tmp_path / features.PACKED)
    made_up[0].index.to_csv(tmp_path / corpus.INDEX, index=False)
    done = subprocess.run([sys.executable, "-c", f"import test_bundle; test_bundle.begin({str(tmp_path)!r})"],
                          env=os.environ | {"KERAS_BACKEND": "tensorflow" if here == "jax" else "jax",
                                            "JAX_PLATFORMS": "cpu"}, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    note, _ = training.read_state(small().run_directory(tmp_path) / "state.npz")
    run = training.run(small(), *made_up, root=tmp_path, progress=False)
    assert run.info["backend"] == here and len(run.history) == 2
    assert run.history.iloc[0].to_dict() == note["rows"][0]
    assert run.history.learning_rate[0] > 0 and run.history.learning_rate[1] == 0  # the schedule went on


# -------------------------------------------------------------------------------------------- archive


def test_parts_are_small_and_join_again(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "PART", 50_000)
    configs = [smoke(fold=fold) for fold in range(3)]
    for c in configs[:2]:
        finish(c, tmp_path / "there")
        (c.run_directory(tmp_path / "there") / "model.keras").write_bytes(np.random.default_rng(0).bytes(60_000))
    state(configs[2], tmp_path / "there", 1, size=30_000)
    parts = bundle.archive(configs, CLIPS, tmp_path / "there", tmp_path / "out", weights=True, limit_mb=0.38)
    assert 4 <= len(parts) <= bundle.PARTS and parts[0].name == f"runs-1of{len(parts)}.zip"
    assert bundle.collect(parts[::-1], tmp_path / "here") == {
        c.name: what for c, what in zip(configs, ["new", "new", "goes on here after epoch 1 of 2"], strict=True)}
    for c, name in zip([*configs, configs[0]], [*["model.keras"] * 2, "state.npz", "predictions.csv"], strict=True):
        one, two = (c.run_directory(tmp_path / side) / name for side in ("there", "here"))
        assert one.read_bytes() == two.read_bytes()


def test_what_does_not_fit_is_left_out_and_named(tmp_path, capsys):
    finish(smoke(), tmp_path / "there")
    state(smoke("alexnet"), tmp_path / "there", 1, size=2**20)
    parts = bundle.archive([smoke(), smoke("alexnet")], CLIPS, tmp_path / "there", tmp_path / "out", limit_mb=0.5)
    assert set(json.loads(contents(parts[0])["manifest.json"])["runs"]) == {"actors/lstm/fold0"}
    assert "state.npz of actors/alexnet/fold0, 1.0 MB" in capsys.readouterr().out
    with pytest.raises(bundle.BundleError, match="120 at most"):
        bundle.archive([smoke()], CLIPS, tmp_path / "there", tmp_path / "out", limit_mb=200)


def test_nothing_finished_writes_nothing(tmp_path):
    assert bundle.archive([smoke()], CLIPS, tmp_path, tmp_path / "out") == []
    assert bundle.archive([], CLIPS, tmp_path, tmp_path / "out") == []


# -------------------------------------------------------------------------------------------- collect


def test_runs_come_home_once(sent, tmp_path):
    here = tmp_path / "here"
    assert bundle.collect([sent], here) == {"actors/lstm/fold0": "new",
                                            "actors/vgg16/fold0": "goes on here after epoch 1 of 2"}
    assert smoke().is_finished(here) and not smoke("vgg16").is_finished(here)
    assert [path for path in here.iterdir() if path.name.startswith(".")] == []
    second = bundle.collect([sent, sent], here)
    assert second == {"actors/lstm/fold0": "here already",
                      "actors/vgg16/fold0": "its saved state here is as far (1 epochs)"}


def test_a_finished_run_is_never_overwritten(sent, tmp_path):
    folder = finish(smoke(), tmp_path / "here", seed=5)
    before = (folder / "predictions.csv").read_bytes()
    outcome = bundle.collect([sent], tmp_path / "here")
    assert outcome["actors/lstm/fold0"].startswith("not taken: another finished run")
    assert (folder / "predictions.csv").read_bytes() == before


def test_a_run_of_other_settings_is_kept_beside_the_new_one(sent, tmp_path):
    old = smoke(epochs=7)
    finish(old, tmp_path / "here")
    assert bundle.collect([sent], tmp_path / "here")["actors/lstm/fold0"] == "new"
    aside = smoke().run_directory(tmp_path / "here").with_name(f"fold0-{old.hash}")
    assert json.loads((aside / "run.json").read_text())["config_hash"] == old.hash


def test_a_state_with_more_epochs_and_a_finished_run_win(sent, tmp_path):
    here = tmp_path / "here"
    state(smoke(), here, epochs=1)
    further = state(smoke("vgg16"), here, epochs=2)
    before = further.read_bytes()
    assert bundle.collect([sent], here)["actors/vgg16/fold0"].startswith("its saved state here is as far")
    assert further.read_bytes() == before
    assert smoke().is_finished(here) and not (smoke().run_directory(here) / "state.npz").exists()
    (smoke("vgg16").run_directory(here) / "state.npz").unlink()
    finish(smoke("vgg16"), tmp_path)
    os.replace(smoke("vgg16").run_directory(tmp_path) / "run.json", further.with_name("run.json"))
    assert bundle.collect([sent], here)["actors/vgg16/fold0"].startswith("finished here already")


def test_a_run_under_way_here_is_left_alone(sent, tmp_path):
    folder = smoke().run_directory(tmp_path / "here")
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock"):
        outcome = bundle.collect([sent], tmp_path / "here")
    assert outcome["actors/lstm/fold0"].startswith("not taken: it is being trained")


def test_runs_of_settings_that_have_changed_are_not_taken(tmp_path):
    changed = smoke(epochs=7)
    finish(changed, tmp_path / "there")
    [part] = bundle.archive([changed], CLIPS, tmp_path / "there", tmp_path)
    outcome = bundle.collect([part], tmp_path / "here")
    assert "other settings" in outcome["actors/lstm/fold0"] and not changed.run_directory(tmp_path / "here").exists()


def test_a_part_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "PART", 30_000)
    finish(smoke(), tmp_path / "there")
    parts = bundle.archive([smoke()], CLIPS, tmp_path / "there", tmp_path, limit_mb=0.1)
    assert len(parts) == 2
    assert "collect all parts at once" in bundle.collect(parts[:1], tmp_path / "here")["actors/lstm/fold0"]
    assert not smoke().is_finished(tmp_path / "here")


def refused(path, tmp_path, words, good=None):
    """The archive is refused with these words, and nothing of it or of a good one beside it is merged."""
    with pytest.raises(bundle.BundleError, match=words):
        bundle.collect([*([good] if good else []), path], tmp_path / "here")
    assert not (tmp_path / "here").exists() or list((tmp_path / "here").iterdir()) == []


def test_damaged_archives_are_refused(sent, tmp_path):
    data = sent.read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(data[: len(data) // 2])
    refused(cut, tmp_path, "cut.zip is damaged", good=sent)
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 0xFF
    cut.write_bytes(flipped)
    refused(cut, tmp_path, "cut.zip is damaged")
    refused(tmp_path / "none.zip", tmp_path, "There is no file")


def test_a_file_that_differs_from_its_checksum_is_refused(sent, tmp_path):
    files = contents(sent)
    files["actors/lstm/fold0/history.csv.0"] = files["actors/lstm/fold0/history.csv.0"].replace(b"2.0", b"1.0")
    refused(write(tmp_path / "a.zip", files), tmp_path, "history.csv of actors/lstm/fold0 differs from its checksum")


@pytest.mark.parametrize("name", ["../../evil.py", "/etc/evil", "actors/lstm/fold0/../../x.csv.0",
                                  "actors/lstm/fold0/train.py.0", "..\\evil"])
def test_names_that_no_run_has_are_refused(sent, tmp_path, name):
    refused(write(tmp_path / "a.zip", contents(sent) | {name: b"1"}), tmp_path, "which no archive of runs holds")
    manifest = json.loads(contents(sent)["manifest.json"])
    manifest["runs"][name] = manifest["runs"]["actors/lstm/fold0"]
    listed = contents(sent) | {"manifest.json": json.dumps(manifest)}
    refused(write(tmp_path / "b.zip", listed), tmp_path, "which no archive of runs holds")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("change", [{"corpus": "../../elsewhere"}, {"profile": "huge"}, {"runs": {"a": 1}},
                                    {"clips": []}])
def test_foreign_archives_are_refused(sent, tmp_path, change):
    manifest = json.loads(contents(sent)["manifest.json"])
    foreign = contents(sent) | {"manifest.json": json.dumps(manifest | change)}
    refused(write(tmp_path / "a.zip", foreign), tmp_path, "is no archive of runs")
    refused(write(tmp_path / "b.zip", {"readme.txt": b"1"}), tmp_path, "is no archive of runs")
    other = contents(sent) | {"manifest.json": json.dumps(manifest | {"format": "ser-runs-9"})}
    refused(write(tmp_path / "c.zip", other), tmp_path, "'ser-runs-9'")


def forged(tmp_path, spoil):
    """An archive, checksums and all, of a run that was spoilt before it was packed."""
    folder = finish(smoke(), tmp_path / "there")
    spoil(folder)
    return bundle.archive([smoke()], CLIPS, tmp_path / "there", tmp_path)[0]


def test_predictions_of_other_clips_are_refused(tmp_path):
    def other_fold(folder):
        other = finish(smoke(fold=1), tmp_path / "other")
        info = json.loads((folder / "run.json").read_text())
        info["metrics"] = json.loads((other / "run.json").read_text())["metrics"]
        (folder / "run.json").write_text(json.dumps(info))
        os.replace(other / "predictions.csv", folder / "predictions.csv")

    refused(forged(tmp_path, other_fold), tmp_path, "val predictions are not those of the fold's 240 clips")


def test_labels_and_metrics_that_contradict_are_refused(tmp_path):
    def wrong_label(folder):
        table = pd.read_csv(folder / "predictions.csv")
        table.loc[0, "label"] = (table.label[0] + 1) % 8
        table.to_csv(folder / "predictions.csv", index=False)

    refused(forged(tmp_path, wrong_label), tmp_path, "which its name contradicts")


@pytest.mark.parametrize("change", [{"config_hash": "0" * 12}, {"corpus": "ravdess"}, {"config": {}},
                                    {"metrics": {"val": dict.fromkeys(evaluation.METRICS, 0.99),
                                                 "test": dict.fromkeys(evaluation.METRICS, 0.99)}}])
def test_a_run_json_that_contradicts_is_refused(sent, tmp_path, change):
    files = contents(sent)
    name = "actors/lstm/fold0/run.json.0"
    files[name] = json.dumps(json.loads(files[name]) | change).encode()
    manifest = json.loads(files["manifest.json"])
    manifest["runs"]["actors/lstm/fold0"]["files"]["run.json"] = {
        "sha256": bundle.sha256(files[name]), "size": len(files[name])}
    files["manifest.json"] = json.dumps(manifest)
    refused(write(tmp_path / "a.zip", files), tmp_path, "actors/lstm/fold0 cannot be taken over")


def test_full_runs_must_cover_the_whole_corpus(tmp_path):
    c = config.run_configs("full", "ravdess", ["lstm"], ["random"], [2])[0]
    finish(c, tmp_path / "there")
    [part] = bundle.archive([c], CLIPS[:-1], tmp_path / "there", tmp_path)
    refused(part, tmp_path, "1,440 clips")
    [part] = bundle.archive([c], CLIPS, tmp_path / "there", tmp_path)
    assert bundle.collect([part], tmp_path / "here") == {c.name: "new"}


def test_a_state_of_other_settings_is_refused(sent, tmp_path):
    files = contents(sent)
    name = "actors/vgg16/fold0/state.npz.0"
    files[name] = state(smoke("vgg16", epochs=9), tmp_path / "other", 1).read_bytes()
    manifest = json.loads(files["manifest.json"])
    manifest["runs"]["actors/vgg16/fold0"]["files"]["state.npz"] = {
        "sha256": bundle.sha256(files[name]), "size": len(files[name])}
    files["manifest.json"] = json.dumps(manifest)
    refused(write(tmp_path / "a.zip", files), tmp_path, "state of actors/vgg16/fold0 is not one of its configuration")


# --------------------------------------------------------------------------------------- command line


def test_the_command_line_collects_and_says_what_became_of_each_run(sent, tmp_path, capsys):
    words = ["collect", str(sent), "--runs", str(tmp_path / "here")]
    assert bundle.main(words) == 0
    assert "actors/lstm/fold0: new" in capsys.readouterr().out
    (smoke().run_directory(tmp_path / "here") / "history.csv").write_text("changed")
    assert bundle.main(words) == 1 and "not taken" in capsys.readouterr().out
    sent.write_bytes(b"no zip")
    assert bundle.main(words) == 1 and "is damaged" in capsys.readouterr().err


def test_the_command_line_packs_and_refuses_to_run_in_a_checkout(packing, tmp_path, capsys):
    words = ["pack", "--profile", "smoke", "--to", str(tmp_path / "b.tar.gz"), "--wheels", str(tmp_path),
             "--runs", str(tmp_path)]
    assert bundle.main(words) == 0 and (tmp_path / "b.tar.gz").exists()
    assert "pip download --only-binary=:all:" in capsys.readouterr().out
    assert bundle.main(["run", "--out", str(tmp_path)]) == 1
    assert "no unpacked bundle" in capsys.readouterr().err


def test_every_protocol_can_be_collected():
    assert {c.protocol for c in bundle._every_run("quick", "ravdess")} == set(PROTOCOLS)
