"""Distillation: a network learns from what the ensemble of its fold answers (Hinton et al. 2015, arXiv:1503.02531).

The teachers are ordinary runs on the same fold. They answer to the very input that the student hears: augmented, and
mixed with another clip. Labels take no part.
"""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from ser_utils.config import RunConfig, teachers
from ser_utils.data.folds import LeakError
from ser_utils.training import frontend, runs


def load(config: RunConfig, root: Path, mean: np.ndarray, deviation: np.ndarray) -> list[keras.Model]:
    """The teachers' networks (image in, eight probabilities out), from the run folders under ``root``.

    ``mean`` and ``deviation`` (bands,) in dB are those of the fold's training clips. Raises FileNotFoundError where a
    teacher is not trained, with the command that trains it; LeakError where it has learned from other clips.
    """
    found = []
    for one in teachers(config):
        directory = one.run_directory(root)
        if not (runs.holds(directory, one) and (directory / runs.WEIGHTS).exists()):
            raise FileNotFoundError(
                f"{config.name} learns from {one.name}, which has no weights in {root}. Delete its folder, train it: "
                f"make grid PROTOCOLS={one.protocol} FOLDS={one.fold} SEEDS={one.seed}")
        model = frontend.load(directory)
        heard = model.get_layer("normalise").statistics.numpy()
        if not np.allclose(heard, [mean, deviation], rtol=1e-4, atol=1e-3):
            raise LeakError(f"{directory} has not learned from the training clips of fold {config.fold} of "
                            f"{config.protocol}: it must not teach {config.name}.")
        found.append(frontend.parts(model)[1])
    return found


class Lesson(keras.layers.Layer):
    """Passes on a student's probabilities (batch, 8); the loss is their divergence from its teachers', in nats.

    Takes a list: the network's input (batch, frames, bands, channels) and the student's probabilities.
    """

    def __init__(self, networks: list[keras.Model]):
        super().__init__(dtype="float32", name="lesson")
        # In a function, where Keras does not look for layers: the teachers are neither trained nor saved.
        self.taught = lambda image: sum(network(image, training=False) for network in networks) / len(networks)

    def call(self, inputs, training: bool = False):
        image, answers = inputs
        if training:
            self.add_loss(ops.mean(keras.losses.kl_divergence(ops.stop_gradient(self.taught(image)), answers)))
        return answers


def without_lesson(model: keras.Model) -> keras.Model:
    """A run's model as it was before its lesson; any other one as it is, without its optimiser."""
    last = model.layers[-1]
    return keras.Model(model.inputs, last.input[1] if isinstance(last, Lesson) else model.outputs, name=model.name)
