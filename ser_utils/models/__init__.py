"""The seven networks behind one function: ``build(name, input_shape)``.

A network takes (batch, frames, bins, channels), normalised, where frames of 0 are padding; probabilities come out.
"""

import functools

import keras

from ser_utils.models import alexnet, inceptionnet, lstm, resnet, transformer, vgg
from ser_utils.models.common import ApplyMask, AttentionPooling, AttentionWeights, FrameStack, MaskPooling, PaddingMask
from ser_utils.models.transformer import PositionalEncoding

__all__ = ["BUILDERS", "ApplyMask", "AttentionPooling", "AttentionWeights", "FrameStack", "MaskPooling",
           "PaddingMask", "PositionalEncoding", "build"]

BUILDERS = {"alexnet": alexnet.alexnet, "resnet": resnet.resnet, "inceptionnet": inceptionnet.inceptionnet,
            **{name: functools.partial(vgg.vgg, name) for name in ("vgg16", "vgg19")},
            "lstm": lstm.lstm, "transformer": transformer.transformer}


def build(name: str, input_shape: tuple[int, int, int], **options) -> keras.Model:
    """Build a network for an input of (frames, bins, channels), with some of the options of its function.

    All have ``width``, a factor on channels and units, and ``dropout``, before every dense layer. With
    ``canonical=True`` the five convolutional ones are the published ones, of 1,000 classes. ValueError for an unknown
    network or an impossible shape.
    """
    if name not in BUILDERS:
        raise ValueError(f"Unknown network {name!r}; choose from {', '.join(BUILDERS)}.")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (frames, bins, channels), each at least 1, not {input_shape}.")
    return BUILDERS[name](input_shape, **options)
