"""Weights that ship with the package: written from a run, read without running code, held against published results.

A file ``<name>.npz`` holds the network's arrays, those of two axes in float16, and a text ``about`` in JSON with the
configuration, from which the network is built again, the temperature, and the facts of the model card beside it.
"""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ser_utils.config import RunConfig, from_dict
from ser_utils.evaluation.metrics import PROBABILITIES, temperature
from ser_utils.paths import atomic_write
from ser_utils.training import frontend, runs

FOLDER = Path(__file__).parent / "weights"
FORMAT = "ser_utils weights 1"
LARGEST = 2**26  # bytes of arrays that are unpacked; a network of ours has 3 MiB
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
DIFFER = 3  # labels of a fold's 240 that rounding to float16 may change


class WeightsError(ValueError):
    """A file of weights that can't be used; the message names it and says what to do."""


def names() -> list[str]:
    """The weights that ship, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def build(config: RunConfig) -> keras.Model:
    """The untrained network of a configuration, in float32 whatever it is trained in."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return frontend.assemble(config, np.zeros(config.features.n_mels), np.ones(config.features.n_mels))
    finally:
        keras.config.set_dtype_policy(policy)


def from_run(directory: str | Path) -> tuple[keras.Model, dict]:
    """The network of a run's folder (``run.json`` and ``model.keras``) and what :func:`read` says about it.

    Its temperature is fitted on its validation predictions, where it has some. Raises WeightsError where the folder
    lacks a file or its files contradict each other.
    """
    directory = Path(directory)
    for name in ("run.json", runs.WEIGHTS):
        if not (directory / name).is_file():
            raise WeightsError(f"{directory} holds no {name}. Name a finished run with weights, such as make grid "
                               "leaves in runs/, or weights that ship.")
    try:
        config = from_dict(json.loads((directory / "run.json").read_text())["config"])
        model = build(config)
        model.load_weights(directory / runs.WEIGHTS)
    except BROKEN as error:
        raise WeightsError(f"The run {directory} can't be loaded ({_first_line(error)}). Train it again.") from error
    found = directory / "predictions.csv"
    answers = pd.read_csv(found) if found.exists() else pd.DataFrame(columns=["subset", "label", *PROBABILITIES])
    return model, {"name": config.place, "config": dataclasses.asdict(config), "config_hash": config.hash,
                   "temperature": _fitted(answers)}


def _fitted(answers: pd.DataFrame) -> float:
    """The temperature of validation predictions."""
    val = answers[answers.subset == "val"]
    logs = np.log(np.maximum(val[PROBABILITIES].to_numpy(float), 1e-5))
    return round(temperature(logs, val.label.to_numpy(int)), 4)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def write(path: Path, model: keras.Model, about: dict) -> None:
    """Write a file of weights; raises ValueError where an array does not fit into float16."""
    arrays = {f"{number:03d}": array.astype(np.float16 if array.ndim > 1 and array.size > 512 else np.float32)
              for number, array in enumerate(model.get_weights())}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"{path.name}: a weight is NaN, infinite or too large for float16.")
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, about=json.dumps({"format": FORMAT} | about), **arrays)


def read(path: str | Path) -> tuple[keras.Model, dict]:
    """The network of a file of weights, and what the file says about it. No code in the file is ever run.

    Raises WeightsError where the file is missing, damaged, foreign or made for other settings than it states.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"There are no weights {path}. Shipped are: {', '.join(names()) or 'none yet'}.")
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(member.file_size for member in packed.infolist()) > LARGEST:
                raise ValueError("more than 64 MiB of arrays")
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if about["format"] != FORMAT:
                raise ValueError("another format")
            arrays = [stored[name].astype(np.float32) for name in sorted(stored.files) if name != "about"]
        config = from_dict(about["config"])
        if config.hash != about["config_hash"] or not 0.01 < float(about["temperature"]) < 100:
            raise ValueError("its settings are not those it was made with")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("an array holds NaN or infinity")
        model = build(config)
        model.set_weights(arrays)
    except BROKEN as wrong:
        raise WeightsError(f"{path} is no file of weights of this project, or it is damaged ({_first_line(wrong)}). "
                           "Get it again.") from wrong
    return model, about
