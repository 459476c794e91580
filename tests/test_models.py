"""ser_utils.models: the networks against their published forms and equations, and as the report's pages show them."""

import json
import math

import keras
import librosa
import nbformat
import numpy as np
import pandas as pd
import pytest
from keras import applications, layers, ops

from ser_utils import models
from ser_utils.config import PROFILES, run_configs
from ser_utils.models import common, lstm
from ser_utils.models.alexnet import LocalResponseNormalization
from ser_utils.paper import MODEL_NAMES, TABLE2
from ser_utils.paths import NOTEBOOKS, RESULTS

SHAPE = (44, 17, 2)  # frames and bins that can't be halved again and again
SMALL = {"inceptionnet": {"modules": (1, 1, 1)}, "transformer": {"heads": 2, "depth": 2}, "lstm": {"depth": 1}}
rng = np.random.default_rng(0)


def small(name, shape=SHAPE, **options):
    return models.build(name, shape, width=0.125, **SMALL.get(name, {}) | options)


def clips(frames=SHAPE[0], lengths=(44, 20)):
    x = rng.normal(size=(len(lengths), frames, *SHAPE[1:])).astype("float32")
    for clip, length in zip(x, lengths, strict=True):
        clip[length:] = 0
    return x


def run(model, x):
    if keras.backend.backend() == "jax":  # would compile every operation by itself
        return model.predict_on_batch(x)
    return keras.ops.convert_to_numpy(model(x, training=False))


# The registry

@pytest.mark.parametrize("name", MODEL_NAMES)
def test_tailored_network(name, tmp_path):
    """Name, shape, probabilities, no attention to padding, the way to a file and back, gradients."""
    assert tuple(models.BUILDERS) == tuple(MODEL_NAMES)
    model, x = small(name, dropout=0.0), clips(lengths=(44, 16))
    y = run(model, x)
    assert (model.name, y.shape, y.dtype) == (name, (2, 8), "float32") and np.abs(y[0] - y[1]).max() > 1e-6
    weights = run(keras.Model(model.input, model.get_layer("attention").output), x)
    if name not in ("lstm", "transformer"):
        assert weights.shape[1] == model.get_layer("last_conv").output.shape[1]
    for shares in (y, run(model, np.zeros_like(x)), weights):  # silence has probabilities, too
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    sounding = round(16 * weights.shape[1] / 44)
    assert (weights[0] > 0).all() and (weights[1, :sounding] > 0).all() and (weights[1, sounding:] == 0).all()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(run(keras.models.load_model(tmp_path / "model.keras"), x), y)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(clips(lengths=(44, 40, 30, 20)), np.array([0, 1, 2, 3]))
    still = [weight.path for weight, old in zip(model.trainable_weights, before, strict=True)
             if np.array_equal(keras.ops.convert_to_numpy(weight), old)]
    assert not still  # none is unconnected, none masked away


@pytest.mark.parametrize("name", ["alexnet", "lstm", "transformer"])  # the head of the convolutional nets is one
def test_mixed_precision_keeps_probabilities_in_float32(name):
    keras.config.set_dtype_policy("mixed_bfloat16")  # taken back after each test, see conftest
    model = small(name)
    y = run(model, clips())
    assert model.layers[-1].compute_dtype == "float32" and y.dtype == "float32"
    assert model.get_layer("attention").compute_dtype == "float32"
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    (("alexnett", SHAPE), {}, "alexnett.*alexnet, resnet"),
    (("vgg16", (80, 80)), {}, r"\(frames, bins, channels\).*\(80, 80\)"),
    (("resnet", SHAPE), {"depth": 20}, "no depth 20; choose from 18, 34, 50"),
    (("inceptionnet", SHAPE), {"modules": (4, 4, 2)}, "modules"),
    (("lstm", SHAPE), {"front_2d": 8, "stack": 3}, "1, 2 or 4 frames to a step, not 3"),
    (("transformer", SHAPE), {"dim": 64, "heads": 7}, "heads=7")])
