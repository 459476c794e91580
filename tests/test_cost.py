"""ser_utils.models.cost: counts on layers worked out by hand, and the published numbers of published networks."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from ser_utils import models
from ser_utils.models import cost
from ser_utils.models.common import AttentionPooling, AttentionWeights, PaddingMask

# (options, multiply-accumulates, layers on the longest way, receptive field). The products are those of
# torchvision and keras.applications; receptive fields those of Araujo, Norris and Sim (2019),
# https://distill.pub/2019/computing-receptive-fields, and for ResNet-18 its rule by hand.
PUBLISHED = {
    "vgg16": ({}, 15_470_264_320, 16, 212),
    "alexnet": ({"grouped": True}, 724_406_816, 8, 195),
    "inceptionnet": ({}, pytest.approx(5.7e9, rel=0.01), 48, 1311),  # published as 5.7 billion
    "resnet": ({"depth": 18}, 1_814_073_344, 18, 435),
    "resnet-50": ({"depth": 50}, 3_857_973_248, 50, 483),
}


def stack(*kinds, shape=(40, 20, 3)):
    """A network of layers one after another."""
    return keras.Sequential([keras.Input(shape), *kinds])


@pytest.mark.parametrize(("kind", "shape", "expected"), [
    (layers.Conv2D(8, (3, 5), padding="same"), (40, 20, 3), 40 * 20 * 8 * 3 * 5 * 3),
    (layers.Conv2D(8, 3, strides=2), (41, 21, 3), 20 * 10 * 8 * 3 * 3 * 3),
    (layers.Conv2D(8, 3, padding="same", groups=2), (40, 20, 4), 40 * 20 * 8 * 3 * 3 * 2),
    (layers.Conv1D(8, 5, padding="same"), (40, 20), 40 * 8 * 5 * 20),
    (layers.Dense(7), (20,), 20 * 7),
    (layers.Dense(7), (40, 20), 40 * 20 * 7),
    (layers.LSTM(6), (40, 20), 40 * 4 * (20 + 6) * 6),
    (layers.GRU(6), (40, 20), 40 * 3 * (20 + 6) * 6),
    (layers.Bidirectional(layers.LSTM(6, return_sequences=True)), (40, 20), 2 * 40 * 4 * (20 + 6) * 6),
    (layers.BatchNormalization(), (40, 20), 0),
    (layers.LayerNormalization(), (40, 20), 0),
    (layers.MaxPooling1D(2), (40, 20), 0),
])
def test_products_of_a_layer(kind, shape, expected):
    assert cost.macs(stack(kind, shape=shape)) == expected


def test_products_of_attention_and_of_pooling_by_it():
    queries, others = keras.Input((10, 12)), keras.Input((30, 12))
    attended = layers.MultiHeadAttention(2, 5, value_dim=3)(queries, others)
    projections = 10 * 12 * 2 * 5 + 30 * 12 * 2 * 5 + 30 * 12 * 2 * 3 + 10 * 12 * 2 * 3
    assert cost.macs(keras.Model([queries, others], attended)) == projections + 10 * 30 * 2 * (5 + 3)
    frames = keras.Input((10, 6, 1))
    features = layers.Reshape((10, 6))(frames)
    weights = AttentionWeights(4)(features, PaddingMask()(frames))
    pooled = AttentionPooling()(features, weights)
    assert cost.macs(keras.Model(frames, pooled)) == 10 * (6 * 4 + 4) + 10 * 6


@pytest.mark.parametrize(("kinds", "expected"), [
    ([layers.Conv2D(4, 3)], 3),
    ([layers.Conv2D(4, (1, 7))], 1),
    ([layers.Conv2D(4, 3), layers.Conv2D(4, 3)], 5),
    ([layers.Conv2D(4, 3, dilation_rate=4)], 9),
    ([layers.MaxPooling2D(2), layers.Conv2D(4, 3)], 6),
    ([layers.ZeroPadding2D(2), layers.Conv2D(4, 5, strides=2), layers.BatchNormalization(),
      layers.ReLU(), layers.Conv2D(4, 3, strides=2), layers.AveragePooling2D(3)], 5 + 2 * 2 + 2 * 4),
    ([layers.Reshape((40, 60)), layers.Conv1D(4, 5), models.FrameStack(2), layers.Conv1D(4, 3)], 6 + 2 * 2),
    ([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)], 3),
    ([layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()], 3),
    ([layers.Reshape((40, 60)), layers.Conv1D(4, 3), layers.LSTM(4, return_sequences=True),
      layers.Conv1D(4, 3)], 3),
])
def test_receptive_field_of_a_stack(kinds, expected):
    assert cost.receptive_field(stack(*kinds)) == expected


def test_the_wider_of_two_branches_counts():
    image = keras.Input((40, 20, 3))
    wide = layers.Conv2D(4, 7, padding="same")(image)
    deep = layers.Conv2D(4, 3, padding="same")(layers.Conv2D(4, 3, padding="same")(image))
    network = keras.Model(image, layers.Add()([wide, deep]))
    assert (cost.receptive_field(network), cost.depth(network), cost.weighted_layers(network)) == (7, 2, 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name, blank_weights):
    options, products, deep, field = PUBLISHED[name]
    network = models.build(name.split("-")[0], canonical=True, **options)
    assert cost.depth(network) == deep
    assert cost.receptive_field(network) == field
    assert cost.macs(network) == products
    if name == "vgg16":
        assert cost.weighted_layers(network) == 16


def test_cost_table_of_all_networks(blank_weights):
    networks = {name: models.build(name, (40, 20, 1), width=0.125) for name in models.names()}
    table = cost.cost_table(networks, repeats=0)
    assert table.model.tolist() == list(models.names())
    assert table[["latency_ms", "training_seconds"]].isna().all(axis=None)
    assert table.parameters.tolist() == [network.count_params() for network in networks.values()]
    assert (table.macs > table.parameters).all() and (table.layers >= table.depth).all()
    by_name = table.set_index("model")
    assert by_name.depth.vgg19 - by_name.depth.vgg16 == 3 and by_name.name.lstm == "LSTM"
    assert by_name.receptive_field.lstm == 10  # two convolutions 5 frames long, then pairs of frames


def test_a_model_inside_a_model_and_unknown_layers_with_weights_are_refused():
    inner = stack(layers.Dense(3), shape=(40, 20))
    for layer in (layers.Conv1DTranspose(3, 2), inner):
        layer.name = "upwards"
        with pytest.raises(ValueError, match="How many products upwards"):
            cost.macs(stack(layer, shape=(40, 20)))


def test_latency_predicts_one_clip_at_a_time_and_seconds_of_training_are_means_over_runs(monkeypatch):
    network = stack(layers.Dense(3), shape=(5,))
    batches = []
    monkeypatch.setattr(network, "predict_on_batch", lambda clip: batches.append(clip.shape))
    assert cost.latency(network, repeats=4) >= 0
    assert batches == [(1, 5)] * 5  # one to warm up
    table = cost.cost_table({"small": network}, repeats=2)
    assert table.latency_ms.notna().all() and len(batches) == 8
    trained = pd.DataFrame({"model": ["a", "a", "other"], "wall_seconds": [10.0, 20.0, 99.0]})
    table = cost.cost_table({"a": network, "b": network}, repeats=0, runs=trained).set_index("model")
    assert table.training_seconds["a"] == 15 and np.isnan(table.training_seconds["b"])
