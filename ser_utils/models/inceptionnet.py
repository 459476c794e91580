"""InceptionNet, that is Inception-v3 (Szegedy et al. 2016): kernels of several shapes side by side."""

import keras
from keras import layers

from ser_utils.models.common import batch_norm, head, scaled

POOL_FILTERS = (32, 64, 64)  # modules on the finest grid (figure 5 of the paper): channels after pooling
SEVEN_FILTERS = (128, 160, 160, 192)  # modules on the middle grid (figure 6): channels of the 7-long kernels


def inceptionnet(input_shape, classes=8, canonical=False, width=1.0, stem_stride=2, stem_pool=False,
                 modules=(3, 4, 2), bands=3, pooling="attention", dropout=0.5) -> keras.Model:
    """Inception-v3 for spectrograms, or as published.

    A 7 x 1 kernel looks along time, a 1 x 7 kernel along frequency. Changed for spectrograms: padded
    convolutions throughout, one pooling instead of two in the stem, so a frame of the last map spans
    ``8 x stem_stride`` input frames instead of 32, and the head of ``common.head``.

    Parameters
    ----------
    input_shape : (frames, bins, channels); as published (299, 299, 3).
    canonical : the network of ``keras.applications``, layer for layer: 23,851,784 parameters.
    width : factor on all channel counts.
    stem_stride : step of conv1, 1 or 2 (as published).
    stem_pool : pool after conv3, too, as published.
    modules : how many modules on each of the three grids, at most (3, 4, 2), the published numbers.
    bands, pooling, dropout : see ``common.head``.
    """
    if len(modules) != 3 or any(not 0 <= n <= most for n, most in zip(modules, (3, 4, 2), strict=True)):
        raise ValueError(f"modules must be three numbers up to (3, 4, 2), got {modules}.")
    padding = "same"
    if canonical:
        stem_stride, stem_pool, padding = 2, True, "valid"
        if min(input_shape[:2]) < 75:
            raise ValueError(f"Inception-v3 as published needs at least 75 frames and 75 bins, got {input_shape}.")
    inputs = keras.Input(input_shape, name="input")
    unit = _Unit(width)

    x = unit(inputs, 32, 3, "conv1", stride=stem_stride, padding=padding)
    x = unit(x, 32, 3, "conv2", padding=padding)
    x = unit(x, 64, 3, "conv3")
    if stem_pool:
        x = layers.MaxPooling2D(3, 2, padding, name="conv3_pool")(x)
    x = unit(x, 80, 1, "conv4")
    x = unit(x, 192, 3, "conv5", padding=padding)
    x = layers.MaxPooling2D(3, 2, padding, name="conv5_pool")(x)

    for number in range(modules[0]):
        x = _module_five(unit, x, POOL_FILTERS[number], f"mixed{number}")
    x = _reduce_first(unit, x, padding, "mixed3")
    for number in range(modules[1]):
        x = _module_seven(unit, x, SEVEN_FILTERS[number], f"mixed{number + 4}")
    x = _reduce_second(unit, x, padding, "mixed8")
    for number in range(modules[2]):
        x = _module_wide(unit, x, f"mixed{number + 9}")

    if canonical:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        outputs = layers.Dense(classes, activation="softmax", dtype="float32", name="predictions")(x)
    else:
        outputs = head(x, inputs, 8 * stem_stride * (1 + stem_pool), classes, bands, pooling, dropout)
    return keras.Model(inputs, outputs, name="inceptionnet")