def test_errors_say_what_to_do(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(*arguments, **options)


# Against the published networks

@pytest.mark.parametrize("name, reference, shape, options", [
    ("resnet", applications.ResNet50, (64, 64, 3), {"depth": 50}),
    ("inceptionnet", applications.InceptionV3, (75, 75, 3), {}),
    ("vgg16", applications.VGG16, (32, 32, 3), {}), ("vgg19", applications.VGG19, (32, 32, 3), {})])
def test_canonical_equals_keras_applications(name, reference, shape, options, request):
    """With the weights of Keras's own network, ours computes the same, in every batch normalisation too."""
    theirs = reference(weights=None, input_shape=shape)
    request.getfixturevalue("blank_weights")
    ours = models.build(name, shape, canonical=True, **options)
    ours.set_weights(shaken(theirs).get_weights())
    x = rng.normal(size=(2, *shape)).astype("float32")
    expected = run(theirs, x)
    assert ours.count_params() == theirs.count_params() and np.ptp(expected) > 1e-4
    np.testing.assert_allclose(run(ours, x), expected, rtol=1e-4, atol=1e-7)


def shaken(network):
    """The network with running averages, scales and biases that are not 0 and 1."""
    for weight in network.weights:
        if weight.path.endswith(("gamma", "variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("beta", "mean", "bias")):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return network


def test_published_runs_state_the_parameters_of_their_networks(blank_weights):
    for config in run_configs("full", "ravdess", protocols=["actors"], folds=[0]):
        stated = json.loads((RESULTS / config.place / "run.json").read_text())["parameters"]
        assert models.build(config.model, (config.frames, 80, 1), **config.options).count_params() == stated


def test_alexnet_layer_by_layer(blank_weights):
    """Kernels, steps and map sizes of Krizhevsky et al. 2012, section 3.5."""
    model = models.build("alexnet", (227, 227, 3), canonical=True)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [tuple(layer.kernel.shape) for layer in convolutions] == [
        (11, 11, 3, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256)]
    assert [layer.strides[0] for layer in convolutions] == [4, 1, 1, 1, 1]
    assert [layer.output.shape[1] for layer in convolutions] == [55, 27, 13, 13, 13]
    assert model.get_layer("conv5_pool").output.shape == (None, 6, 6, 256)
    assert [model.get_layer(name).units for name in ("fc6", "fc7", "predictions")] == [4096, 4096, 1000]
    assert model.count_params() == 60_965_224


# As a page of the report defines them in plain Keras

LIBRARIES = {"math": math, "keras": keras, "librosa": librosa, "np": np, "pd": pd, "layers": layers, "ops": ops}


def on_page(name, number):
    """The function of a page that builds its network, from nothing but Keras and the layers of ``ser_utils.models``."""
    cells = nbformat.read(NOTEBOOKS / f"{number:02d}_{name}.ipynb", as_version=4).cells
    found = [c.source for c in cells if c.cell_type == "code" and f"\ndef {name}(" in f"\n{c.source}"]
    assert len(found) == 1, f"{len(found)} cells define {name}()"
    assert "import " not in found[0] and len(found[0].splitlines()) <= 50, "it can't be read in one sitting"
    space = LIBRARIES | {layer: getattr(models, layer) for layer in models.__all__ if layer[:1].isupper()}
    exec(found[0], space)
    return space[name]


def shapes(tensors) -> list[tuple]:
    return [tuple(tensor.shape) for tensor in keras.tree.flatten(tensors)]


@pytest.mark.parametrize("number, name", list(enumerate(TABLE2, 3)))
def test_the_pages_network_is_the_published_one(number, name):
    shape, options = (128, 80, 1), PROFILES["full"].networks[name]["options"]
    ours, page = models.build(name, shape, **options), on_page(name, number)(shape, **options)
    assert [layer.name for layer in page.layers] == [layer.name for layer in ours.layers]
    for shown, made in zip(page.layers, ours.layers, strict=True):
        assert isinstance(made, type(shown)), shown.name  # ours may be Keras's own layer, made faster
        assert shapes(shown.output) == shapes(made.output), shown.name
        assert shapes(shown.weights) == shapes(made.weights), shown.name
        assert getattr(shown, "rate", 0) == getattr(made, "rate", 0), shown.name
    page.set_weights(shaken(ours).get_weights())
    x = rng.normal(size=(2, *shape)).astype("float32")
    x[1, 70:] = 0
    expected = run(ours, x)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    np.testing.assert_allclose(run(page, x), expected, atol=1e-5)


# Padding and attention over time

def test_padding_mask_and_its_pooling():
    x = clips()
    x[0, 5] = 0
    mask = run(common.PaddingMask(), x)
    assert mask[0].sum() == 43 and not mask[0, 5] and mask[1].tolist() == [True] * 20 + [False] * 24
    trailing = run(common.PaddingMask(trailing=True), np.concatenate([x, np.zeros_like(x[:1])]))
    assert trailing.sum(axis=1).tolist() == [44, 20, 1] and trailing[2, 0]
    mask = np.array([[True, False, False, True, False]])
    for stride, expected in ((1, [1, 0, 0, 1, 0]), (2, [1, 1, 0]), (3, [1, 1]), (8, [1])):
        assert run(common.MaskPooling(stride), mask).astype(int).tolist() == [expected]


def test_pooling_over_time_is_the_weighted_mean_by_attention():
    x, mask = keras.Input((6, 5)), keras.Input((6,), dtype="bool")
    model = keras.Model([x, mask], common.pool_time(x, mask))
    weights_of = keras.Model([x, mask], model.get_layer("attention").output)
    frames = rng.normal(size=(2, 6, 5)).astype("float32")
    valid = np.array([[True] * 6, [True] * 4 + [False] * 2])
    weights = run(weights_of, [frames, valid])
    assert np.ptp(weights[0]) > 1e-3
    expected = (weights[..., None] * frames).sum(axis=1)
    np.testing.assert_allclose(run(model, [frames, valid]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options", "frames"), [
    ("lstm", {"stack": 1}, 28), ("lstm", {"stack": 4}, 27), ("lstm", {"front_2d": 8, "stack": 4}, 27),
    ("lstm", {"front_2d": 8, "stack": 1}, 28), ("transformer", {"downsample": 1}, 28),
    ("transformer", {"downsample": 2}, 27), ("transformer", {"downsample": 4}, 27),
    ("transformer", {"front_2d": 8, "downsample": 4}, 27), ("transformer", {"front_2d": 8, "downsample": 2}, 28)])
def test_appended_padding_changes_nothing(name, options, frames):
    short, long = (small(name, (count, *SHAPE[1:]), depth=1, **options) for count in (frames, 57))
    long.set_weights(shaken(short).get_weights())
    x = clips(frames, lengths=(frames, 20))
    padded = np.pad(x, [(0, 0), (0, 57 - frames), (0, 0), (0, 0)])
    expected = run(short, x)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    np.testing.assert_allclose(run(long, padded), expected, rtol=1e-4, atol=1e-6)


def test_local_response_normalisation():
    """Against the sum of section 3.3, channel by channel."""
    a = rng.normal(0, 30, size=(1, 2, 2, 7)).astype("float32")
    expected = np.empty_like(a)
    for i in range(7):
        total = sum(a[..., j] ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))
        expected[..., i] = a[..., i] / (2 + 1e-4 * total) ** 0.75
    np.testing.assert_allclose(run(LocalResponseNormalization(), a), expected, rtol=1e-5)


def test_frame_stack_and_positional_encoding():
    x = np.arange(10, dtype="float32").reshape(1, 5, 2)
    assert run(models.FrameStack(2), x).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]]
    y = run(models.PositionalEncoding(), np.zeros((1, 4, 6), "float32"))[0]
    angles = np.arange(4)[:, None] * 10000.0 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(y, np.hstack([np.sin(angles), np.cos(angles)]), atol=1e-5)


