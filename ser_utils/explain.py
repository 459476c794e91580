"""What the networks do inside: filters, what a decision rests on, how far they see, where they attend.

A "network" is the part of a run's model named after its architecture: (batch, frames, bins, channels) of
normalised log-mel in, probabilities out. An "image" is one such input, (frames, bins, 1); its frames and bins
are those of the log-mel spectrogram, averaged in groups where the profile pools its input.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

import keras
import librosa
import numpy as np
import pandas as pd
from keras import layers, ops

from ser_utils import EMOTIONS
from ser_utils.config import PAD_DB, FeatureConfig, RunConfig
from ser_utils.training.frontend import outputs, part

# --- The parts of a trained model --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inside:
    """A trained network and the test clips of its run, a row each in all arrays; see ``Session.inside``."""

    network: keras.Model
    config: RunConfig
    clips: pd.DataFrame   # clip, label, prediction, confidence, emotion, intensity, actor, ...
    logmel: np.ndarray    # (N, frames, bands), dB
    images: np.ndarray    # (N, frames, bins, 1)

    @property
    def labels(self) -> np.ndarray:
        """The true emotions (N,), 0-7."""
        return self.clips.label.to_numpy()

    @property
    def lengths(self) -> np.ndarray:
        """Frames of speech (N,) in ``logmel``."""
        return (self.logmel > PAD_DB).any(axis=2).sum(axis=1)

    @property
    def units(self) -> "Units":
        """What a frame and a bin of the images mean."""
        return units(self.config.features, self.config.pool)

    def name(self, row: int) -> str:
        """The name of a clip."""
        return self.clips["clip"].iloc[row]

    def speech(self, row: int) -> np.ndarray:
        """Log-mel (frames, bands) of one clip without its padding."""
        return self.logmel[row, : self.lengths[row]]

    def title(self, row: int) -> str:
        """The emotion of a clip, and what it was taken for if that was wrong."""
        found = self.clips.iloc[row]
        wrong = "" if found.prediction == found.label else f", taken for {EMOTIONS[found.prediction]}"
        return f"{EMOTIONS[found.label]}{wrong}"

    def one_each(self, *others: "Inside") -> list[int]:
        """For each emotion the row of the clip recognised most surely; if there is none, of the surest error.

        With ``others``, networks looking at the same clips in the same order, all should be right.
        """
        views = (self, *others)
        right = np.all([view.clips.prediction == view.clips.label for view in views], axis=0)
        sure = np.mean([view.clips.confidence for view in views], axis=0)
        rows = []
        for label in range(len(EMOTIONS)):
            mine = np.flatnonzero(self.labels == label)
            if len(mine):
                rows.append(int(mine[np.lexsort((-sure[mine], ~right[mine]))[0]]))
        return rows


def gradients(function: Callable, values: Sequence) -> list[np.ndarray]:
    """Gradients of a scalar function of a list of tensors, one float32 array for each of ``values``.

    Raises
    ------
    NotImplementedError
        Keras runs on another backend than TensorFlow or JAX.
    """
    values = [ops.convert_to_tensor(value) for value in values]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            result = function(values)
        found = tape.gradient(result, values, unconnected_gradients="zero")
    elif backend == "jax":
        import jax

        found = jax.grad(function)(values)
    else:
        raise NotImplementedError(f"Gradients are written for TensorFlow and JAX, not for {backend}: "
                                  "set KERAS_BACKEND to either.")
    return [ops.convert_to_numpy(ops.cast(gradient, "float32")) for gradient in found]


def speech(images: np.ndarray) -> np.ndarray:
    """Which frames of images (N, frames, bins, channels) are not padding: bool (N, frames)."""
    return (images != 0).any(axis=(2, 3))


def deletion(network: keras.Model, images: np.ndarray, importance: np.ndarray, labels: np.ndarray,
             share: float = 0.2) -> pd.DataFrame:
    """Does a map of importance show what the network uses? Remove what it calls important and see.

    From each image the given share of the speech is set to 0, the training clips' mean: the most important
    points, as many by the map of another clip, or the least important ones (Samek et al. 2017).

    Parameters
    ----------
    images, importance : (N, frames, bins, 1) and (N, frames, bins), or (N, frames) for whole frames.
    labels : (N,), the true emotions.

    Returns
    -------
    A row for each kind of removal: ``removed``, ``accuracy`` and ``true emotion``, the mean probability of the
    true emotion; both in per cent.
    """
    if importance.ndim == 2:
        importance = np.repeat(importance[:, :, None], images.shape[2], axis=2)
    inside = np.repeat(speech(images)[:, :, None], images.shape[2], axis=2)
    ways = {"nothing": None, "the most important": importance,
            "as much, by another clip's map": np.roll(importance, 1, axis=0),
            "the least important": -importance}
    rows = []
    for name, order in ways.items():
        changed = images
        if order is not None:
            ranked = np.where(inside, order, -np.inf).reshape(len(images), -1)
            place = np.argsort(np.argsort(-ranked, axis=1, kind="stable"), axis=1)
            count = share * inside.reshape(len(images), -1).sum(axis=1, keepdims=True)
            changed = np.where((place < count).reshape(inside.shape)[..., None], 0, images)
        predicted = outputs(network, changed.astype(np.float32))
        rows.append({"removed": name, "accuracy": 100 * (predicted.argmax(axis=1) == labels).mean(),
                     "true emotion": 100 * predicted[np.arange(len(labels)), labels].mean()})
    return pd.DataFrame(rows)


# --- AlexNet: the first filters ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Units:
    """What a frame and a bin of an image mean.

    The bands are evenly spaced on Slaney's mel scale: linear in frequency below 1 kHz, logarithmic above. So a
    bin is a fixed number of hertz below, and a fixed part of an octave above.
    """

    seconds: float   # from frame to frame
    hertz: float     # from bin to bin, below 1 kHz
    octaves: float   # from bin to bin, above 1 kHz
    centres: np.ndarray  # of the bins, Hz


def units(features: FeatureConfig, pool: int = 1) -> Units:
    """The units of images made with these features, with ``pool`` frames and bands averaged into one."""
    mels = librosa.hz_to_mel(np.array([features.fmin, features.fmax, 1000.0, 2000.0]))
    step = pool * (mels[1] - mels[0]) / (features.n_mels + 1)
    bands = librosa.mel_frequencies(features.n_mels + 2, fmin=features.fmin, fmax=features.fmax)[1:-1]
    whole = len(bands) // pool * pool
    centres = bands[:whole].reshape(-1, pool).mean(axis=1)
    return Units(pool * features.hop_length / features.sample_rate, step * 1000 / mels[2],
                 step / (mels[3] - mels[2]), centres)




# --- VGG: Grad-CAM -----------------------------------------------------------------------------------------


def grad_cam(network: keras.Model, images: np.ndarray, classes: np.ndarray, layer: str = "last_conv"
             ) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017): which parts of each image speak for a class, (N, frames, bins).

    The maps of a convolutional layer are weighted with the mean slope of the class's score (before the
    softmax), added up and cut off below 0. They are drawn out to the image's size between the centres of their
    cells and scaled to a maximum of 1; padding, and images where nothing speaks for the class, hold 0.

    Parameters
    ----------
    images : (N, frames, bins, 1).
    classes : (N,) the class to explain, 0-7.
    layer : whose maps; the last ones know most about the class, earlier ones see finer.
    """
    target = network.get_layer(layer).output
    maps = outputs(part(network, target), images)
    last = network.get_layer("predictions")
    rest = keras.Model([target, network.inputs[0]], last.input)
    directions = ops.convert_to_numpy(last.kernel).T[np.asarray(classes)]

    seen = ops.convert_to_tensor(images)

    def score(values):
        return ops.sum(ops.cast(rest([values[0], seen], training=False), "float32") * directions)

    (slopes,) = gradients(score, [maps])
    found = np.maximum((maps * slopes.mean(axis=(1, 2), keepdims=True)).sum(axis=-1), 0)
    found = enlarge(found, images.shape[1:3]) * speech(images)[:, :, None]
    peak = found.max(axis=(1, 2), keepdims=True)
    return np.divide(found, peak, out=np.zeros_like(found), where=peak > 0)


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps (N, height, width) drawn out to (N, frames, bins), linearly between the centres of the cells.

    A cell spans a power of two of frames and of bins, as strides and poolings make it; the last one may reach
    beyond the image.
    """
    for axis, wanted in zip((1, 2), size, strict=True):
        cells = maps.shape[axis]
        stride = 2 ** round(np.log2(wanted / cells))
        place = np.clip((np.arange(wanted) + 0.5) / stride - 0.5, 0, cells - 1)
        low = np.minimum(place.astype(int), max(cells - 2, 0))
        high = np.minimum(low + 1, cells - 1)
        share = (place - low).reshape([-1 if i == axis else 1 for i in range(3)])
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps


def convolutions(network: keras.Model) -> list[str]:
    """Names of the last layer of each stage's convolutions (``conv1_2_relu``), from input to output."""
    last = {}
    for layer in network.layers:
        if re.fullmatch(r"conv\d+(_\d+)?_relu", layer.name):
            last[layer.name.split("_")[0]] = layer.name
    return list(last.values())


