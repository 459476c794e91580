"""Transformer encoder (Vaswani et al. 2017): every frame looks at every other frame, in several heads."""

import keras
import numpy as np
from keras import layers, ops

from ser_utils.models import common


def transformer(input_shape, width=1.0, dim=192, depth=4, heads=4, downsample=2, front_2d=0, dropout=0.2,
                stochastic_depth=0.1) -> keras.Model:
    """Convolutional stem, sinusoidal positions, encoder layers, attention over time.

    Zeros appended to a clip leave its probabilities unchanged; in training ``front_2d``'s normalisation counts them.

    dim : features of a frame inside the encoder; times ``width`` a multiple of ``heads``.
    depth, heads : number of encoder layers, and of attention heads in each.
    downsample : 1, 2 or 4: input frames to a frame of the encoder.
    front_2d : channels of two convolutions over frames and bands (``common.convolve_2d``); 0 takes two along time.
    dropout : also inside the encoder layers.
    stochastic_depth : chance to skip a branch of the last layer in training, less before it (Huang et al. 2016).
    """
    if downsample not in (1, 2, 4):
        raise ValueError(f"downsample must be 1, 2 or 4, got {downsample}.")
    dim = common.scaled(dim, width)
    if dim % heads:
        raise ValueError(f"The width of {dim} features is no multiple of heads={heads}; change either.")
    inputs = keras.Input(input_shape, name="input")
    mask = common.PaddingMask(name="mask")(inputs)
    if front_2d:
        x, mask = common.convolve_2d(inputs, mask, common.scaled(front_2d, width), downsample, "stem")
        x = common.ApplyMask(name="stem_mask")(layers.Dense(dim, name="stem_dense")(x), mask)
    else:
        x = layers.Reshape((-1, input_shape[1] * input_shape[2]), name="stem_flatten")(inputs)
        for number, stride in enumerate((2 if downsample == 4 else 1, 2 if downsample > 1 else 1), start=1):
            x = layers.ZeroPadding1D(1, name=f"stem_pad{number}")(x)
            x = layers.Conv1D(dim, 3, stride, use_bias=False, name=f"stem_conv{number}")(x)
            if stride > 1:
                mask = common.MaskPooling(stride, name=f"mask_pool{number}")(mask)
            x = common.batch_norm(f"stem_bn{number}")(x, mask=mask)
            x = layers.Activation("gelu", name=f"stem_gelu{number}")(x)
            x = common.ApplyMask(name=f"stem_mask{number}")(x, mask)  # padding stays 0: none leaks into the last frames
    x = PositionalEncoding(name="position")(x)
    x = layers.Dropout(dropout, name="position_dropout")(x)
    for number in range(1, depth + 1):
        x = _encoder_layer(x, mask, heads, dropout, stochastic_depth * number / depth, f"encoder{number}")
    x = layers.LayerNormalization(name="norm")(x)
    x = common.pool_time(x, mask)
    return keras.Model(inputs, common.classify(x, dropout), name="transformer")


def _encoder_layer(x, mask, heads, dropout, skip_rate, name):
    """x + attention(norm(x)), then x + feed-forward(norm(x)) (pre-norm, Xiong et al. 2020), 4 x as wide inside."""
    dim = x.shape[-1]
    y = layers.LayerNormalization(name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, name=f"{name}_attention")
    y, _ = attention(y, y, value_mask=mask, return_attention_scores=True)
    x = layers.Add(name=f"{name}_add1")([x, _drop(y, dropout, skip_rate, f"{name}_drop1")])

    y = layers.LayerNormalization(name=f"{name}_norm2")(x)
    y = layers.Dense(4 * dim, activation="gelu", name=f"{name}_dense1")(y)
    y = layers.Dense(dim, name=f"{name}_dense2")(y)
    return layers.Add(name=f"{name}_add2")([x, _drop(y, dropout, skip_rate, f"{name}_drop2")])


def _drop(y, dropout, skip_rate, name):
    """Dropout, then stochastic depth: the whole branch at once, clip by clip."""
    y = layers.Dropout(dropout, name=name)(y)
    return layers.Dropout(skip_rate, noise_shape=(None, 1, 1), name=f"{name}_path")(y) if skip_rate else y


@keras.saving.register_keras_serializable(package="ser_utils")
class PositionalEncoding(layers.Layer):
    """Adds sines and cosines of the frame number, sin(t / 10000^(2i/dim)), to (batch, frames, dim)."""

    def call(self, x):
        half = x.shape[-1] // 2
        rates = ops.exp(ops.arange(half, dtype="float32") * (-np.log(10000.0) / half))
        angles = ops.arange(ops.shape(x)[1], dtype="float32")[:, None] * rates[None, :]
        return x + ops.cast(ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1), x.dtype)
