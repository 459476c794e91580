"""AlexNet (Krizhevsky, Sutskever and Hinton 2012): large kernels first, overlapping pooling."""

import keras
from keras import layers

from ser_utils.models.common import conv_relu, head, scaled

FILTERS = (96, 256, 384, 384, 256)
KERNELS = (11, 5, 3, 3, 3)


def alexnet(input_shape, width=1.0, stem_stride=2, dropout=0.5) -> keras.Model:
    """AlexNet for spectrograms.

    Kept are the five convolutions and the overlapping pooling; batch normalisation takes the place of local response
    normalisation, and the head of ``common.head`` that of flattening and 58 million parameters in dense layers.

    stem_stride : step of conv1; 4 as published.
    """
    inputs = keras.Input(input_shape, name="input")
    x = inputs
    for number, (filters, kernel) in enumerate(zip(FILTERS, KERNELS, strict=True), start=1):
        stride = stem_stride if number == 1 else 1
        x = conv_relu(x, scaled(filters, width), kernel, stride, name=f"conv{number}")
        if number <= 2:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"conv{number}_pool")(x)
    outputs = head(x, inputs, 4 * stem_stride, dropout, hidden=(scaled(512, width),))
    return keras.Model(inputs, outputs, name="alexnet")