def map_similarity(first: np.ndarray, second: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Rank correlation of two maps (N, frames, bins) over the points of speech of each clip, (N,); nan if flat."""
    pairs = zip(first, second, speech(images), strict=True)
    return np.array([pd.Series(a[inside].ravel()).corr(pd.Series(b[inside].ravel()), method="spearman")
                     for a, b, inside in pairs])


def compare(networks: dict[str, keras.Model], runs: dict[str, dict]) -> pd.DataFrame:
    """Networks side by side: layers, parameters and, for each protocol that is finished, scores and cost.

    Parameters
    ----------
    networks : name -> network.
    runs : name -> its runs, protocol -> run; may be empty.

    Returns
    -------
    A row for each network and protocol: ``network``, ``convolutions``, ``parameters``, ``protocol``,
    ``accuracy`` and ``recall`` in per cent, ``seconds an epoch``. Scores not known are nan.
    """
    rows = []
    for name, network in networks.items():
        size = {"network": name, "convolutions": sum(isinstance(layer, layers.Conv2D) for layer in network.layers),
                "parameters": network.count_params()}
        for protocol, run in (runs[name] or {"–": None}).items():
            info = run.info if run else None
            test = info["metrics"]["test"] if info else {"accuracy": np.nan, "recall": np.nan}
            rows.append({**size, "protocol": protocol, "accuracy": 100 * test["accuracy"],
                         "recall": 100 * test["recall"],
                         "seconds an epoch": info["wall_seconds"] / info["epochs"] if info else np.nan})
    return pd.DataFrame(rows)


def layer_checks(network: keras.Model, images: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """The test of ``deletion`` for the Grad-CAM of each stage's last convolution but the first stage's.

    Returns
    -------
    A row a layer (the index): the mean probability of the true emotion, in per cent, after each way of removal,
    and ``gap``, by how much removing the most important part hurts more than removing the least important.
    """
    rows = {}
    for layer in convolutions(network)[1:]:
        checked = deletion(network, images, grad_cam(network, images, classes, layer), labels)
        rows[layer] = checked.set_index("removed")["true emotion"]
    table = pd.DataFrame(rows).T
    return table.assign(gap=table["the least important"] - table["the most important"])


# --- LSTM: attention over time -----------------------------------------------------------------------------


def over_relative_time(values: np.ndarray, lengths: np.ndarray, bins: int = 20) -> np.ndarray:
    """Values (N, frames) against the position in the clip, (N, bins); 1 is the clip's mean.

    ``lengths`` (N,) are the frames that count; each clip is stretched to ``bins`` equal parts.
    """
    found = np.empty((len(values), bins))
    edges = np.linspace(0, 1, bins + 1)
    for row, (value, length) in enumerate(zip(values, lengths, strict=True)):
        sums = np.concatenate([[0], np.cumsum(value[:length])])
        at = np.interp(edges * length, np.arange(length + 1), sums)
        found[row] = np.diff(at) * bins / max(sums[-1], 1e-12)
    return found

