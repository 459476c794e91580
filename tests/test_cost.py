"""ser_utils.models.cost: the published numbers of published networks, and by hand what they have no layers of."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from ser_utils import models
from ser_utils.models import cost
from ser_utils.models.common import AttentionPooling, AttentionWeights, PaddingMask

# (name, options, trainable parameters, multiply-accumulates, layers with weights), as in the papers, in torchvision and
# in keras.applications.
PUBLISHED = [
    ("vgg16", {}, 138_357_544, 15_470_264_320, 16), ("vgg19", {}, 143_667_240, 19_632_062_464, 19),
    ("inceptionnet", {}, 23_817_352, pytest.approx(5.7e9, rel=0.01), 95),  # published as 5.7 billion
    ("resnet", {"depth": 18}, 11_689_512, 1_814_073_344, 21),
    ("resnet", {"depth": 34}, 21_797_672, 3_663_761_408, 37), ("resnet", {"depth": 50}, 25_583_592, 3_857_973_248, 54)]
TRAINED = pd.DataFrame({"model": ["a", "a", "other"], "wall_seconds": [10.0, 20.0, 99.0]})


@pytest.mark.parametrize(("kind", "shape", "expected"), [
    (layers.Conv1D(8, 5, padding="same"), (40, 20), 40 * 8 * 5 * 20),
    (layers.Dense(7), (40, 20), 40 * 20 * 7), (layers.LSTM(6), (40, 20), 40 * 4 * (20 + 6) * 6),
    (layers.Bidirectional(layers.LSTM(6, return_sequences=True)), (40, 20), 2 * 40 * 4 * (20 + 6) * 6)])
def test_products_of_a_layer(kind, shape, expected):
    kind(keras.Input(shape))
    assert cost.layer_macs(kind) == expected


def test_products_of_attention_and_of_pooling_by_it():
    x, attention = keras.Input((10, 12)), layers.MultiHeadAttention(2, 5)
    attention(x, x)
    assert cost.layer_macs(attention) == 4 * 10 * 12 * 2 * 5 + 10 * 10 * 2 * (5 + 5)
    frames, weights, pooling = keras.Input((10, 6)), AttentionWeights(4), AttentionPooling()
    pooling(frames, weights(frames, PaddingMask()(keras.Input((10, 6, 1)))))
    assert (cost.layer_macs(weights), cost.layer_macs(pooling)) == (10 * (6 * 4 + 4), 10 * 6)


@pytest.mark.parametrize("name, options, parameters, products, count", PUBLISHED)
def test_published_networks(name, options, parameters, products, count, blank_weights, monkeypatch):
    monkeypatch.setattr(cost, "latency", lambda *_: np.nan)
    shape = (299, 299, 3) if name == "inceptionnet" else (224, 224, 3)
    model = models.build(name, shape, canonical=True, **options)
    assert model.output.shape == (None, 1000)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == parameters
    row = cost.cost_table({name: model}, 0, TRAINED).iloc[0]
    assert (row.macs, row.layers) == (products, count)


def test_latency_predicts_one_clip_at_a_time_and_seconds_of_training_are_means_over_runs(monkeypatch):
    x = keras.Input((5,))
    network = keras.Model(x, layers.Dense(3)(x))
    batches = []
    monkeypatch.setattr(network, "predict_on_batch", lambda clip: batches.append(clip.shape))
    table = cost.cost_table({"a": network, "lstm": network}, repeats=2, runs=TRAINED).set_index("model")
    assert batches == [(1, 5)] * 6 and (table.latency_ms >= 0).all()  # one more to warm up
    assert table.training_seconds["a"] == 15 and np.isnan(table.training_seconds["lstm"])
    assert table.name["lstm"] == "LSTM" and table.parameters["a"] == 18
