import dataclasses
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import filelock
import keras
import numpy as np
import pytest

from ser_utils.config import PAD_DB, FeatureConfig, RunConfig
from ser_utils.data.folds import LeakError
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.paths import ROOT
from ser_utils.training import fit, frontend, runs

CONFIG = RunConfig("smoke", "synthetic", "random", "alexnet", 0, features=FeatureConfig(n_mels=16, n_mfcc=4),
                   frames=40, options={"width": 0.125, "dropout": 0.1}, epochs=4, learning_rate=5e-3,
                   warmup_epochs=1, ema=0.8)
PLAIN = dataclasses.replace(CONFIG, augment=None)
pytestmark = pytest.mark.usefixtures("quick_trainings")


@pytest.fixture(scope="module")
def finished(made_up, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    return fit.run(CONFIG, made_up, root=root, progress=False), root


def test_a_run_holds_all_that_the_results_format_asks_for(finished):
    run, root = finished
    assert run.dir == root / "synthetic-smoke" / "random" / "alexnet" / "fold0"
    assert {path.name for path in run.dir.iterdir()} - {".lock"} == {*runs.FILES, runs.WEIGHTS}  # and no state
    assert {"model", "protocol", "fold", "seed", "config", "config_hash", "features", "features_hash", "parameters",
            "epochs", "best_epoch", "metrics", "wall_seconds", "samples_per_second", "device", "backend", "versions",
            "revision"} <= set(run.info)
    assert list(run.history.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    assert len(run.history) == 4 and len(run.predictions) == 480
    assert run.predictions.groupby("subset").size().to_dict() == {"test": 240, "val": 240}
    runs.check(run.dir)  # raises where anything contradicts anything
    assert run.info["metrics"]["val"]["accuracy"] > 0.35  # it learns, and warms up
    rates = run.history.learning_rate
    assert rates[0] == pytest.approx(CONFIG.learning_rate, rel=1e-3) and rates[3] == pytest.approx(0, abs=1e-5)


def test_the_saved_model_gives_the_written_predictions_and_is_not_trained_again(finished, made_up, monkeypatch):
    run = finished[0]
    data = fit.prepare(CONFIG, made_up)
    model, clips = frontend.load(run.dir), data.logmel[data.rows["test"]]
    written = run.predictions.query("subset == 'test'")[PROBABILITIES].to_numpy()
    for number in (len(clips), 130, 7):  # any number of clips
        np.testing.assert_allclose(fit.probabilities(model, clips[:number]), written[:number], atol=2e-3)
    monkeypatch.setattr(fit, "compiled", lambda *a: pytest.fail("trained again"))
    assert fit.run(CONFIG, made_up, root=finished[1], progress=False) == run


def test_a_clip_is_judged_by_its_variants_and_the_last_epoch_kept_if_told_so(made_up, tmp_path):
    config = dataclasses.replace(CONFIG, keep="last", versions=2, epochs=3, patience=1, learning_rate=1e-9)
    run = fit.run(config, made_up, root=tmp_path, progress=False)
    runs.check(run.dir)
    assert run.info["best_epoch"] == run.info["epochs"] == 3  # no epoch is better than the first for long
    data = fit.prepare(config, made_up)
    model, clips = frontend.load(run.dir), data.logmel[data.rows["test"]]
    by_hand = np.mean([fit.probabilities(model, fit.copies([version])[0])
                       for version in model.get_layer("augment").variants(clips, 2)], axis=0)
    written = run.predictions.query("subset == 'test'")[PROBABILITIES].to_numpy()
    np.testing.assert_allclose(by_hand, written, atol=2e-3)
    np.testing.assert_allclose(fit.predict(model, clips, 2), written, atol=2e-3)
    assert np.abs(fit.probabilities(model, clips) - written).max() > 0.01


def test_a_refit_learns_from_validation_clips_too_and_is_tested_alone(made_up, tmp_path):
    config = dataclasses.replace(PLAIN, keep="last", learns="refit", epochs=2)
    ordinary, data = (fit.prepare(dataclasses.replace(config, learns=how), made_up) for how in ("train", "refit"))
    assert len(data.rows["train"]) == 1_200 and set(data.rows) == {"train", "test"}
    assert set(data.rows["train"]) == {*ordinary.rows["train"], *ordinary.rows["val"]}
    np.testing.assert_array_equal(data.rows["test"], ordinary.rows["test"])
    run = fit.run(config, made_up, root=tmp_path, progress=False)
    runs.check(run.dir)
    assert run.dir.parent.name == "alexnet_refit" and runs.read(run.dir)["model"] == "alexnet_refit"
    assert set(run.predictions.subset) == {"test"} and run.history.val_accuracy.isna().all()
    found = runs.predictions(tmp_path / "synthetic-smoke", references=True)
    assert len(found) == 240 and runs.predictions(tmp_path / "synthetic-smoke").empty  # none of the seven
    with pytest.raises(ValueError, match="set keep to"):
        fit.run(dataclasses.replace(config, keep="best"), made_up, root=tmp_path / "best", progress=False)


def test_a_network_that_ships_learns_from_all_clips_and_can_not_be_published(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "SAVE_SECONDS", 3600.0)  # a state is saved no more often than asked, and at the end
    saved = []
    monkeypatch.setattr(fit.Checkpoint, "save", lambda checkpoint: saved.append(len(checkpoint.rows)))
    config = dataclasses.replace(PLAIN, keep="last", learns="all", epochs=2)
    run = fit.run(config, made_up, root=tmp_path, progress=False)
    assert set(fit.prepare(config, made_up).rows) == {"train"} and run.info["metrics"] == {}
    assert run.history.accuracy.iloc[-1] > run.history.accuracy.iloc[0] and saved == [2]
    with pytest.raises(runs.ResultsError, match="metrics of val and test"):
        runs.check(run.dir)


def test_a_run_stopped_after_an_epoch_ends_as_if_undisturbed(finished, made_up, tmp_path):
    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit.run(CONFIG, made_up, root=tmp_path, progress=False, on_epoch=stop)
    assert runs.epochs_done(CONFIG, tmp_path) == 2 and not runs.is_finished(CONFIG, tmp_path)
    run = fit.run(CONFIG, made_up, root=tmp_path, progress=False)
    np.testing.assert_allclose(run.history.to_numpy(), finished[0].history.to_numpy(), atol=2e-3)


def test_a_full_disk_keeps_the_last_state_to_go_on_from_and_a_spoilt_one_means_training_afresh(
        made_up, tmp_path, monkeypatch, capsys):
    full = Mock(wraps=np.savez, side_effect=[DEFAULT, OSError(errno.ENOSPC, "No space left on device")])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full"):
        patch.setattr(fit.np, "savez", full)
        fit.run(PLAIN, made_up, root=tmp_path, progress=False)
    folder = PLAIN.run_directory(tmp_path)
    assert runs.epochs_done(PLAIN, tmp_path) == 1
    assert {path.name for path in folder.iterdir()} <= {"state.npz", ".lock"}
    state, said, other = (folder / "state.npz").read_bytes(), [], io.BytesIO()
    np.savez(other, **dict(np.load(folder / "state.npz")) | {"variable0": np.zeros((7, 7))})
    for kept in (state, state[:5000], other.getvalue()):
        (folder / "state.npz").write_bytes(kept)
        run = fit.run(PLAIN, made_up, root=tmp_path, progress=False)
        said.append("can't be read" in capsys.readouterr().out)
        assert len(run.history) == 4
        runs.check(run.dir)
        (folder / "run.json").unlink()
    assert said == [False, True, True]


def test_a_run_under_way_elsewhere_is_busy(made_up, tmp_path):
    folder = CONFIG.run_directory(tmp_path)
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock"), pytest.raises(runs.RunBusy, match="random/alexnet/fold0"):
        fit.run(CONFIG, made_up, root=tmp_path, progress=False)


def test_a_leaking_split_and_features_of_other_settings_or_another_corpus_are_refused(made_up, monkeypatch):
    for other in (dataclasses.replace(CONFIG, features=FeatureConfig()), dataclasses.replace(CONFIG, corpus="ravdess")):
        with pytest.raises(ValueError, match="Extract them again"):
            fit.prepare(other, made_up)
    rows = fit.split(made_up.index, "random", 0)
    leaking = rows | {"train": np.append(rows["train"], rows["test"][0])}
    monkeypatch.setattr(fit, "split", lambda *a: leaking)
    with pytest.raises(LeakError):
        fit.prepare(CONFIG, made_up)


def test_a_share_of_the_training_clips_leaves_the_others_alone(made_up):
    whole, half = (fit.prepare(dataclasses.replace(CONFIG, share=share), made_up) for share in (1.0, 0.5))
    assert len(half.rows["train"]) == len(whole.rows["train"]) // 2
    assert all(np.array_equal(half.rows[part], whole.rows[part]) for part in ("val", "test"))
    assert not set(half.rows["train"]) & set(np.concatenate([half.rows["val"], half.rows["test"]]))


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_batches_depend_on_seed_and_epoch_alone(mixup):
    x, labels = np.arange(20.0).reshape(20, 1, 1), np.arange(20) % 8
    one, two = (fit.Batches(x, labels, 6, seed=1, mixup=mixup) for _ in range(2))
    for batches, epoch in ((one, 0), (one, 4), (two, 4)):
        batches.start_epoch(epoch)
    for number in range(3):
        for mine, other in zip(one[number], two[number], strict=True):
            np.testing.assert_array_equal(mine, other)
    if not mixup:
        seen = np.concatenate([one[number][0].ravel() for number in range(len(one))])
        assert len(set(seen)) == len(seen) == 18
        assert all((clips.ravel() % 8 == answers.argmax(axis=1)).all() for clips, answers in (one[0], one[1], one[2]))
    two.start_epoch(5)
    assert not np.array_equal(one[0][0], two[0][0])


def test_every_epoch_of_a_training_gets_its_own_batches():
    class Listening(keras.Model):
        def train_step(self, *given):  # on JAX the state comes first
            seen.extend(np.array(given[-1][0]).ravel().tolist())
            return super().train_step(*given)

    seen, inputs = [], keras.Input((1, 1))
    model = Listening(inputs, keras.layers.Dense(8)(keras.layers.Flatten()(inputs)))
    model.compile("sgd", "mse", run_eagerly=True)
    batches = fit.Batches(np.arange(96.0).reshape(96, 1, 1), np.arange(96) % 8, 4, seed=0)
    start = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch))
    model.fit(batches, epochs=4, initial_epoch=2, callbacks=[start], shuffle=False, verbose=0)
    assert seen == [*np.random.default_rng([0, 2]).permutation(96), *np.random.default_rng([0, 3]).permutation(96)]


