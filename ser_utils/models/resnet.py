"""ResNet (He et al. 2016): each block adds what it computes to what it was given, y = F(x) + x."""

import keras
from keras import layers

from ser_utils.models.common import batch_norm, conv, head, imagenet, scaled

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def resnet(input_shape, canonical=False, depth=18, width=1.0, stem_stride=2, stem_pool=False,
           dropout=0.5) -> keras.Model:
    """ResNet-18, -34 or -50 for spectrograms, or as published.

    canonical : the network of the paper, published for (224, 224, 3). The convolutions of depth 50 have biases, as in
        ``keras.applications``, those of 18 and 34 have none, as in torchvision.
    depth : 18, 34 (blocks of two convolutions) or 50 (bottlenecks of three).
    stem_stride : step of conv1, 1, 2 (as published) or 4.
    stem_pool : pool after conv1, as published.
    """
    if depth not in BLOCKS:
        raise ValueError(f"ResNet has no depth {depth}; choose from {', '.join(map(str, BLOCKS))}.")
    kernels, widths = ((1, 3, 1), (1, 1, 4)) if depth == 50 else ((3, 3), (1, 1))
    bias = canonical and depth == 50
    if canonical:
        stem_stride, stem_pool = 2, True
    inputs = keras.Input(input_shape, name="input")
    x = _conv_bn(inputs, scaled(64, width), 7, stem_stride, bias, "conv1")
    x = layers.Activation("relu", name="conv1_relu")(x)
    if stem_pool:
        x = layers.ZeroPadding2D(1, name="conv1_poolpad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="conv1_pool")(x)
    for stage, (filters, blocks) in enumerate(zip((64, 128, 256, 512), BLOCKS[depth], strict=True), start=2):
        for number in range(1, blocks + 1):
            stride = 2 if stage > 2 and number == 1 else 1
            channels = [scaled(filters, width) * factor for factor in widths]
            x = _block(x, kernels, channels, stride, bias, f"conv{stage}_block{number}")
    outputs = (imagenet(layers.GlobalAveragePooling2D(name="pool")(x)) if canonical
               else head(x, inputs, 8 * stem_stride * (1 + stem_pool), dropout))
    return keras.Model(inputs, outputs, name="resnet")


def _conv_bn(x, filters, kernel, stride, bias, name):
    x = conv(x, filters, kernel, stride, bias, name=name)
    return batch_norm(f"{name}_bn", epsilon=1.001e-5)(x)


def _block(x, kernels, filters, stride, bias, name):
    """Convolutions one after another, plus x itself, or where the shape changes a 1 x 1 convolution of it."""
    shortcut = x
    if stride > 1 or x.shape[-1] != filters[-1]:
        shortcut = _conv_bn(x, filters[-1], 1, stride, bias, f"{name}_0")
    for number, (channels, kernel) in enumerate(zip(filters, kernels, strict=True), start=1):
        x = _conv_bn(x, channels, kernel, stride if number == 1 else 1, bias, f"{name}_{number}")
        if number < len(kernels):
            x = layers.Activation("relu", name=f"{name}_{number}_relu")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_relu")(x)