class _Unit:
    """Convolution, batch normalisation without scale, ReLU; called with the unscaled channel count."""

    def __init__(self, width):
        self.width = width

    def __call__(self, x, filters, kernel, name, stride=1, padding="same"):
        filters = scaled(filters, self.width)
        x = layers.Conv2D(filters, kernel, stride, padding, use_bias=False, name=name)(x)
        x = batch_norm(f"{name}_bn", scale=False)(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    def chain(self, x, steps, name):
        """Units one after another; ``steps`` lists (channels, kernel)."""
        for number, (filters, kernel) in enumerate(steps, start=1):
            x = self(x, filters, kernel, f"{name}_{number}")
        return x


def _average(x, name):
    return layers.AveragePooling2D(3, 1, "same", name=name)(x)


def _join(branches, name):
    return layers.Concatenate(name=f"{name}_join")(branches)


def _module_five(unit, x, pool_filters, name):
    """Branches 1 x 1; 5 x 5; twice 3 x 3; pooling."""
    one = unit(x, 64, 1, f"{name}_1x1")
    five = unit.chain(x, [(48, 1), (64, 5)], f"{name}_5x5")
    double = unit.chain(x, [(64, 1), (96, 3), (96, 3)], f"{name}_3x3dbl")
    pooled = unit(_average(x, f"{name}_pool"), pool_filters, 1, f"{name}_pool_1x1")
    return _join([one, five, double, pooled], name)


def _reduce_first(unit, x, padding, name):
    """Half the frames and bins: strided 3 x 3; strided double 3 x 3; pooling."""
    three = unit(x, 384, 3, f"{name}_3x3", stride=2, padding=padding)
    double = unit.chain(x, [(64, 1), (96, 3)], f"{name}_3x3dbl")
    double = unit(double, 96, 3, f"{name}_3x3dbl_3", stride=2, padding=padding)
    pooled = layers.MaxPooling2D(3, 2, padding, name=f"{name}_pool")(x)
    return _join([three, double, pooled], name)


def _module_seven(unit, x, filters, name):
    """Branches 1 x 1; 1 x 7 then 7 x 1; the same twice; pooling."""
    f = filters
    one = unit(x, 192, 1, f"{name}_1x1")
    seven = unit.chain(x, [(f, 1), (f, (1, 7)), (192, (7, 1))], f"{name}_7x7")
    steps = [(f, 1), (f, (7, 1)), (f, (1, 7)), (f, (7, 1)), (192, (1, 7))]
    double = unit.chain(x, steps, f"{name}_7x7dbl")
    pooled = unit(_average(x, f"{name}_pool"), 192, 1, f"{name}_pool_1x1")
    return _join([one, seven, double, pooled], name)


def _reduce_second(unit, x, padding, name):
    """Half the frames and bins again: strided 3 x 3; 7 x 7 then strided 3 x 3; pooling."""
    three = unit(x, 192, 1, f"{name}_3x3_1")
    three = unit(three, 320, 3, f"{name}_3x3_2", stride=2, padding=padding)
    seven = unit.chain(x, [(192, 1), (192, (1, 7)), (192, (7, 1))], f"{name}_7x7")
    seven = unit(seven, 192, 3, f"{name}_7x7_4", stride=2, padding=padding)
    pooled = layers.MaxPooling2D(3, 2, padding, name=f"{name}_pool")(x)
    return _join([three, seven, pooled], name)


def _module_wide(unit, x, name):
    """Branches 1 x 1; 1 x 3 beside 3 x 1; 3 x 3, then 1 x 3 beside 3 x 1; pooling."""
    one = unit(x, 320, 1, f"{name}_1x1")
    three = unit(x, 384, 1, f"{name}_3x3")
    three = _split(unit, three, f"{name}_3x3")
    double = unit.chain(x, [(448, 1), (384, 3)], f"{name}_3x3dbl")
    double = _split(unit, double, f"{name}_3x3dbl")
    pooled = unit(_average(x, f"{name}_pool"), 192, 1, f"{name}_pool_1x1")
    return _join([one, three, double, pooled], name)


def _split(unit, x, name):
    across = unit(x, 384, (1, 3), f"{name}_1x3")
    along = unit(x, 384, (3, 1), f"{name}_3x1")
    return _join([across, along], name)
