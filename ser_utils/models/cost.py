"""What a network costs: parameters, layers, multiply-accumulates, receptive field, time for a clip and to train.

All but the times is worked out from the shapes of the layers; nothing is computed.
"""

import math
import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from keras import layers

from ser_utils.models import AttentionPooling, FrameStack
from ser_utils.models.common import AttentionWeights, MaskPooling
from ser_utils.paper import MODEL_NAMES

POOLINGS = (layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D)
PADDINGS = (layers.ZeroPadding1D, layers.ZeroPadding2D)
ELEMENTWISE = (layers.BatchNormalization, layers.LayerNormalization)
WHOLE_CLIP = (layers.RNN, layers.Bidirectional, layers.MultiHeadAttention, AttentionWeights)
WEIGHTED = (layers.Conv1D, layers.Conv2D, layers.Dense, *WHOLE_CLIP)


def layer_macs(layer: layers.Layer) -> int:
    """Multiply-accumulates of one layer for one clip.

    Products with weights, and those of attention (queries with keys, weights with values), are counted.
    Biases, activations, pooling by maximum or plain mean, and normalisation (one product a value, which
    merges into the convolution before it) are not, as is customary.

    Raises
    ------
    ValueError
        The layer is of a kind with weights that this function does not know.
    """
    if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Dense)):
        return math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    if isinstance(layer, (layers.RNN, layers.Bidirectional)):
        directions = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
        return _steps(layer) * sum(math.prod(kernel.shape) for direction in directions
                                   for kernel in (direction.cell.kernel, direction.cell.recurrent_kernel))
    if isinstance(layer, layers.MultiHeadAttention):
        queries, keys = (tensor.shape[1] for tensor in layer.input[:2])
        own, others = (layer.query_dense, layer.output_dense), (layer.key_dense, layer.value_dense)
        projections = sum(steps * math.prod(dense.kernel.shape)
                          for steps, group in ((queries, own), (keys, others)) for dense in group)
        value_dim = layer.value_dense.kernel.shape[-1]
        return projections + queries * keys * layer.num_heads * (layer.key_dim + value_dim)
    if isinstance(layer, AttentionWeights):
        return _steps(layer) * sum(math.prod(weight.shape) for weight in layer.weights if weight.name != "bias")
    if isinstance(layer, AttentionPooling):
        return _steps(layer) * layer.output.shape[-1]
    if layer.trainable_weights and not isinstance(layer, ELEMENTWISE):
        raise ValueError(f"How many products {layer.name} ({type(layer).__name__}) takes is not known here; "
                         "add its kind to ser_utils/cost.py.")
    return 0


def macs(model: keras.Model) -> int:
    """Multiply-accumulates of a network for one clip; see :func:`layer_macs` for what counts, and raises."""
    return sum(layer_macs(layer) for layer in _layers(model))


def weighted_layers(model: keras.Model) -> int:
    """Number of layers with weights to learn: convolutions, dense, recurrent and attention layers.

    Normalisation does not count; both directions of a recurrent layer, and all heads and projections of an
    attention layer, count as one.
    """
    return sum(isinstance(layer, WEIGHTED) for layer in _layers(model))


def depth(model: keras.Model) -> int:
    """Layers with weights (see :func:`weighted_layers`) on the longest way from input to output.

    This is the number that networks are named by: 16 for VGG16, 18 for ResNet-18.
    """
    return max(reach.depth for reach in _walk(model).values())


def receptive_field(model: keras.Model) -> int:
    """How many input frames a frame of the last feature map sees, up to the first layer that sees all frames.

    Frames are counted along axis 1. Layers that see the whole clip are recurrent and attention layers, and
    whatever does away with the axis, such as flattening. The field of a map grows with every convolution and
    pooling by (kernel - 1) times the product of all strides before it (Araujo, Norris and Sim 2019); it may
    exceed the clip.
    """
    return max(reach.field for reach in _walk(model).values() if reach.field is not None)