def test_mixup_adds_powers_and_mixes_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(-40, 10, (6, 5, 3)).astype(np.float32)
    x[:3, 4] = PAD_DB
    y = np.eye(8, dtype=np.float32)[[0, 1, 2, 3, 4, 5]]
    both, labels = fit.mixed(x, y, 0.4, np.random.default_rng(1))
    assert both.dtype == labels.dtype == np.float32
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    for clip, label in zip(both, labels, strict=True):
        first, second = (list(np.flatnonzero(label)) * 2)[:2]
        share = label[first] if first != second else 1.0
        expected = 10 * np.log10(share * 10 ** (x[first] / 10) + (1 - share) * 10 ** (x[second] / 10))
        np.testing.assert_allclose(clip, expected, atol=2e-3)
        padding = (x[[first, second]] == PAD_DB).all(axis=(0, 2))
        assert (clip[padding] == PAD_DB).all() and (clip[~padding] > PAD_DB).all()
    assert ((labels > 0).sum(axis=1) == 2).any()


def test_training_stops_when_validation_no_longer_improves_and_moves_a_run_of_other_settings_aside(
        finished, made_up, tmp_path):
    shutil.copytree(finished[1], tmp_path, dirs_exist_ok=True)
    still = dataclasses.replace(PLAIN, learning_rate=0.0, weight_decay=0.0, ema=0.0, epochs=30, patience=2)
    run = fit.run(still, made_up, root=tmp_path, progress=False)
    assert len(run.history) == run.info["epochs"] == run.info["best_epoch"] + 2 < 30
    aside = run.dir.with_name(f"fold0-{CONFIG.hash}")
    assert json.loads((aside / "run.json").read_text())["config_hash"] == CONFIG.hash
    assert len(runs.table(tmp_path / "synthetic-smoke")) == 1


