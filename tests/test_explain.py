"""ser_utils.explain: what is read out of a network is what is in it."""


import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops

from ser_utils import explain
from ser_utils.config import PAD_DB, RunConfig
from ser_utils.training import frontend

SHAPE = (40, 20, 1)
RNG = np.random.default_rng(0)
CONFIG = RunConfig("smoke", "synthetic", "random", "lstm", 0, pool=4, options={"width": 0.125})


def test_parts_make_up_the_model_in_batches_too():
    model = frontend.assemble(CONFIG, np.zeros(80), np.ones(80))
    logmel = RNG.normal(-40, 10, size=(2, 160, 80)).astype(np.float32)
    front, network = frontend.parts(model)
    assert network.name == "lstm"
    image, answer = frontend.outputs(keras.Model(model.inputs[0], [front.output, model.output]), logmel, batch_size=1)
    np.testing.assert_allclose(image, frontend.outputs(front, logmel), atol=1e-6)
    for found in (answer, frontend.outputs(network, image)):
        np.testing.assert_allclose(found, model.predict_on_batch(logmel), atol=1e-6)


def test_one_each_prefers_the_right_and_then_the_sure():
    clips = pd.DataFrame({"clip": [f"clip{i}" for i in range(5)], "label": [0, 0, 0, 1, 1],
                          "prediction": [0, 3, 0, 2, 2], "confidence": [0.5, 0.9, 0.7, 0.3, 0.6]})
    logmel = np.full((5, 40, 20), -30.0)
    logmel[1, 30:] = logmel[2, 20:] = PAD_DB
    view = explain.Inside(None, CONFIG, clips, logmel, None)
    assert view.one_each() == [2, 4]
    assert [view.title(row) for row in view.one_each()] == ["neutral", "calm, taken for happy"]
    assert view.name(2) == "clip2"
    assert list(view.lengths[:3]) == [40, 30, 20] and view.speech(1).shape == (30, 20)  # without the padding


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
    assert table.loc["nothing", "probability"] == pytest.approx(intact, abs=0.01)
    # two of four fall to one half; the clip with padding loses fewer points
    assert table.loc["the most important", "probability"] == pytest.approx((intact + 50) / 2, abs=0.01)
    assert table.loc["the least important", "probability"] == pytest.approx(intact, abs=15)
    frames = np.zeros((4, 40))
    frames[:, :10] = 1
    swapped = explain.deletion(network, images, importance, np.array([1, 1, 0, 0]), share=0.125)["probability"]
    assert swapped[1] < 35 and swapped[2] > 60  # the first two's maps hurt the others now, and theirs do no harm
    whole = explain.deletion(network, images, frames, np.ones(4, int), share=0.25).set_index("removed")
    assert whole.loc["the most important", "probability"] < 60
    assert whole.loc["the least important", "probability"] > 80
    images[1, 20:], frames[:2] = 0, 0
    frames[0, 10:20] = frames[1, 15:20] = 1  # of 40 frames and of 20: on the other clip frames 5 to 10, and 30 to 40
    other = explain.deletion(network, images[:2], frames[:2], np.array([1, 0]), share=0.25)["probability"][2]
    assert other == pytest.approx(50 / (1 + np.exp(-2)) + 50 / (1 + np.e), abs=0.01)


def test_occlusion_finds_the_part_that_counts():
    rng = np.random.default_rng(0)
    windows = rng.uniform(-60, -40, (2, 32, 16)).astype(np.float32)
    windows[1, :16] = windows[0, 16:]          # the second begins in the middle of the first, and is padded at its end
    windows[1, 27:] = explain.PAD_DB
    windows[0, 20:22, 8:12] = windows[1, 4:6, 8:12] = 0

    def judge(parts):
        assert (parts[:-1] != parts[-1]).any(axis=(1, 2)).all()
        return np.stack([np.zeros(len(parts)), parts.max(axis=(1, 2)) / 100], axis=1)
    heat = explain.occlusion(judge, windows, [0, 16], 1, size=(10, 4))
    assert heat.shape == (43, 16) and heat.min() == 0
    rows, bands = np.nonzero(heat)
    assert {*rows} == {*range(16, 30)} and {*bands} == {*range(8, 12)} and heat.max() > 0.3


def test_relative_time_is_one_for_a_flat_curve_and_keeps_the_mean():
    values = np.array([np.ones(10), np.r_[np.zeros(4), np.ones(4), 9, 9]])
    found = explain.over_relative_time(values, np.array([10, 8]), bins=4)
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[1], [0, 0, 2, 2])  # the padding after frame 8 does not count