class _Reach(NamedTuple):
    """What lies behind a tensor: layers with weights, frames seen (None: all), frames from one to the next."""

    depth: int
    field: int | None
    step: int


def _walk(model: keras.Model) -> dict[int, _Reach]:
    """The reach of every tensor of a model, by the tensor's id."""
    reaches = {id(tensor): _Reach(0, 1, 1) for tensor in model.inputs}
    for layer in _layers(model):
        after = _after(layer, [reaches[id(tensor)] for tensor in _tensors(layer.input)])
        reaches |= dict.fromkeys(map(id, _tensors(layer.output)), after)
    return reaches


def _after(layer, before: list[_Reach]) -> _Reach:
    """The reach behind a layer's output, from those of its inputs."""
    deep = max(reach.depth for reach in before) + isinstance(layer, WEIGHTED)
    step = max(reach.step for reach in before)
    if any(reach.field is None for reach in before) or isinstance(layer, WHOLE_CLIP):
        return _Reach(deep, None, step)
    field = max(reach.field for reach in before)
    if isinstance(layer, (layers.Conv1D, layers.Conv2D)):
        kernel, stride = (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1, layer.strides[0]
    elif isinstance(layer, POOLINGS):
        kernel, stride = _along_time(layer.pool_size), _along_time(layer.strides)
    elif isinstance(layer, FrameStack):
        kernel = stride = layer.size
    elif isinstance(layer, MaskPooling):
        kernel = stride = layer.stride
    elif isinstance(layer, PADDINGS) or _tensors(layer.output)[0].shape[1] == _steps(layer):
        kernel = stride = 1
    else:
        return _Reach(deep, None, step)
    return _Reach(deep, field + (kernel - 1) * step, step * stride)


def _layers(model: keras.Model) -> list[layers.Layer]:
    """The layers of a model behind its inputs, each after those it builds on."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise ValueError(f"{model.name} holds a whole model, {layer.name}, as one of its layers. Ask for the "
                             f"costs of that one: model.get_layer({layer.name!r}).")
    return [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def _along_time(size) -> int:
    return size[0] if isinstance(size, (tuple, list)) else size


def _tensors(tensors) -> list:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


def _steps(layer) -> int:
    """Frames of a layer's (first) input."""
    return _tensors(layer.input)[0].shape[1]


def latency(model: keras.Model, repeats: int = 10) -> float:
    """Milliseconds from one clip to its probabilities on this machine: the median of ``repeats`` predictions.

    A first prediction, which prepares the network, is not counted, nor is the extraction of features.
    """
    clip = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    model.predict_on_batch(clip)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        model.predict_on_batch(clip)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def cost_table(networks: Mapping[str, keras.Model], repeats: int = 10,
               runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """The costs of networks, one row each, in the order given.

    Parameters
    ----------
    networks : name -> network (``models.build``, ``Session.network``).
    repeats : predictions timed, see :func:`latency`; 0 times nothing.
    runs : finished runs of these networks (``runs.table``).

    Returns
    -------
    Columns: model, name (as in the tables), layers (:func:`weighted_layers`), depth, parameters (all,
    running averages included), macs, receptive_field (frames of the network's input), latency_ms (NaN if
    not timed), training_seconds (mean wall time of a run, on the machines that trained them; NaN without).

    Raises
    ------
    ValueError
        A network holds a layer that :func:`layer_macs` does not know, or another model as a layer.
    """
    seconds = {} if runs is None else runs.groupby("model").wall_seconds.mean().to_dict()
    return pd.DataFrame([{
        "model": model, "name": MODEL_NAMES.get(model, model), "layers": weighted_layers(network),
        "depth": depth(network), "parameters": network.count_params(), "macs": macs(network),
        "receptive_field": receptive_field(network),
        "latency_ms": latency(network, repeats) if repeats else math.nan,
        "training_seconds": seconds.get(model, math.nan),
    } for model, network in networks.items()])
