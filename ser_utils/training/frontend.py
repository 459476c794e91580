"""From log-mel in dB to a network's input, and the whole model that training and prediction share."""

from pathlib import Path

import keras
import numpy as np
import scipy.signal
from keras import ops

from ser_utils import models
from ser_utils.config import PAD_DB, RunConfig
from ser_utils.training import runs
from ser_utils.training.augment import Augment, SpecAugment

SHRINK = 2  # clips: what n clips tell of a voice counts n / (n + SHRINK)


@keras.saving.register_keras_serializable("ser_utils")
class Normalise(keras.layers.Layer):
    """Subtract the mean and divide by the standard deviation of each band, both measured on training clips.

    Log-mel in dB (batch, frames, bands) in, the same shape out; frames of padding (-100 dB) become 0.
    """

    def __init__(self, mean: list[float], deviation: list[float], **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        # A variable, not constants: the compiled training step is the same for every fold.
        self.statistics = self.add_weight(shape=(2, len(mean)), initializer="zeros", trainable=False, name="statistics")
        self.assign(mean, deviation)

    def assign(self, mean, deviation) -> None:
        """Use these statistics, in dB, from now on."""
        self.statistics.assign(np.stack([mean, deviation]).astype(np.float32))

    def call(self, logmel):
        speech = ops.any(logmel > PAD_DB, axis=2, keepdims=True)
        return ops.where(speech, (logmel - self.statistics[0]) / self.statistics[1], 0.0)

    def get_config(self) -> dict:
        mean, deviation = self.statistics.numpy().tolist()
        return {**super().get_config(), "mean": mean, "deviation": deviation}


@keras.saving.register_keras_serializable("ser_utils")
class Channels(keras.layers.Layer):
    """Views of a normalised spectrogram as channels: (batch, frames, bands) in, (batch, frames, bands, channels) out.

    "static" is the spectrogram itself; "delta" and "delta2" its first and second derivative along time over 9 frames
    (Savitzky-Golay filters as in ``librosa.feature.delta``, of unit norm; Chen et al. 2018, doi
    10.1109/LSP.2018.2860246); "centred" lacks each band's mean over the speech of this very clip. Frames of padding
    stay 0. Raises ValueError for a view of another name, or none.
    """

    def __init__(self, names: tuple[str, ...], **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.names = tuple(names)
        if not self.names or not set(self.names) <= {"static", "delta", "delta2", "centred"}:
            raise ValueError(f"Channels are static, delta, delta2 and centred, one at least, not {self.names}.")

    def call(self, spectrogram):
        speech = ops.cast(ops.any(spectrogram != 0, axis=2, keepdims=True), "float32")
        return ops.stack([self.view(name, spectrogram, speech) for name in self.names], axis=3)

    def view(self, name: str, spectrogram, speech):
        """One channel (batch, frames, bands); ``speech`` (batch, frames, 1) is 0 in padding, else 1."""
        if name == "static":
            return spectrogram
        if name == "centred":
            frames = ops.maximum(ops.sum(speech, axis=1, keepdims=True), 1.0)
            return (spectrogram - ops.sum(spectrogram, axis=1, keepdims=True) / frames) * speech
        order = {"delta": 1, "delta2": 2}[name]
        filters = scipy.signal.savgol_coeffs(9, order, deriv=order, use="dot")
        filters /= np.linalg.norm(filters)
        padded, size = ops.pad(spectrogram, [[0, 0], [4, 4], [0, 0]]), spectrogram.shape[1]
        return speech * sum(float(weight) * padded[:, at:at + size] for at, weight in enumerate(filters))


def assemble(config: RunConfig, mean: np.ndarray, deviation: np.ndarray) -> keras.Model:
    """A run's model: log-mel in dB (batch, frames, bands) to probabilities; layer ``config.model`` is its network."""
    x = logmel = keras.Input((config.frames, config.features.n_mels), name="logmel_db")
    if config.augment:
        x = Augment(config.augment, seed=config.seed, name="augment")(x)
    x = Normalise(mean, deviation, name="normalise")(x)
    x = Channels(config.channels, name="image")(x)
    if config.augment:
        x = SpecAugment(config.augment, seed=config.seed + 1, name="spec_augment")(x)
    if config.pool > 1:
        x = keras.layers.AveragePooling2D(config.pool, dtype="float32", name="pool")(x)
    network = models.build(config.model, tuple(x.shape[1:]), **config.options)
    return keras.Model(logmel, network(x), name=f"{config.model}_run")


def load(directory: str | Path) -> keras.Model:
    """The trained model of a run's folder, as :func:`assemble`; FileNotFoundError where the folder holds no weights."""
    path = Path(directory) / runs.WEIGHTS
    if not path.exists():
        raise FileNotFoundError(f"{directory} holds no {runs.WEIGHTS}: published runs come without weights. Train the "
                                "run first (make grid).")
    return keras.saving.load_model(path, compile=False)


def parts(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A run's model in two: the front end (log-mel in dB -> image) and the network (image -> probabilities)."""
    return keras.Model(model.inputs[0], model.layers[-2].output), model.layers[-1]


def enrol(model: keras.Model, clips: np.ndarray, count: int | None = None) -> None:
    """Fit a model to a voice by unlabelled clips: adaptive batch normalisation (Li et al. 2016, arXiv:1603.04779).

    In each batch normalisation, mean and variance move n / (n + ``SHRINK``) of the way (Schneider et al. 2020, arXiv:
    2006.16971) to those of the ``clips``, log-mels in dB (N, frames, bands) with their padding; n is their ``count``,
    where several are windows of one recording, else N. Raises ValueError without clips or such a layer.
    """
    front, network = parts(model)
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not len(clips) or not layers:
        raise ValueError("To enrol a voice takes one recording at least, and a network with batch normalisation.")
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = SHRINK / ((count or len(clips)) + SHRINK)
    network(front(clips, training=False), training=True)  # moves the running means and variances
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum


def outputs(model: keras.Model, inputs: np.ndarray, batch_size: int = 120) -> np.ndarray | list[np.ndarray]:
    """What a model makes of inputs (N, ...), in batches, float32: one array, or a list for several outputs."""
    found = [model(inputs[start:start + batch_size], training=False) for start in range(0, len(inputs), batch_size)]
    return keras.tree.map_structure(
        lambda *pieces: np.concatenate([ops.convert_to_numpy(ops.cast(piece, "float32")) for piece in pieces]), *found)
