"""Files of weights for use: written from a run, read without running code, held against published results.

A file ``<name>.npz`` holds the network's arrays, those of two axes in float16, and a text ``about`` in JSON with the
configuration, from which the network is built again, the temperature, and the facts of the model card beside it.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax
from tqdm import tqdm

from ser_utils.config import RunConfig, from_dict, run_configs
from ser_utils.data import corpus, folds
from ser_utils.evaluation import tables
from ser_utils.evaluation.metrics import PROBABILITIES, calibration_error, model_name, temperature
from ser_utils.features import spectral
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import RESULTS, RUNS, atomic_write, write_text
from ser_utils.training import fit, frontend, grid, runs

FOLDER = Path(__file__).parent / "weights"
FORMAT = "ser_utils weights 1"
LARGEST = 2**26  # bytes of arrays that are unpacked; a network of ours has 3 MiB
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
DIFFER = 3  # labels of a fold's 240 that rounding to float16 may change


class WeightsError(ValueError):
    """A file of weights that can't be used; the message names it and says what to do."""


def names() -> list[str]:
    """The weights that were made here, by name."""
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
    """The network of a run's folder, and about it what :func:`read` says; the temperature is that of validation clips.

    Raises WeightsError where the folder lacks ``run.json`` or ``model.keras``, or they contradict each other.
    """
    directory = Path(directory)
    for name in ("run.json", runs.WEIGHTS):
        if not (directory / name).is_file():
            raise WeightsError(f"{directory} holds no {name}. Name a finished run with weights, as of make grid.")
    try:
        config = from_dict(json.loads((directory / "run.json").read_text())["config"])
        model = build(config)
        model.load_weights(directory / runs.WEIGHTS)
        found = directory / "predictions.csv"
        scale = _fitted(pd.read_csv(found)) if found.exists() else 1.0
    except BROKEN as error:
        raise WeightsError(f"The run {directory} can't be loaded ({_first_line(error)}). Train it again.") from error
    return model, {"name": config.place, "config": dataclasses.asdict(config), "config_hash": config.hash,
                   "temperature": scale}


def _fitted(answers: pd.DataFrame) -> float:
    """The temperature of validation predictions; 1 without any."""
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
        raise WeightsError(f"There are no weights {path.absolute()}; made here so far: {', '.join(names()) or 'none'}. "
                           "Give a run's folder, as make report leaves in runs/, or see CONTRIBUTING.md.")
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


