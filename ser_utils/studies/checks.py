"""Checks by which a leak in this project's data and models is caught (LeakError); ``runs.check`` is that of runs."""

import keras
import numpy as np
import pandas as pd

from ser_utils.data.folds import LeakError, check_split
from ser_utils.features import spectral
from ser_utils.training import fit, frontend
from ser_utils.training.augment import Augment, SpecAugment


def check_data(data: fit.Data, store: spectral.FeatureStore, protocol: str) -> None:
    """Raise LeakError unless every clip is the recording of its name, with its label, where the protocol allows it."""
    if len(data.clips) != len(store.clips) or (data.clips != store.clips).any():
        twice = pd.Series(data.clips)[pd.Series(data.clips).duplicated()]
        raise LeakError(f"The data is not the corpus clip by clip; {twice.nunique():,} clips occur more than once.")
    check_split(store.index, protocol, data.rows)
    true = spectral.fit_length(store.logmel, store.lengths, data.logmel.shape[1])
    for part, rows in data.rows.items():
        for what, wrong in (("are not as recorded", (data.logmel[rows] != true[rows]).any(axis=(1, 2))),
                            ("have another label than their name says",
                             data.labels[rows] != store.index.label.to_numpy()[rows])):
            if wrong.any():
                raise LeakError(f"{wrong.sum():,} {part} clips {what}, among them {data.clips[rows][wrong][0]}.")


def check_model(model: keras.Model, data: fit.Data) -> None:
    """Raise LeakError unless a run's model was normalised by its training clips alone and augments none at test."""
    layer = model.get_layer("normalise")
    for what, found, true in zip(("mean", "deviation"), layer.statistics.numpy(),
                                 spectral.statistics(data.logmel[data.rows["train"]]), strict=True):
        worst = float(np.abs(found - true).max())
        if worst > 1e-3:
            raise LeakError(f"The normalisation's {what} is not that of the training clips: {worst:.3f} dB off.")
    whole, clips = keras.Model(model.inputs[0], model.outputs[0]), data.logmel[data.rows["val"][:32]]
    plain = clips
    for part in model.layers[1:]:
        if not isinstance(part, (Augment, SpecAugment)):
            plain = part(plain)
    first, again = frontend.outputs(whole, clips), frontend.outputs(whole, clips)
    if not (np.allclose(first, again, atol=1e-6) and np.allclose(first, plain, atol=1e-6)):
        raise LeakError("The model alters clips at random when it predicts: augmentation is on outside training.")
