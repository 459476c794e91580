"""InceptionNet, that is Inception-v3 (Szegedy et al. 2016): kernels of several shapes side by side."""

import keras
from keras import layers

from ser_utils.models.common import batch_norm, head, imagenet, scaled

# The branches of a module by name: (channels, kernel, step) of its convolutions. A last branch pools: by the mean and a
# 1 x 1 convolution, or by the maximum where it halves frames and bins. FIVE has a 5 x 5 as in code, not as in figure 5.
FIVE = {"1x1": [(64, 1)], "5x5": [(48, 1), (64, 5)], "3x3dbl": [(64, 1), (96, 3), (96, 3)]}
HALVE_FIRST = {"3x3": [(384, 3, 2)], "3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]}
HALVE_SECOND = {"3x3": [(192, 1), (320, 3, 2)], "7x7": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)]}
WIDE = {"1x1": [(320, 1)], "3x3": [(384, 1)], "3x3dbl": [(448, 1), (384, 3)]}  # figure 7; all but 1x1 then split in two
POOL_FILTERS = (32, 64, 64)           # of FIVE: channels behind the pooling
SEVEN_FILTERS = (128, 160, 160, 192)  # of the modules on the middle grid (figure 6): channels of the 7-long kernels


def inceptionnet(input_shape, canonical=False, width=1.0, stem_pool=False, modules=(3, 4, 2),
                 dropout=0.5) -> keras.Model:
    """Inception-v3 for spectrograms, or as published.

    A 7 x 1 kernel looks along time, a 1 x 7 kernel along frequency. For spectrograms all convolutions are padded.

    canonical : the network of ``keras.applications``, layer for layer: 23,851,784 parameters for (299, 299, 3).
    stem_pool : pool after conv3, too, as published.
    modules : how many modules on each of the three grids, at most (3, 4, 2), those of Keras's network.
    """
    if len(modules) != 3 or any(not 0 <= n <= most for n, most in zip(modules, (3, 4, 2), strict=True)):
        raise ValueError(f"modules must be three numbers up to (3, 4, 2), got {modules}.")
    padding = "valid" if canonical else "same"
    inputs = keras.Input(input_shape, name="input")
    net = _Layers(width, padding)

    x = net.conv(inputs, "conv1", 32, 3, 2, padding)
    x = net.conv(x, "conv2", 32, 3, 1, padding)
    x = net.conv(x, "conv3", 64, 3)
    if stem_pool or canonical:
        x = layers.MaxPooling2D(3, 2, padding, name="conv3_pool")(x)
    x = net.conv(x, "conv4", 80, 1)
    x = net.conv(x, "conv5", 192, 3, 1, padding)
    x = layers.MaxPooling2D(3, 2, padding, name="conv5_pool")(x)

    for number, pooled in enumerate(POOL_FILTERS[: modules[0]]):
        x = net.module(x, f"mixed{number}", FIVE, pooled)
    x = net.module(x, "mixed3", HALVE_FIRST)
    for number, f in enumerate(SEVEN_FILTERS[: modules[1]], start=4):
        x = net.module(x, f"mixed{number}", {
            "1x1": [(192, 1)], "7x7": [(f, 1), (f, (1, 7)), (192, (7, 1))],
            "7x7dbl": [(f, 1), (f, (7, 1)), (f, (1, 7)), (f, (7, 1)), (192, (1, 7))]}, 192)
    x = net.module(x, "mixed8", HALVE_SECOND)
    for number in range(9, 9 + modules[2]):
        x = net.module(x, f"mixed{number}", WIDE, 192, split=True)

    outputs = (imagenet(layers.GlobalAveragePooling2D(name="pool")(x)) if canonical
               else head(x, inputs, 16 * (1 + stem_pool), dropout))
    return keras.Model(inputs, outputs, name="inceptionnet")


class _Layers:
    """Convolutions and modules for one ``width`` and one ``padding`` of the steps that halve the map."""

    def __init__(self, width, padding):
        self.width, self.padding = width, padding

    def conv(self, x, name, filters, kernel, stride=1, padding="same"):
        """Convolution, batch normalisation without scale, ReLU."""
        x = layers.Conv2D(scaled(filters, self.width), kernel, stride, padding, use_bias=False, name=name)(x)
        x = batch_norm(f"{name}_bn", scale=False)(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    def module(self, x, name, branches, pooled=None, split=False):
        """The branches side by side; with ``split`` a 1 x 3 beside a 3 x 1 kernel ends all but the first."""
        ends = []
        for branch, steps in branches.items():
            y = x
            for number, (filters, kernel, *stride) in enumerate(steps, start=1):
                layer = f"{name}_{branch}_{number}" if len(steps) > 1 else f"{name}_{branch}"
                y = self.conv(y, layer, filters, kernel, *stride, *[self.padding] * len(stride))
            if split and branch != "1x1":
                pair = [self.conv(y, f"{name}_{branch}_{a}x{b}", 384, (a, b)) for a, b in ((1, 3), (3, 1))]
                y = layers.Concatenate(name=f"{name}_{branch}_join")(pair)
            ends.append(y)
        if pooled:
            y = layers.AveragePooling2D(3, 1, "same", name=f"{name}_pool")(x)
            ends.append(self.conv(y, f"{name}_pool_1x1", pooled, 1))
        else:
            ends.append(layers.MaxPooling2D(3, 2, self.padding, name=f"{name}_pool")(x))
        return layers.Concatenate(name=f"{name}_join")(ends)
