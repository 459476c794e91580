import dataclasses

import keras
import librosa
import numpy as np
import pytest

from ser_utils.config import PAD_DB, FeatureConfig, RunConfig, run_configs
from ser_utils.training import frontend

CONFIG = RunConfig("smoke", "synthetic", "random", "alexnet", 0, features=FeatureConfig(n_mels=24, n_mfcc=4),
                   frames=48, options={"width": 0.125})


@pytest.fixture(scope="module")
def logmel():
    x = np.random.default_rng(0).normal(-40, 8, (4, 48, 24)).astype(np.float32)
    x[1, 30:] = PAD_DB
    return x


def test_normalise_uses_the_given_statistics_and_blanks_padding(logmel):
    mean, deviation = np.linspace(-50, -30, 24), np.linspace(5, 10, 24)
    got = keras.ops.convert_to_numpy(frontend.Normalise(mean, deviation)(logmel))
    np.testing.assert_allclose(got[0], (logmel[0] - mean) / deviation, atol=1e-5)
    assert (got[1, 30:] == 0).all() and (got[1, :30] != 0).any(axis=1).all()


@pytest.mark.parametrize("changes, shape, layers", [
    ({"pool": 2}, (24, 12, 1), "augment normalise image spec_augment pool"),
    ({"augment": None}, (48, 24, 1), "normalise image"),
    ({"channels": ("static", "delta", "centred")}, (48, 24, 3), "augment normalise image spec_augment")])
def test_the_network_gets_the_image_asked_for_and_a_saved_one_does(changes, shape, layers, tmp_path, logmel):
    model = frontend.assemble(dataclasses.replace(CONFIG, **changes), np.full(24, -40.0), np.full(24, 8.0))
    assert model.get_layer("alexnet").input_shape[1:] == shape
    assert {layer.name for layer in model.layers} == {"logmel_db", "alexnet", *layers.split()}
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict_on_batch(logmel), again.predict_on_batch(logmel))


@pytest.fixture(scope="module")
def spectrogram():
    x = np.random.default_rng(1).normal(0, 1, (2, 30, 5)).astype(np.float32)
    x[1, 20:] = 0
    return x


def test_deltas_are_those_of_librosa_inside_the_clip_and_padding_stays_blank(spectrogram):
    for names in ((), ("static", "colour")):  # views that do not exist
        with pytest.raises(ValueError, match="one at least, not"):
            frontend.Channels(names)
    layer = frontend.Channels(["static", "delta", "delta2"])
    got = keras.ops.convert_to_numpy(layer(spectrogram))
    assert got.shape == (2, 30, 5, 3)
    np.testing.assert_array_equal(got[..., 0], spectrogram)
    impulse = np.zeros(17)
    impulse[8] = 1
    for order in (1, 2):
        norm = np.linalg.norm(librosa.feature.delta(impulse, width=9, order=order)[4:-4])
        expected = librosa.feature.delta(spectrogram[0], width=9, order=order, axis=0) / norm
        np.testing.assert_allclose(got[0, 4:-4, :, order], expected[4:-4], atol=1e-4)
    assert (got[1, 20:] == 0).all() and (got[1, :20] != 0).all()


def test_a_centred_view_has_no_mean_and_does_not_know_the_level(spectrogram):
    layer = frontend.Channels(("centred",))
    got = keras.ops.convert_to_numpy(layer(spectrogram))[..., 0]
    np.testing.assert_allclose(got[1, :20], spectrogram[1, :20] - spectrogram[1, :20].mean(axis=0), atol=1e-5)
    louder = np.where(spectrogram != 0, spectrogram + 3, 0).astype(np.float32)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(louder))[..., 0], got, atol=1e-5)
    assert (got[1, 20:] == 0).all()


@pytest.mark.parametrize("model", ["alexnet", "lstm"])
def test_a_voice_is_enrolled_by_the_statistics_of_its_clips_and_by_no_label(model):
    (config,) = run_configs("full", "ravdess", [model], ["actors"], [0])
    keras.utils.set_random_seed(3)
    small = {"width": 0.1} if model == "alexnet" else {"front_2d": 8, "units": 8}
    config = dataclasses.replace(config, frames=48, options=config.options | small)
    whole, rng = frontend.assemble(config, np.full(80, -40.0), np.full(80, 10.0)), np.random.default_rng(0)
    clips = rng.normal(-30, 10, (18, 48, 80)).astype(np.float32)
    front, network = frontend.parts(whole)
    before = {weight.path: weight.numpy().copy() for weight in whole.weights}
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization))
    heard = frontend.outputs(keras.Model(network.inputs[0], first.input), frontend.outputs(front, clips))
    frontend.enrol(whole, clips)
    axes = tuple(range(heard.ndim - 1))  # 18 of 18 + SHRINK; from a mean of 0, a variance of 1
    np.testing.assert_allclose(first.moving_mean, 0.9 * heard.mean(axes), atol=2e-3)
    np.testing.assert_allclose(first.moving_variance, 0.1 + 0.9 * heard.var(axes), rtol=2e-2)
    moved = {weight.path for weight in whole.weights if (weight.numpy() != before[weight.path]).any()}
    assert moved and all("moving_" in path or "seed" in path for path in moved) and first.momentum == 0.9
    with pytest.raises(ValueError, match="one recording at least"):
        frontend.enrol(whole, clips[:0])
