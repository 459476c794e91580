"""ser_utils.explain: what is read out of a network is what is in it."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops

from ser_utils import explain, models
from ser_utils.config import PAD_DB, FeatureConfig, RunConfig
from ser_utils.training import frontend

SHAPE = (40, 20, 1)
RNG = np.random.default_rng(0)


def some_images(count=3, frames=(40, 30, 20)):
    """Images whose padding begins after the given numbers of frames."""
    images = RNG.normal(size=(count, *SHAPE)).astype(np.float32)
    for image, length in zip(images, frames, strict=False):
        image[length:] = 0
    return images


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(1)
    return {name: models.build(name, SHAPE, width=0.125)
            for name in ("alexnet", "resnet", "inceptionnet", "vgg16", "lstm", "transformer")}


def inside(network, images, labels, predictions, confidence):
    clips = pd.DataFrame({"clip": [f"clip{i}" for i in range(len(labels))], "label": labels,
                          "prediction": predictions, "confidence": confidence})
    logmel = np.where(images[..., 0] == 0, PAD_DB, images[..., 0])
    config = RunConfig("smoke", "synthetic", "actors", "vgg16", 0, features=FeatureConfig(n_mels=20), frames=40)
    return explain.Inside(network, config, clips, logmel, images)


def test_parts_make_up_the_model():
    config = RunConfig("smoke", "synthetic", "random", "lstm", 0, pool=4, options={"width": 0.125})
    model = frontend.assemble(config, np.zeros(80), np.ones(80))
    logmel = RNG.normal(-40, 10, size=(2, 160, 80)).astype(np.float32)
    front, network = frontend.parts(model)
    assert network.name == "lstm"
    expected = model.predict_on_batch(logmel)
    np.testing.assert_allclose(frontend.outputs(network, frontend.outputs(front, logmel)), expected, atol=1e-6)


def test_outputs_join_batches_in_order():
    inputs = keras.Input((2,))
    doubled = keras.Model(inputs, [inputs * 2, inputs + 1])
    values = np.arange(14, dtype=np.float32).reshape(-1, 2)
    first, second = frontend.outputs(doubled, values, batch_size=3)
    np.testing.assert_array_equal(first, 2 * values)
    np.testing.assert_array_equal(second, values + 1)


def test_gradients_of_a_known_function():
    a, b, unused = np.array([1.0, 2.0]), np.array([3.0, -1.0]), np.ones(2)
    found = explain.gradients(lambda v: ops.sum(v[0] ** 2 * v[1]), [a, b, unused])
    np.testing.assert_allclose(found[0], 2 * a * b)
    np.testing.assert_allclose(found[1], a**2)
    np.testing.assert_array_equal(found[2], 0)


def test_gradients_name_a_backend_they_do_not_know(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(NotImplementedError, match="numpy.*KERAS_BACKEND"):
        explain.gradients(lambda v: ops.sum(v[0]), [np.ones(1)])


def test_one_each_prefers_the_right_and_then_the_sure():
    labels, predictions = [0, 0, 0, 1, 1], [0, 3, 0, 2, 2]
    view = inside(None, some_images(5), labels, predictions, [0.5, 0.9, 0.7, 0.3, 0.6])
    assert view.one_each() == [2, 4]
    assert [view.title(row) for row in view.one_each()] == ["neutral", "calm, taken for happy"]
    other = inside(None, some_images(5), labels, [0, 0, 4, 1, 0], [0.9] * 5)
    assert view.one_each(other) == [0, 4]  # clip 0 is the only one both have right
    assert view.name(2) == "clip2"


def test_speech_and_lengths_leave_out_the_padding():
    view = inside(None, some_images(), [0, 1, 2], [0, 1, 2], [1, 1, 1])
    np.testing.assert_array_equal(view.lengths, [40, 30, 20])
    assert view.speech(1).shape == (30, 20)
    np.testing.assert_array_equal(explain.speech(view.images).sum(axis=1), [40, 30, 20])


class Loudest(layers.Layer):
    """Probability of class 1 from one corner of the image, the rest of it unused."""

    def call(self, x):
        share = ops.sigmoid(ops.mean(x[:, :10, :10, 0], axis=(1, 2)))[:, None]
        return ops.concatenate([1 - share, share], axis=1)


def test_deletion_hurts_where_the_network_looks():
    inputs = keras.Input(SHAPE)
    network = keras.Model(inputs, Loudest()(inputs))
    images = np.full((4, *SHAPE), 2, np.float32)
    images[3, 30:] = 0
    importance = np.zeros((4, 40, 20))
    importance[:2, :10, :10] = 1     # right for the first two clips
    importance[2:, 20:30, 10:] = 1   # wrong for the others
    table = explain.deletion(network, images, importance, np.ones(4, int), share=100 / 800).set_index("removed")
    intact = 100 / (1 + np.exp(-2))
    assert table.loc["nothing", "true emotion"] == pytest.approx(intact, abs=0.01)
    # two of four fall to one half; the clip with padding loses fewer points
    assert table.loc["the most important", "true emotion"] == pytest.approx((intact + 50) / 2, abs=0.01)
    assert table.loc["the least important", "true emotion"] == pytest.approx(intact, abs=15)
    frames = np.zeros((4, 40))
    frames[:, :10] = 1
    whole = explain.deletion(network, images, frames, np.ones(4, int), share=0.25).set_index("removed")
    assert whole.loc["the most important", "true emotion"] < 60
    assert whole.loc["the least important", "true emotion"] > 80


# --- AlexNet -----------------------------------------------------------------------------------------------


def test_units_are_those_of_the_mel_scale():
    features = FeatureConfig()
    found = explain.units(features, pool=2)
    single = explain.units(features)
    assert found.seconds == pytest.approx(0.04)
    assert len(found.centres) == 40 and len(single.centres) == 80
    low, high = single.centres[single.centres < 1000], single.centres[single.centres > 1000]
    np.testing.assert_allclose(np.diff(low), single.hertz, rtol=1e-3)
    np.testing.assert_allclose(np.diff(np.log2(high)), single.octaves, rtol=1e-3)
    assert found.hertz == pytest.approx(2 * single.hertz)




# --- VGG ---------------------------------------------------------------------------------------------------


def test_grad_cam_finds_the_patch_that_decides():
    """One map sees the patch, the other does not; class 3 listens to the first."""
    inputs = keras.Input(SHAPE, name="input")
    x = layers.Conv2D(2, 4, 4, padding="same", use_bias=False, name="maps")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    network = keras.Model(inputs, layers.Dense(8, activation="softmax", name="predictions")(x))
    kernel = np.zeros((4, 4, 1, 2), np.float32)
    kernel[..., 0], kernel[..., 1] = 1, -1
    network.get_layer("maps").set_weights([kernel])
    dense = np.zeros((2, 8), np.float32)
    dense[0, 3] = 1
    dense[1, 5] = 1
    network.get_layer("predictions").set_weights([dense, np.zeros(8, np.float32)])
    images = np.full((2, *SHAPE), 1e-3, np.float32)
    images[:, 12:16, 8:12] = 1
    images[:, 36:] = 0
    cams = explain.grad_cam(network, images, np.array([3, 5]), layer="maps")
    assert cams.shape == (2, 40, 20)
    assert cams[0].max() == 1 and cams[0, 13:15, 9:11].min() > 0.7
    assert cams[0, :8].max() < 0.01 and cams[0, 36:].max() == 0
    assert cams[1].max() == 0  # nothing speaks for class 5, and nothing is divided by 0


def test_grad_cam_works_for_every_stage(networks):
    network, images = networks["vgg16"], some_images()
    names = explain.convolutions(network)
    assert names == ["conv1_2_relu", "conv2_2_relu", "conv3_3_relu", "conv4_3_relu", "conv5_3_relu"]
    for layer in (names[0], "last_conv"):
        cams = explain.grad_cam(network, images, np.array([0, 1, 2]), layer)
        assert cams.min() >= 0 and cams.max() <= 1 and (cams[2, 20:] == 0).all()


def test_grad_cam_does_not_depend_on_the_other_clips(networks):
    images = some_images()
    together = explain.grad_cam(networks["vgg16"], images, np.array([0, 1, 2]), "conv3_3_relu")
    alone = explain.grad_cam(networks["vgg16"], images[1:2], np.array([1]), "conv3_3_relu")
    np.testing.assert_allclose(together[1], alone[0], atol=1e-4)


def test_layer_checks_measure_the_gap(networks):
    images, labels = some_images(), np.array([0, 1, 2])
    table = explain.layer_checks(networks["vgg16"], images, labels, labels)
    assert list(table.index) == ["conv2_2_relu", "conv3_3_relu", "conv4_3_relu", "conv5_3_relu"]
    cams = explain.grad_cam(networks["vgg16"], images, labels, "conv5_3_relu")
    single = explain.deletion(networks["vgg16"], images, cams, labels).set_index("removed")["true emotion"]
    assert table.loc["conv5_3_relu", "gap"] == pytest.approx(
        single["the least important"] - single["the most important"], abs=1e-4)


def test_enlarge_keeps_the_centres_of_the_cells():
    maps = np.array([[[0.0, 4.0], [8.0, 12.0], [16.0, 20.0]]])
    found = explain.enlarge(maps, (10, 8))  # cells of 4 x 4, the last row of cells reaches beyond the image
    assert found.shape == (1, 10, 8)
    assert found[0, 0, 0] == 0 and found[0, 1:3, 1:3].mean() == pytest.approx(1.0, abs=0.5)
    assert found[0, 5:7, 7].mean() == pytest.approx(12.0)
    assert (np.diff(found[0], axis=0) >= 0).all() and (np.diff(found[0], axis=1) >= 0).all()
    np.testing.assert_array_equal(explain.enlarge(np.full((1, 1, 1), 3.0), (4, 4)), 3)


def test_map_similarity():
    images = some_images()
    maps = RNG.random((3, 40, 20))
    np.testing.assert_allclose(explain.map_similarity(maps, maps**3, images), 1)
    np.testing.assert_allclose(explain.map_similarity(maps, -maps, images), -1)
    assert abs(explain.map_similarity(maps, RNG.random((3, 40, 20)), images)).max() < 0.3


def test_compare_lists_what_is_known(networks):
    class Finished:
        info = {"metrics": {"test": {"accuracy": 0.5, "recall": 0.25}}, "wall_seconds": 30.0, "epochs": 10}

    table = explain.compare({"A": networks["vgg16"], "B": networks["lstm"]}, {"A": {"random": Finished()}, "B": {}})
    assert list(table.network) == ["A", "B"] and list(table.protocol) == ["random", "–"]
    assert table.convolutions[0] == 13 and table.parameters[0] == networks["vgg16"].count_params()
    assert table.accuracy[0] == 50 and table.recall[0] == 25 and table["seconds an epoch"][0] == 3
    assert np.isnan(table.accuracy[1])


# --- Attention ---------------------------------------------------------------------------------------------


def test_relative_time_is_one_for_a_flat_curve_and_keeps_the_mean():
    values = np.array([np.ones(10), np.r_[np.zeros(4), np.ones(4), 9, 9]])
    found = explain.over_relative_time(values, np.array([10, 8]), bins=4)
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[1], [0, 0, 2, 2])  # the padding after frame 8 does not count
