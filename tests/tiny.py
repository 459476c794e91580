"""A network that is built and trained in a moment, for tests that are not about the networks."""

import keras

from ser_utils.training.augment import Augment
from ser_utils.training.frontend import Normalise


def tiny_network(config, mean, deviation):
    """Two dense layers in the place of the seven networks; stands in for ``frontend.assemble``."""
    pooled = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dropout(0.1, seed=config.seed)]
    dense = [keras.layers.Dense(160, "relu"), keras.layers.Dense(8, "softmax", dtype="float32", name="predictions")]
    network = keras.Sequential([*pooled, *dense], name=config.model)
    x = inputs = keras.Input((config.frames, config.features.n_mels))
    if config.augment:
        x = Augment(config.augment, seed=config.seed, name="augment")(x)
    return keras.Model(inputs, network(Normalise(mean, deviation, name="normalise")(x)))
