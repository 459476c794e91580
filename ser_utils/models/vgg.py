"""VGG16 and VGG19 (Simonyan and Zisserman 2015): only 3 x 3 convolutions, in five blocks of up to 512 channels."""

import keras
from keras import layers

from ser_utils.models.common import conv_relu, head, imagenet, scaled

FILTERS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def vgg(name, input_shape, canonical=False, width=1.0, stem_stride=1, dropout=0.5) -> keras.Model:
    """VGG16 or VGG19 (``name``) for spectrograms, or as published.

    Changed for spectrograms: batch normalisation after every convolution (without it the network hardly trains from
    960 clips), no pooling after the last block, and the head of ``common.head`` for the dense layers.

    canonical : the network of the paper without its dropout, as in ``keras.applications``, for (224, 224, 3).
    stem_stride : step of the first convolution; 2 makes the network four times as cheap.
    """
    inputs = keras.Input(input_shape, name="input")
    x = inputs
    for block, (filters, count) in enumerate(zip(FILTERS, CONVOLUTIONS[name], strict=True), start=1):
        for number in range(1, count + 1):
            layer = f"conv{block}_{number}"
            if canonical:
                x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=layer)(x)
            else:
                stride = stem_stride if layer == "conv1_1" else 1
                x = conv_relu(x, scaled(filters, width), 3, stride, name=layer)
        if canonical or block < 5:
            padding = "valid" if canonical else "same"
            x = layers.MaxPooling2D(2, padding=padding, name=f"conv{block}_pool")(x)
    if not canonical:
        outputs = head(x, inputs, 16 * stem_stride, dropout, hidden=(scaled(512, width),))
        return keras.Model(inputs, outputs, name=name)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4096, activation="relu", name="fc6")(x)
    x = layers.Dense(4096, activation="relu", name="fc7")(x)
    return keras.Model(inputs, imagenet(x), name=name)
