"""What a network costs: all but the times is worked out from the shapes of its layers, none of them a model."""

import math
import timeit
from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd
from keras import layers, tree

from ser_utils.models.common import AttentionPooling
from ser_utils.paper import MODEL_NAMES


def layer_macs(layer: layers.Layer) -> int:
    """Multiply-accumulates of one layer for one clip: products with weights and of attention alone, as is customary."""
    x = tree.flatten(layer.output if isinstance(layer, (layers.Conv1D, layers.Conv2D)) else layer.input)[0]
    positions = math.prod(x.shape[1:-1])
    products = sum(math.prod(weight.shape) for weight in layer.trainable_weights
                   if len(weight.shape) > 1 and weight.name != "bias")
    if isinstance(layer, layers.MultiHeadAttention):  # of a clip with itself
        products += positions * layer.num_heads * 2 * layer.key_dim
    return positions * (layer.output.shape[-1] if isinstance(layer, AttentionPooling) else products)


def latency(model: keras.Model, repeats: int) -> float:
    """Milliseconds from a log-mel to its probabilities here: the median of ``repeats`` predictions after a first."""
    clip = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    _, *seconds = timeit.repeat(lambda: model.predict_on_batch(clip), number=1, repeat=repeats + 1)
    return 1000 * float(np.median(seconds))


def cost_table(networks: Mapping[str, keras.Model], repeats: int, runs: pd.DataFrame) -> pd.DataFrame:
    """The costs of networks (name -> network), one row each, in the order given.

    Columns: model, name, layers (with products; a recurrent or an attention layer counts as one), parameters (running
    averages included), macs, latency_ms, training_seconds (mean of ``runs.table`` or NaN).
    """
    seconds, rows = runs.groupby("model").wall_seconds.mean(), []
    for model, network in networks.items():
        weighted = [layer for layer in network.layers if layer.trainable_weights
                    and not isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization))]
        rows.append({"model": model, "name": MODEL_NAMES.get(model, model), "layers": len(weighted),
                     "parameters": network.count_params(), "macs": sum(map(layer_macs, network.layers[1:])),
                     "latency_ms": latency(network, repeats), "training_seconds": seconds.get(model, math.nan)})
    return pd.DataFrame(rows)