def export(model: keras.Model, scale: float, path: Path) -> None:
    """Write a network for other programs: ONNX or, where ``path`` ends so, LiteRT (``.tflite``).

    Log-mels in dB (n, frames, bands) in, float32, made as ``spectral.log_mel`` and ``fit_length`` make them;
    probabilities (n, 8) with the temperature ``scale`` out. (An LSTM in LiteRT asks for TensorFlow's Flex delegate.)
    Raises ValueError for another ending, ImportError without the packages of requirements-export.txt.
    """
    kinds = {".onnx": "onnx", ".tflite": "litert"}
    if path.suffix not in kinds:
        raise ValueError(f"{path} must end in {' or '.join(kinds)}.")
    x = logmel = keras.Input(model.input_shape[1:], name="logmel_db")
    for layer in model.layers[1:]:
        x = x if layer.name in ("augment", "spec_augment") else layer(x)  # of training alone
    network = keras.Model(logmel, keras.ops.softmax(keras.ops.log(keras.ops.maximum(x, 1e-7)) / scale))
    network(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports what has been called
    with atomic_write(path) as temporary:
        network.export(temporary, format=kinds[path.suffix], verbose=False)


def ship(run: str | Path, name: str, judged: Sequence[str | Path] = (), folder: Path = FOLDER) -> Path:
    """Write ``<name>.npz`` and its model card ``<name>.md`` from a run's folder with weights; the file's path.

    ``judged``: runs whose predictions tell its accuracy and its temperature, for a network trained on all actors; by
    default the run itself. Raises WeightsError, ResultsError or ValueError where a run can't be used.
    """
    model, about = from_run(run)
    settings = from_dict(about["config"])
    if settings.learns in ("refit", "all") and not judged:
        raise WeightsError(f"{run} kept no clips to fit its temperature by: name runs that judge it.")
    answers = pd.concat([runs.read_predictions(path).assign(fold=runs.Run(Path(path)).info["fold"], seed=0)
                         for path in judged or [run]], ignore_index=True)
    scale, test = _fitted(answers), answers[answers.subset == "test"]
    each = test.fold.map({fold: _fitted(part) for fold, part in answers.groupby("fold")}).to_numpy()[:, None]
    honest = softmax(np.log(np.maximum(test[PROBABILITIES].to_numpy(), 1e-5)) / each, axis=1)
    scores = {key: round(value, 1) for key, value in tables.figures(test, settings.protocol).items()}
    about |= {"name": name, "temperature": scale, "parameters": model.get_layer(settings.model).count_params(),
              "protocol": settings.protocol, "clips": len(test), "scores": scores,
              "calibration_error": round(100 * calibration_error(test.label, honest), 1),
              "trained_on": f"All 24 actors were in training; the accuracy is that of {len(judged)} networks trained "
              "alike and tested on actors they never heard." if judged else
              f"It was trained on the training clips of fold {settings.fold} of `{settings.protocol}`."}
    write(folder / f"{name}.npz", model, about)
    write_text(folder / f"{name}.md", card(about))
    return folder / f"{name}.npz"


def card(about: dict) -> str:
    """The model card, in Markdown, of what :func:`read` says about a file."""
    return (FOLDER / "card.txt").read_text(encoding="utf-8").format(
        title=model_name(about["config"]["model"]), **about | about["scores"])


def verify(found: corpus.Corpus, folder: Path = FOLDER, results: Path = RESULTS) -> pd.DataFrame:
    """The networks of fold 0 of ``actors`` on that fold's test clips, decoded anew, and the published answers.

    One row a network: network, labels (how many differ), probability (largest difference), verdict ("equal", "differs",
    "missing", "another recipe").
    """
    rows, clips = [], found.index.iloc[folds.split(found.index, "actors", 0)["test"]]
    with tempfile.TemporaryDirectory() as cache:
        for name in tqdm(MODEL_NAMES, "Verify", unit="network", disable=None):
            path, published = folder / f"{fold0(name)}.npz", results / "actors" / name / "fold0"
            rows.append({"network": model_name(name), "verdict": "missing"})
            if not path.exists():
                continue
            model, about = read(path)
            settings = from_dict(about["config"])
            if not runs.holds(published, settings):
                rows[-1]["verdict"] = "another recipe"
                continue
            store = spectral.extract(dataclasses.replace(found, index=clips), settings.features, Path(cache), False)
            mine = fit.predict(model, spectral.fit_length(store.logmel, store.lengths, settings.frames),
                               settings.versions)
            theirs = runs.read_predictions(published).set_index("clip").loc[store.clips, PROBABILITIES].to_numpy()
            differ = int((mine.argmax(axis=1) != theirs.argmax(axis=1)).sum())
            rows[-1] |= {"labels": differ, "probability": float(np.abs(mine - theirs).max()),
                         "verdict": "equal" if differ <= DIFFER else "differs"}
    return pd.DataFrame(rows, columns=["network", "labels", "probability", "verdict"])


def fold0(model: str) -> str:
    """The name of the weights of a network of fold 0 of ``actors``."""
    return f"{model}-actors-fold0"


@grid.command
def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.shipped``: make the files of weights, or hold them against the published predictions."""
    parser = argparse.ArgumentParser(prog="ser_utils.shipped", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("write", help="a file from a run's folder")
    one.add_argument("run", type=Path)
    one.add_argument("--name", required=True)
    one.add_argument("--judged", type=Path, nargs="+", default=[], help="runs that tell its accuracy and temperature")
    seven = commands.add_parser("fold0", help="the networks of fold 0 of actors whose runs are published")
    seven.add_argument("--runs", type=Path, default=RUNS)
    commands.add_parser("verify", help="hold the networks of fold 0 of actors against results/")
    options = parser.parse_args(arguments)
    if options.command == "write":
        made = [ship(options.run, options.name, options.judged)]
    elif options.command == "fold0":
        ready = [config for config in run_configs("full", "ravdess", None, ["actors"], [0])
                 if runs.is_finished(config, options.runs) and runs.holds(RESULTS / config.place, config)]
        made = [ship(config.run_directory(options.runs), fold0(config.model)) for config in ready]
    else:
        table = verify(corpus.find("ravdess"))
        print(table.astype({"labels": "Int64"}).to_string(index=False, na_rep="–", float_format="{:.4f}".format))
        print(f"equal: at most {DIFFER} of 240 labels differ, by rounding to float16 and another processor's sums.\n"
              "missing: see make ship. another recipe: the published run is of another recipe than the weights.")
        return 0 if set(table.verdict) <= {"equal", "missing"} and "equal" in set(table.verdict) else 1
    print("\n".join(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB" for path in made)
          or "Nothing to ship: train the published runs of fold 0 here (make grid PROTOCOLS=actors FOLDS=0).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