def test_a_loss_that_is_not_finite_is_said(made_up, tmp_path):
    config = dataclasses.replace(PLAIN, learning_rate=1e30, clip_norm=1e30, warmup_epochs=0)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit.run(config, made_up, root=tmp_path, progress=False)


@pytest.mark.parametrize("backend, device, expected", [
    ("tensorflow", "cpu", False), ("tensorflow", "gpu", "auto"), ("jax", "cpu", "auto")])
def test_xla_compiles_everywhere_but_on_tensorflows_cpu(made_up, monkeypatch, backend, device, expected):
    seen = []
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(fit, "device", lambda: device)
    monkeypatch.setattr(keras.Model, "compile", lambda *_, **options: seen.append(options))
    fit.compiled(PLAIN, fit.prepare(PLAIN, made_up))
    assert seen[0]["jit_compile"] == expected and seen[0]["steps_per_execution"] == 10
    assert [fit.steps_per_execution(steps) for steps in (30, 29, 28, 8)] == [10, 1, 7, 8]  # divide the epoch


def test_training_continuing_and_the_networks_work_on_jax_too(tmp_path):
    chosen = "holds_all or own_batches or stopped_after or saved_model or by_its_variants or appended_padding"
    networks = [Path(__file__).with_name(f"test_models.py::test_appended_padding_changes_nothing[{case}]")
                for case in ("lstm-options2-27", "transformer-options7-27")]  # every layer that is not Keras's own
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    alone = "import sys, pytest; sys.modules['tensorflow'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", alone, "-q", "-k", chosen, __file__, *networks], cwd=ROOT, text=True,
                          env=os.environ | cache | {"KERAS_BACKEND": "jax"}, capture_output=True)
    assert done.returncode == 0 and "7 passed" in done.stdout, done.stdout[-3000:]


