"""What several pages use to look inside a network.

A "network" is the part of a run's model named after its architecture. An "image" is one input of it, (frames, bins, 1)
of normalised log-mel; its frames and bins are averages of the spectrogram's where the profile pools its input.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ser_utils import EMOTIONS
from ser_utils.config import PAD_DB, RunConfig
from ser_utils.training.frontend import outputs


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

    def one_each(self) -> list[int]:
        """For each emotion the row of the clip recognised most surely; if there is none, of the surest error."""
        clips = self.clips.reset_index(drop=True)
        clips["right"] = clips.prediction == clips.label
        best = clips.sort_values(["right", "confidence"], ascending=False, kind="stable").drop_duplicates("label")
        return list(best.sort_values("label").index)


def deletion(network: keras.Model, images: np.ndarray, importance: np.ndarray, labels: np.ndarray,
             share: float = 0.2) -> pd.DataFrame:
    """Does a map of importance show what the network uses? Remove what it calls important and see.

    From each image the given share of the speech is set to 0, the training clips' mean: the most important points, as
    many by the map of a clip of another emotion, stretched to this one's length, or the least important ones (Samek et
    al. 2017). ``images`` (N, frames, bins, 1), ``importance`` (N, frames, bins) or, for whole frames, (N, frames);
    ``labels`` (N,), the emotions watched: the true ones, or those that the maps explain. Returns a row for each kind of
    removal: ``removed``, ``accuracy`` and ``probability``, the share of answers that are the label and the label's mean
    probability; both in per cent.
    """
    if importance.ndim == 2:
        importance = np.repeat(importance[:, :, None], images.shape[2], axis=2)
    speech = (images != 0).any(axis=(2, 3))  # no padding
    inside, lengths = np.broadcast_to(speech[..., None], importance.shape), speech.sum(axis=1)[:, None]
    count = share * inside.sum(axis=(1, 2))[:, None]
    order = np.argsort(labels, kind="stable")
    other = np.roll(order, np.bincount(labels).max())[np.argsort(order)]  # for each clip one of another emotion
    there = ((np.arange(speech.shape[1]) + 0.5) * lengths[other] / lengths).astype(int)
    stretched = importance[other[:, None], np.minimum(there, lengths[other] - 1)]
    ways = {"nothing": (importance, 0), "the most important": (importance, count),
            "the most, by another emotion's map": (stretched, count), "the least important": (-importance, count)}
    rows = []
    for name, (order, most) in ways.items():
        ranks = rankdata(np.where(inside, -order, np.inf).reshape(len(images), -1), "ordinal", axis=1)  # from 1
        changed = np.where((ranks < most + 1).reshape(images.shape), 0, images)
        predicted = outputs(network, changed.astype(np.float32))
        rows.append({"removed": name, "accuracy": 100 * (predicted.argmax(axis=1) == labels).mean(),
                     "probability": 100 * predicted[np.arange(len(labels)), labels].mean()})
    return pd.DataFrame(rows)


def occlusion(judge: Callable[[np.ndarray], np.ndarray], windows: np.ndarray, starts: Sequence[int], label: int,
              size: tuple[int, int] = (10, 8)) -> np.ndarray:
    """How far the probability of a label falls without each part of the speech (Zeiler and Fergus 2014).

    ``judge`` takes log-mels in dB (n, frames, bands) to probabilities (n, 8). In each of ``windows``, which begin at
    the frames ``starts`` and cover the speech, one part after the other, of so many frames and bands, is set to the
    mean. Returns a map (frames of speech, bands), the mean where windows overlap.
    """
    heat = np.zeros((starts[-1] + windows.shape[1], windows.shape[2]))
    count = np.zeros((len(heat), 1))
    for start, window in zip(starts, windows, strict=True):
        speech = window > PAD_DB
        frames = np.flatnonzero(speech.any(axis=1))[-1] + 1
        parts = [(slice(frame, min(frame + size[0], frames)), slice(band, band + size[1]))
                 for frame in range(0, frames, size[0]) for band in range(0, window.shape[1], size[1])]
        blanked = np.repeat(window[None], len(parts) + 1, axis=0)  # the last stays whole
        for one, part in zip(blanked, parts, strict=False):
            one[part][speech[part]] = window[speech].mean()
        *found, whole = judge(blanked)[:, label]
        for part, probability in zip(parts, found, strict=True):
            heat[start:][part] += whole - probability
        count[start: start + frames] += 1
    return (heat / np.maximum(count, 1))[:start + frames]


def over_relative_time(values: np.ndarray, lengths: np.ndarray, bins: int = 20) -> np.ndarray:
    """Values (N, frames) against the position in the clip, (N, bins); 1 is the clip's mean.

    ``lengths`` (N,) are the frames that count; each clip is stretched to ``bins`` equal parts.
    """
    found, edges = [], np.linspace(0, 1, bins + 1)
    for value, length in zip(values, lengths, strict=True):
        sums = np.concatenate([[0], np.cumsum(value[:length])])
        at = np.interp(edges * length, np.arange(length + 1), sums)
        found.append(np.diff(at) * bins / max(sums[-1], 1e-12))
    return np.array(found)