# What is Keras's own, made faster

@pytest.mark.parametrize("options", [{}, {"scale": False}, {"dtype": "mixed_bfloat16"}])
def test_batch_norm_does_what_that_of_keras_does(options):
    x = np.random.default_rng(0).normal(2, 3, (8, 20, 10, 4)).astype("float32")
    ours, theirs = common.BatchNorm(momentum=0.9, **options), keras.layers.BatchNormalization(momentum=0.9, **options)
    for training in (True, True, False):
        pair = [keras.ops.cast(layer(x, training=training), "float32") for layer in (ours, theirs)]
        np.testing.assert_allclose(*pair, atol=0.04 if "dtype" in options else 2e-3)  # bfloat16's steps are 0.03 there
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-4)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-3)  # by n / (n - 1)


@pytest.mark.parametrize("backwards", [False, True])
def test_lstm_does_what_that_of_keras_does(backwards):
    x = rng.normal(size=(3, 7, 5)).astype("float32")
    mask = np.arange(7) < np.array([[7], [4], [1]])
    options = {"return_sequences": True, "go_backwards": backwards}
    ours, theirs = lstm.LSTM(lstm.LSTMCell(6), **options), keras.layers.LSTM(6, **options)
    ours.build(x.shape), theirs.build(x.shape)
    weights = [rng.normal(size=weight.shape).astype("float32") for weight in theirs.get_weights()]
    ours.set_weights(weights), theirs.set_weights(weights)
    np.testing.assert_allclose(ours(x, mask=mask), theirs(x, mask=mask), atol=1e-5)