def test_settings_reach_the_optimiser_and_the_seed_both_weights_and_batches(made_up, tmp_path):
    one, other = (dataclasses.replace(PLAIN, label_smoothing=0.3, weight_decay=0.5, clip_norm=0.7, mixup=0.3, seed=seed)
                  for seed in (0, 1))
    data = fit.prepare(one, made_up)
    first, second = (fit.compiled(config, data) for config in (one, other))
    found = first.optimizer
    assert (first.loss.label_smoothing, found.weight_decay, found.global_clipnorm) == (0.3, 0.5, 0.7)
    starts = [np.concatenate([np.ravel(fit.copies([v])[0]) for v in model.trainable_variables])
              for model in (first, second)]
    mine, theirs = (fit.Checkpoint(config, data, tmp_path, False, None).batches for config in (one, other))
    assert not np.allclose(*starts) and not np.array_equal(mine.order, theirs.order) and mine.mixup == 0.3


def test_averaged_weights_are_judged_and_do_not_train(made_up, tmp_path):
    averaged, plain = (fit.run(dataclasses.replace(PLAIN, ema=ema), made_up, tmp_path / f"{ema}", False).history
                       for ema in (0.8, 0.0))
    np.testing.assert_allclose(averaged.loss, plain.loss, atol=2e-3)
    assert (averaged.val_loss - plain.val_loss).abs().max() > 0.01
