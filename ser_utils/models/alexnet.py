"""AlexNet (Krizhevsky, Sutskever and Hinton 2012): large kernels first, overlapping pooling."""

import keras
from keras import layers, ops

from ser_utils.models.common import conv_relu, head, imagenet, scaled

FILTERS = (96, 256, 384, 384, 256)
KERNELS = (11, 5, 3, 3, 3)


@keras.saving.register_keras_serializable(package="ser_utils")
class LocalResponseNormalization(layers.Layer):
    """b_i = a_i / (2 + 0.0001 sum_j a_j^2) ^ 0.75, over the five channels j around i (section 3.3)."""

    def call(self, x):
        squares = ops.pad(ops.square(x), [[0, 0], [0, 0], [0, 0], [2, 2]])
        total = sum(squares[..., i : i + x.shape[-1]] for i in range(5))
        return x / (2 + 1e-4 * total) ** 0.75


def alexnet(input_shape, canonical=False, width=1.0, stem_stride=2, dropout=0.5) -> keras.Model:
    """AlexNet for spectrograms, or as published.

    Kept are the five convolutions and two of three overlapping poolings. Batch normalisation replaces local response
    normalisation, and the head of ``common.head`` flattening and 59 million parameters in dense layers.

    canonical : the network of 2012, 60,965,224 parameters for (227, 227, 3). Its conv2, conv4 and conv5 are in two
        halves, one a graphics card, which see half of the channels each.
    stem_stride : step of conv1; 4 as published.
    """
    inputs = keras.Input(input_shape, name="input")
    if canonical:
        return keras.Model(inputs, _original(inputs), name="alexnet")
    x = inputs
    for number, (filters, kernel) in enumerate(zip(FILTERS, KERNELS, strict=True), start=1):
        x = conv_relu(x, scaled(filters, width), kernel, stem_stride if number == 1 else 1, name=f"conv{number}")
        if number <= 2:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"conv{number}_pool")(x)
    outputs = head(x, inputs, 4 * stem_stride, dropout, hidden=(scaled(512, width),))
    return keras.Model(inputs, outputs, name="alexnet")


def _original(x):
    """Section 3 of the paper: convolution, ReLU, normalisation (1, 2), pooling (1, 2, 5); dense layers."""
    for number, (filters, kernel) in enumerate(zip(FILTERS, KERNELS, strict=True), start=1):
        stride, padding = (4, "valid") if number == 1 else (1, "same")
        groups = 2 if number in (2, 4, 5) else 1
        x = layers.Conv2D(filters, kernel, stride, padding, groups=groups, activation="relu", name=f"conv{number}")(x)
        if number <= 2:
            x = LocalResponseNormalization(name=f"conv{number}_norm")(x)
        if number in (1, 2, 5):
            x = layers.MaxPooling2D(3, strides=2, name=f"conv{number}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = layers.Dense(4096, activation="relu", name=f"fc{number}")(x)
        x = layers.Dropout(0.5, name=f"fc{number}_dropout")(x)
    return imagenet(x)
