"""From log-mel in dB to a network's input, and the whole model that training and prediction share."""

import keras
import numpy as np
from keras import ops

from ser_utils import models
from ser_utils.augment import Augment, SpecAugment
from ser_utils.config import PAD_DB, RunConfig


@keras.saving.register_keras_serializable("ser_utils")
class Normalise(keras.layers.Layer):
    """Subtract the mean and divide by the standard deviation of each band, both measured on training clips.

    Log-mel in dB (batch, frames, bands) in, the same shape out; frames of padding (-100 dB) become 0. The
    statistics are variables, not constants: the compiled training step is then the same for every fold.
    """

    def __init__(self, mean: list[float], deviation: list[float], **kwargs):
        kwargs.pop("dtype", None)
        super().__init__(dtype="float32", **kwargs)
        self.statistics = self.add_weight(name="statistics", shape=(2, len(mean)), initializer="zeros",
                                          trainable=False)
        self.assign(mean, deviation)

    def assign(self, mean, deviation) -> None:
        """Use these statistics, in dB, from now on."""
        self.statistics.assign(np.stack([mean, deviation]).astype(np.float32))

    @property
    def mean(self) -> list[float]:
        """Of each band, dB."""
        return ops.convert_to_numpy(self.statistics)[0].tolist()

    @property
    def deviation(self) -> list[float]:
        """Of each band, dB."""
        return ops.convert_to_numpy(self.statistics)[1].tolist()

    def call(self, logmel):
        speech = ops.any(logmel > PAD_DB, axis=2, keepdims=True)
        return ops.where(speech, (logmel - self.statistics[0]) / self.statistics[1], 0.0)

    def get_config(self) -> dict:
        return {**super().get_config(), "mean": self.mean, "deviation": self.deviation}


def assemble(config: RunConfig, mean: np.ndarray, deviation: np.ndarray) -> keras.Model:
    """The model of a run: log-mel in dB (batch, frames, bands) in, eight probabilities out.

    Augmentation, normalisation, pooling of the input and the network are one model, so that a saved model
    needs nothing but a log-mel spectrogram. The network itself is the layer named after the architecture.
    """
    bands = config.features.n_mels
    logmel = keras.Input((config.frames, bands), name="logmel_db")
    x = logmel
    if config.augment:
        x = Augment(config.augment, seed=config.seed, name="augment")(x)
    x = Normalise(mean, deviation, name="normalise")(x)
    if config.augment:
        x = SpecAugment(config.augment, seed=config.seed + 1, name="spec_augment")(x)
    x = keras.layers.Reshape((config.frames, bands, 1), dtype="float32", name="image")(x)
    if config.pool > 1:
        x = keras.layers.AveragePooling2D(config.pool, dtype="float32", name="pool")(x)
    network = models.build(config.model, tuple(x.shape[1:]), **config.options)
    return keras.Model(logmel, network(x), name=f"{config.model}_run")
