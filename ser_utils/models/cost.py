"""What a network costs: parameters, layers, multiply-accumulates, receptive field, time for a clip and to train.

All but the times is worked out from the shapes of the layers; nothing is computed.
"""

import math
import time
from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd
from keras import layers, tree

from ser_utils.models.common import AttentionPooling, AttentionWeights, FrameStack, MaskPooling
from ser_utils.paper import MODEL_NAMES

POOLINGS = (layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D)
PADDINGS = (layers.ZeroPadding1D, layers.ZeroPadding2D)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D)
WHOLE_CLIP = (layers.RNN, layers.Bidirectional, layers.MultiHeadAttention, AttentionWeights)
WEIGHTED = (*CONVOLUTIONS, layers.Dense, *WHOLE_CLIP)


def layer_macs(layer: layers.Layer) -> int:
    """Multiply-accumulates of one layer for one clip: products with weights, and those of attention.

    Biases, activations, pooling and normalisation (which merges into the convolution before it) are not counted,
    as is customary. Raises ValueError for a layer with weights of a kind that it does not know.
    """
    steps = tree.flatten(layer.input)[0].shape[1]
    if isinstance(layer, (*CONVOLUTIONS, layers.Dense)):
        return math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    if isinstance(layer, (layers.RNN, layers.Bidirectional)):
        return steps * sum(math.prod(weight.shape) for weight in layer.trainable_weights if "kernel" in weight.name)
    if isinstance(layer, layers.MultiHeadAttention):
        queries, keys = (tensor.shape[1] for tensor in layer.input[:2])
        dense = {layer.query_dense: queries, layer.output_dense: queries,
                 layer.key_dense: keys, layer.value_dense: keys}
        products = queries * keys * layer.num_heads * (layer.key_dim + layer.value_dense.kernel.shape[-1])
        return products + sum(count * math.prod(part.kernel.shape) for part, count in dense.items())
    if isinstance(layer, AttentionWeights):
        return steps * sum(math.prod(weight.shape) for weight in layer.weights if weight.name != "bias")
    if isinstance(layer, AttentionPooling):
        return steps * layer.output.shape[-1]
    if layer.trainable_weights and not isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization)):
        raise ValueError(f"How many products {layer.name} ({type(layer).__name__}) takes is not known: ask for those "
                         "of a model within a model alone, or add the layer's kind to ser_utils/models/cost.py.")
    return 0


def macs(model: keras.Model) -> int:
    """Multiply-accumulates of a network for one clip; see :func:`layer_macs` for what counts, and raises."""
    return sum(map(layer_macs, _layers(model)))


def weighted_layers(model: keras.Model) -> int:
    """Layers with weights to learn, normalisation aside; a recurrent or an attention layer counts as one."""
    return sum(isinstance(layer, WEIGHTED) for layer in _layers(model))


def depth(model: keras.Model) -> int:
    """Layers with weights on the longest way from input to output: 16 for VGG16, 18 for ResNet-18."""
    return max(deep for deep, _, _ in _reach(model).values())


def receptive_field(model: keras.Model) -> int:
    """How many input frames a frame of the last feature map sees, up to the first layer that sees the whole clip.

    Frames are counted along axis 1. The field grows with every convolution and pooling by (kernel - 1) times the
    product of all strides before it (Araujo, Norris and Sim 2019); it may exceed the clip.
    """
    return max(field for _, field, _ in _reach(model).values() if field is not None)


def _reach(model: keras.Model) -> dict[int, tuple]:
    """By a tensor's id: layers with weights behind it, frames it sees (None: all), frames from one to the next."""
    reach = {id(tensor): (0, 1, 1) for tensor in model.inputs}
    for layer in _layers(model):
        deep, fields, steps = zip(*(reach[id(tensor)] for tensor in tree.flatten(layer.input)), strict=True)
        step, moved = max(steps), _kernel_and_stride(layer)
        field = max(fields) + (moved[0] - 1) * step if moved and None not in fields else None
        after = (max(deep) + isinstance(layer, WEIGHTED), field, step * moved[1] if moved else step)
        reach |= {id(tensor): after for tensor in tree.flatten(layer.output)}
    return reach


def _kernel_and_stride(layer) -> tuple[int, int] | None:
    """Frames that a frame of the output sees of the input, and frames between two; None: it sees the whole clip."""
    if isinstance(layer, WHOLE_CLIP):
        return None
    if isinstance(layer, CONVOLUTIONS):
        return (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1, layer.strides[0]
    if isinstance(layer, POOLINGS):
        return tuple(np.atleast_1d(size)[0].item() for size in (layer.pool_size, layer.strides))
    if isinstance(layer, FrameStack):
        return layer.size, layer.size
    if isinstance(layer, MaskPooling):
        return layer.stride, layer.stride
    before, after = (tree.flatten(tensors)[0].shape[1] for tensors in (layer.input, layer.output))
    return (1, 1) if isinstance(layer, PADDINGS) or before == after else None


def _layers(model: keras.Model) -> list[layers.Layer]:
    """The layers of a model behind its inputs, each after those it builds on."""
    return [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def latency(model: keras.Model, repeats: int = 10) -> float:
    """Milliseconds from one clip to its probabilities on this machine: the median of ``repeats`` predictions.

    A first prediction, which prepares the network, is not counted, nor is the extraction of features.
    """
    clip = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    moments = []
    for _ in range(repeats + 1):
        model.predict_on_batch(clip)
        moments.append(time.perf_counter())
    return 1000 * float(np.median(np.diff(moments)))


def cost_table(networks: Mapping[str, keras.Model], repeats: int = 10,
               runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """The costs of networks (name -> network), one row each, in the order given.

    Columns: model, name (as in the tables), layers (:func:`weighted_layers`), depth, parameters (all, running
    averages included), macs, receptive_field (frames), latency_ms (NaN for 0 ``repeats``), training_seconds (mean
    wall time of the network's ``runs``, a table of ``runs.table``; NaN without).
    """
    seconds = {} if runs is None else runs.groupby("model").wall_seconds.mean()
    return pd.DataFrame([{
        "model": model, "name": MODEL_NAMES.get(model, model), "layers": weighted_layers(network),
        "depth": depth(network), "parameters": network.count_params(), "macs": macs(network),
        "receptive_field": receptive_field(network),
        "latency_ms": latency(network, repeats) if repeats else math.nan,
        "training_seconds": seconds.get(model, math.nan),
    } for model, network in networks.items()])
