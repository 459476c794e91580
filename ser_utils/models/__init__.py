"""The seven networks behind one function: ``build(name, input_shape)``.

A network takes (batch, frames, bins, channels), normalised; a frame whose values are all exactly 0 is
padding. It returns class probabilities in float32.
"""

import functools
import inspect

import keras

from ser_utils.models import alexnet, inceptionnet, lstm, resnet, transformer, vgg
from ser_utils.models.common import ApplyMask, AttentionPooling, AttentionWeights, FrameStack, MaskPooling, PaddingMask
from ser_utils.models.transformer import PositionalEncoding

__all__ = ["BUILDERS", "ApplyMask", "AttentionPooling", "AttentionWeights", "FrameStack", "MaskPooling",
           "PaddingMask", "PositionalEncoding", "build", "options"]

BUILDERS = {
    "alexnet": alexnet.alexnet,
    "resnet": resnet.resnet,
    "inceptionnet": inceptionnet.inceptionnet,
    "vgg16": functools.partial(vgg.vgg, "vgg16"),
    "vgg19": functools.partial(vgg.vgg, "vgg19"),
    "lstm": lstm.lstm,
    "transformer": transformer.transformer,
}
ORIGINAL_SHAPES = {"alexnet": (227, 227, 3), "resnet": (224, 224, 3), "inceptionnet": (299, 299, 3),
                   "vgg16": (224, 224, 3), "vgg19": (224, 224, 3)}


def options(name: str) -> dict:
    """The options of a network and their defaults; raises ValueError if no network has this name."""
    if name not in BUILDERS:
        raise ValueError(f"Unknown network {name!r}; choose from {', '.join(BUILDERS)}.")
    parameters = inspect.signature(BUILDERS[name]).parameters
    return {key: p.default for key, p in parameters.items() if key not in ("input_shape", "classes")}


def build(name: str, input_shape=None, classes: int | None = None, **kwargs) -> keras.Model:
    """Build a network for an input of (frames, bins, channels), with some of its ``options(name)``.

    With ``canonical=True`` the shape may be left out, for the published size, and ``classes`` is 1,000 instead of 8.
    Raises ValueError for an unknown network or option, an option out of range, an impossible shape or number of
    classes.
    """
    known = options(name)
    for option in kwargs:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}.")
    canonical = kwargs.get("canonical", False)
    if input_shape is None and canonical:
        input_shape = ORIGINAL_SHAPES[name]
    classes = (1000 if canonical else 8) if classes is None else classes
    if classes < 2:
        raise ValueError(f"A network needs at least 2 classes, got {classes}.")
    for option in ("width", "units", "depth", "dim", "heads", "stack", "stem_stride"):
        if kwargs.get(option, 1) <= 0:
            raise ValueError(f"Option {option} of {name} must be above 0, got {kwargs[option]}.")
    try:
        frames, bins, channels = map(int, input_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"input_shape must be (frames, bins, channels), not {input_shape}.") from error
    if min(frames, bins, channels) < 1:
        raise ValueError(f"input_shape {input_shape} must be at least 1 in frames, bins and channels.")
    return BUILDERS[name]((frames, bins, channels), classes, **kwargs)
