"""What a network costs: parameters, layers, multiply-accumulates, receptive field, time for a clip and to train.

All but the times is worked out from the shapes of the layers, of networks with one input and no models inside them.
"""

import math
import timeit
from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd
from keras import layers, tree

from ser_utils.models.common import AttentionPooling, AttentionWeights, FrameStack, MaskPooling
from ser_utils.paper import MODEL_NAMES

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D)
POOLINGS = (layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D)
WHOLE_CLIP = (layers.RNN, layers.Bidirectional, layers.MultiHeadAttention, AttentionWeights)


def layer_macs(layer: layers.Layer) -> int:
    """Multiply-accumulates of one layer for one clip: products with weights and of attention alone, as is customary."""
    x = tree.flatten(layer.output if isinstance(layer, CONVOLUTIONS) else layer.input)[0]
    positions = math.prod(x.shape[1:-1])
    products = sum(math.prod(weight.shape) for weight in layer.trainable_weights
                   if len(weight.shape) > 1 and weight.name != "bias")
    if isinstance(layer, layers.MultiHeadAttention):  # of a clip with itself
        products += positions * layer.num_heads * 2 * layer.key_dim
    return positions * (layer.output.shape[-1] if isinstance(layer, AttentionPooling) else products)


def receptive_field(model: keras.Model) -> int:
    """How many input frames a frame of the last feature map sees, up to the first layer that sees the whole clip.

    Frames are counted along axis 1. The field grows with every convolution and pooling by (kernel - 1) times the
    product of all strides before it (Araujo, Norris and Sim 2019); it may exceed the clip.
    """
    reach = {id(tensor): (1, 1) for tensor in model.inputs}  # frames it sees (0: all), frames from one to the next
    for layer in model.layers[1:]:
        fields, steps = zip(*(reach[id(tensor)] for tensor in tree.flatten(layer.input)), strict=True)
        size, stride = _window(layer)
        seen = max(fields) + (size - 1) * max(steps) if size and all(fields) else 0
        reach |= {id(tensor): (seen, max(steps) * stride) for tensor in tree.flatten(layer.output)}
    return max(field for field, _ in reach.values())


def _window(layer: layers.Layer) -> tuple[int, int]:
    """Frames that a frame of the output sees of the input (0: the whole clip), and frames between two."""
    if isinstance(layer, (*CONVOLUTIONS, *POOLINGS)):
        return (layer.kernel_size if isinstance(layer, CONVOLUTIONS) else layer.pool_size)[0], layer.strides[0]
    if isinstance(layer, (FrameStack, MaskPooling)):
        return (layer.size if isinstance(layer, FrameStack) else layer.stride,) * 2
    before, after = (tree.flatten(tensors)[0].shape[1] for tensors in (layer.input, layer.output))
    padding = isinstance(layer, (layers.ZeroPadding1D, layers.ZeroPadding2D))
    return (0 if isinstance(layer, WHOLE_CLIP) or before != after and not padding else 1), 1


def latency(model: keras.Model, repeats: int) -> float:
    """Milliseconds from a log-mel to its probabilities here: the median of ``repeats`` predictions after a first."""
    clip = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    _, *seconds = timeit.repeat(lambda: model.predict_on_batch(clip), number=1, repeat=repeats + 1)
    return 1000 * float(np.median(seconds))


def cost_table(networks: Mapping[str, keras.Model], repeats: int, runs: pd.DataFrame) -> pd.DataFrame:
    """The costs of networks (name -> network), one row each, in the order given.

    Columns: model, name, layers (with products; a recurrent or an attention layer counts as one), parameters (running
    averages included), macs, receptive_field (frames), latency_ms, training_seconds (mean of ``runs.table`` or NaN).
    """
    seconds, rows = runs.groupby("model").wall_seconds.mean(), []
    for model, network in networks.items():
        weighted = [layer for layer in network.layers if layer.trainable_weights
                    and not isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization))]
        rows.append({
            "model": model, "name": MODEL_NAMES.get(model, model), "layers": len(weighted),
            "parameters": network.count_params(), "macs": sum(map(layer_macs, network.layers[1:])),
            "receptive_field": receptive_field(network),
            "latency_ms": latency(network, repeats),
            "training_seconds": seconds.get(model, math.nan)})
    return pd.DataFrame(rows)
