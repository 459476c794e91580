"""The files of a run, read, checked, written, copied and published here and nowhere else.

A run is a folder ``<root>/<protocol>/<model>/fold<k>[-seed<s>]`` with ``run.json``, ``history.csv`` and
``predictions.csv``, where it was trained also ``model.keras``. A folder without ``run.json`` is a run still going on.
"""

import dataclasses
import filecmp
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser_utils import FOLD_COUNT, PROTOCOLS, TENFOLD, machine
from ser_utils.data import folds, names
from ser_utils.evaluation.metrics import METRICS, PROBABILITIES, ResultsError, in_order, metrics
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import atomic_write, write_text

FILES = ("predictions.csv", "history.csv", "run.json")  # run.json last
WEIGHTS = "model.keras"
STATE = "state.npz"  # of a run still going on, see ``fit.Checkpoint``
AGAIN = "Delete that folder and train the run again."
WHOLE = ("full", "robust")  # profiles of the whole corpus
CLIPS = 1440  # of it; each part that is judged has a fold of them
RUN_KEYS = ("protocol", "model", "fold", "seed", "profile", "corpus", "parameters", "epochs", "best_epoch",
            "wall_seconds", "samples_per_second")  # beside "metrics"
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


class RunBusy(RuntimeError):
    """Another process is training this run."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    dir: Path

    @property
    def info(self) -> dict:
        """``run.json``: configuration, metrics, cost and provenance."""
        return json.loads((Path(self.dir) / "run.json").read_text())

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch; columns ``HISTORY_COLUMNS``."""
        return read_history(self.dir)

    @property
    def predictions(self) -> pd.DataFrame:
        """One row a validation or test clip: clip, subset, label and the eight probabilities."""
        return read_predictions(self.dir)


def holds(directory: str | Path, config) -> bool:
    """Whether ``directory`` is a finished run of this very configuration, by its hash."""
    try:
        return json.loads((Path(directory) / "run.json").read_text())["config_hash"] == config.hash
    except (OSError, ValueError, KeyError):
        return False


def is_finished(config, root: str | Path) -> bool:
    """Whether ``root``, a folder of runs such as ``runs/``, holds a finished run of this very configuration."""
    return holds(config.run_directory(Path(root)), config)


def epochs_done(config, root: str | Path) -> int:
    """After how many epochs an unfinished run will go on, by the state that its training keeps."""
    try:
        with np.load(config.run_directory(Path(root)) / STATE) as state:
            return len(json.loads(str(state["note"]))["rows"])
    except Exception:  # not there or, whatever is wrong with it, of no use
        return 0


def provenance(config) -> dict:
    """What every ``run.json`` says of a run and its making."""
    return {"model": config.row, "protocol": config.protocol, "fold": config.fold, "seed": config.seed,
            "profile": config.profile, "corpus": config.corpus,
            "config": dataclasses.asdict(config), "config_hash": config.hash,
            "features": dataclasses.asdict(config.features), "features_hash": config.features.hash,
            "device": machine.processor(), "versions": machine.versions(), "revision": machine.revision()}


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table in one step."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)


def write(directory: Path, info: dict, history: pd.DataFrame, predictions: pd.DataFrame) -> Run:
    """Write the files of a finished run, ``run.json`` last."""
    (directory / "run.json").unlink(missing_ok=True)  # of other settings: no longer true of the files beside it
    write_csv(predictions, directory / "predictions.csv")
    write_csv(history, directory / "history.csv")
    write_text(directory / "run.json", json.dumps(info, indent=1) + "\n")
    return Run(directory)


def prediction_table(clips, labels, probabilities, subset: str) -> pd.DataFrame:
    """Rows of ``predictions.csv`` of one subset: clips (N,), labels (N,), probabilities (N, 8), five decimals."""
    table = pd.DataFrame({"clip": clips, "subset": subset, "label": labels})
    return table.join(pd.DataFrame(np.round(np.asarray(probabilities, np.float64), 5), columns=PROBABILITIES))


def move_aside(directory: Path) -> None:
    """Keep a finished run of another configuration in ``fold<k>-<hash>`` beside the new one."""
    try:
        name = Run(directory).info["config_hash"]
    except (ValueError, KeyError):
        name = "damaged"
    aside = directory.with_name(f"{directory.name}-{name}")
    aside.mkdir(exist_ok=True)
    for path in sorted(directory.iterdir(), key=lambda path: path.name == "run.json"):  # that last, should it be killed
        if path.name not in (".lock", "train.log"):  # open, and held by this training
            os.replace(path, aside / path.name)
    print(f"{directory.name} was trained with other settings; that run is kept in {aside.name}.")


def copy(directory: Path, target: Path) -> bool:
    """Copy a run without its weights, ``run.json`` last; False if ``target`` holds the very same files already."""
    same, _, _ = filecmp.cmpfiles(directory, target, FILES, shallow=False)
    if len(same) == len(FILES):
        return False
    for file in FILES:
        with atomic_write(target / file) as temporary:
            shutil.copyfile(directory / file, temporary)
    return True


def publish(configs: Iterable, root: Path, results: Path, place=lambda config: config.published,
            checked=lambda config: check) -> list[str]:
    """Copy the finished runs of some configurations to ``results/<place(config)>``; returns the places of new ones.

    All are checked, by ``checked(config)(directory)``, before the first is copied. Raises ResultsError where a run is
    on another corpus than RAVDESS or of the profile smoke, and as :func:`check`.
    """
    done = [config for config in configs if is_finished(config, root)]
    for config in done:
        if config.corpus != "ravdess" or config.profile == "smoke":
            raise ResultsError(f"{config.name} is a {config.profile} run on {config.corpus}: quick and full runs on "
                               "ravdess are published.")
        checked(config)(config.run_directory(root))
    return [place(one) for one in done if copy(one.run_directory(root), Path(results) / place(one))]


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What a reader makes of a run's file; a :class:`ResultsError` that names it if it is missing or damaged."""
    if not path.is_file():
        raise ResultsError(f"{path} is missing: the run beside it is incomplete. {AGAIN}")
    try:
        return reader(path)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise ResultsError(f"{path} cannot be read ({error}). {AGAIN}") from error


def read_info(run_dir: Path) -> dict:
    """``run.json`` of a run, its keys checked."""
    path = Path(run_dir) / "run.json"
    if not path.is_file():
        raise ResultsError(f"{path} is missing: this run is not finished. Train it (again) to finish it.")
    info = _read(path, lambda path: json.loads(path.read_text(encoding="utf-8")))
    missing = [key for key in (*RUN_KEYS, "metrics") if not isinstance(info, dict) or key not in info]
    if missing:
        raise ResultsError(f"{path} lacks {', '.join(missing)}. {AGAIN}")
    try:
        scores = [float(info["metrics"][subset][name]) for subset in judged(info) for name in METRICS]
    except (KeyError, TypeError, ValueError):
        scores = [np.nan]
    if not np.isfinite(scores).all():
        raise ResultsError(f"{path}: metrics of {' and '.join(judged(info))} must be the finite numbers "
                           f"{', '.join(METRICS)}. {AGAIN}")
    place = (Path(run_dir).resolve().parts)[-3:]
    stated = (str(info["protocol"]), str(info["model"]), f"fold{info['fold']}")
    if place not in (stated, (*stated[:2], f"{stated[2]}-seed{info['seed']}")):
        raise ResultsError(f"{path} says it is {'/'.join(stated)}, but lies in {'/'.join(place)}. Move or delete it.")
    return info


def judged(info: dict) -> tuple[str, ...]:
    """The subsets that a run is judged on: test clips alone where validation clips are learned from, too."""
    return ("test",) if info["protocol"] == TENFOLD or str(info["model"]).endswith("_refit") else ("val", "test")


def check_predictions(frame: pd.DataFrame, source: str | Path, rows: int | None = None, remedy: str = AGAIN) -> None:
    """Check a table of predictions for everything the results format promises; ``rows`` of them, or any number.

    Raises ResultsError, which names ``source``, says what is wrong with which row, and ends with ``remedy``.
    """
    def fail(problem):
        raise ResultsError(f"{source}: {problem} {remedy}")

    missing = [column for column in ["clip", "subset", "label", *PROBABILITIES] if column not in frame]
    if missing:
        fail(f"columns missing: {', '.join(missing)}.")
    if frame.empty or rows and len(frame) != rows:
        fail(f"it has {len(frame)} rows; {f'{rows} are due' if rows else 'at least one is needed'}.")
    numbers = np.stack([pd.to_numeric(frame[name], errors="coerce") for name in ("label", *PROBABILITIES)], axis=1)
    labels, probabilities = numbers[:, 0], numbers[:, 1:]
    clips = frame["clip"].astype(str)
    for bad, problem in (
            (~np.isfinite(numbers).all(axis=1) | frame[["clip", "subset"]].isna().any(axis=1),
             "holds NaN, an empty cell or a value that is no finite number"),
            (~frame.subset.isin(["val", "test"]), "is of a subset that is neither val nor test"),
            (clips.duplicated(), "holds a clip that occurs twice"),
            ((abs(probabilities.sum(axis=1) - 1) > 1e-3) | (probabilities < 0).any(axis=1),
             "holds probabilities that are not 0 to 1 or do not sum to 1 within 0.001"),
            (pd.to_numeric(clips.str[6:8], errors="coerce") != labels + 1, "has a label that its name contradicts")):
        if bad.any():
            row = int(np.argmax(bad))
            fail(f"row {row + 1} ({clips.iloc[row]}) {problem}.")


def read_predictions(run_dir: str | Path, info: dict | None = None) -> pd.DataFrame:
    """The checked predictions of one run (both subsets) with the column ``prediction`` (0-7) added.

    ``info`` is its ``run.json`` where that was read already. Raises ResultsError if the file is missing or damaged, or
    a run of a whole corpus has not its fold's rows.
    """
    info, path = info or read_info(run_dir), Path(run_dir) / "predictions.csv"
    frame = _read(path, pd.read_csv)
    whole = info["profile"] in WHOLE and info["protocol"] in FOLD_COUNT
    check_predictions(frame, path, CLIPS // FOLD_COUNT[info["protocol"]] * len(judged(info)) if whole else None)
    frame["prediction"] = frame[PROBABILITIES].to_numpy().argmax(axis=1)
    return frame


def read_history(run_dir: str | Path) -> pd.DataFrame:
    """``history.csv`` of one run, ``HISTORY_COLUMNS``; ResultsError if it is missing, damaged, empty or lacks one."""
    path = Path(run_dir) / "history.csv"
    frame = _read(path, pd.read_csv)
    missing = [column for column in HISTORY_COLUMNS if column not in frame]
    if missing or frame.empty:
        raise ResultsError(f"{path} lacks {', '.join(missing) or 'any epoch'}. {AGAIN}")
    return frame


def read(run_dir: str | Path) -> dict:
    """One finished run as a flat dict: those of ``RUN_KEYS``, val_accuracy ... test_f1 (fractions 0-1), dir (Path).

    Raises ResultsError if one of its three files is missing, damaged or contradicts another.
    """
    info, _ = read_info(run_dir), read_history(run_dir)
    frame, row = read_predictions(run_dir, info), {key: info[key] for key in RUN_KEYS}
    for subset in judged(info):
        part = frame[frame.subset == subset]
        if part.empty:
            raise ResultsError(f"{run_dir}/predictions.csv has no {subset} clips. {AGAIN}")
        for name, true in metrics(part.label, part.prediction).items():
            row[f"{subset}_{name}"] = stated = info["metrics"][subset][name]
            if abs(true - stated) > 1e-4:
                raise ResultsError(f"{run_dir}/run.json states a {subset} {name} of {stated:.4f}, predictions.csv "
                                   f"beside it gives {true:.4f}. {AGAIN}")
    return row | {"dir": Path(run_dir)}


def check(run_dir: str | Path) -> None:
    """Check, without audio, that a run's epoch was not chosen on test clips, and that its files tell one story.

    The epochs are numbered without gaps; the kept one is the last or, as the run's ``keep`` says, has the highest
    validation accuracy (ties: the lowest validation loss); where each clip is judged once, the validation predictions
    are those of that epoch, if no voice is enrolled; the clips of a whole corpus are the fold's. Raises ResultsError,
    which says what is wrong.
    """
    read(run_dir)
    info, history, frame = read_info(run_dir), read_history(run_dir), read_predictions(run_dir)

    def fail(problem):
        raise ResultsError(f"{run_dir}: {problem} This run can't be trusted; train it again.")

    if list(history.epoch) != list(range(1, info["epochs"] + 1)):
        fail(f"history.csv does not hold the epochs 1 to {info['epochs']} that run.json states.")
    last = info["config"].get("keep") == "last"
    if last and info["epochs"] != info["config"]["epochs"]:
        fail(f"it keeps the last of {info['config']['epochs']} epochs, but ended after {info['epochs']}.")
    due = history.iloc[-1] if last else history.sort_values(
        ["val_accuracy", "val_loss"], ascending=[False, True], kind="stable").iloc[0]
    kept = history[history.epoch == info["best_epoch"]]
    same = ["epoch"] if last else ["val_accuracy", "val_loss"]
    if kept.empty or not kept.iloc[0][same].equals(due[same]):
        fail(f"epoch {info['best_epoch']} was kept, but epoch {due.epoch:.0f} is the "
             f"{'last one' if last else 'best on validation clips'}: something else chose the epoch.")
    val = frame[frame.subset == "val"]
    if info["config"].get("versions", 1) == 1 and len(val) and "_enrolled" not in info["protocol"]:
        right = val[PROBABILITIES].to_numpy()[np.arange(len(val)), val.label]
        low, high = (float(-np.log(np.clip(right + d, 1e-7, 1)).mean()) for d in (5e-6, -5e-6))  # five decimals
        accuracy = float((val.label == val.prediction).mean())
        if abs(accuracy - due.val_accuracy) > 1 / len(val) + 1e-4 or not low - 0.01 <= due.val_loss <= high + 0.01:
            fail(f"the validation predictions (accuracy {accuracy:.4f}, loss {low:.4f} to {high:.4f}) are not those of "
                 f"the kept epoch (accuracy {due.val_accuracy:.4f}, loss {due.val_loss:.4f}).")
    protocol = info["protocol"].partition("_")[0]  # an enrolled voice's clips lie in the folds of unseen ones
    if info["profile"] in WHOLE and protocol in FOLD_COUNT:
        known = names.index_of(names.speech_names())
        for subset, rows in folds.judged(known, info["protocol"], info["fold"]).items():
            clips, due = set(frame["clip"][frame.subset == subset]), set(known["clip"].iloc[rows])
            if subset in judged(info) and clips != due:
                fail(f"{len(clips - due)} {subset} clips do not belong to fold {info['fold']} of {info['protocol']}, "
                     f"and {len(due - clips)} are missing.")


def find(root: str | Path, seeds: bool = False) -> list[Path]:
    """Folders of finished runs in ``root`` (results/, runs/ravdess-quick/), as tables order them; ``seeds``: all seeds.

    Left out are runs moved aside (:func:`move_aside`), and those that learned from all clips: none is left to test.
    """
    name = re.compile(r".*(?<!_all)/fold\d+" + r"(-seed\d+)?" * seeds)
    found = [path.parent for path in Path(root).glob("*/*/fold*/run.json") if name.fullmatch(path.parent.as_posix())]
    protocols = in_order({path.parts[-3] for path in found}, PROTOCOLS)
    models = in_order({path.parts[-2] for path in found}, tuple(MODEL_NAMES))
    return sorted(found, key=lambda path: (protocols.index(path.parts[-3]), models.index(path.parts[-2]), path.name))


def table(root: str | Path) -> pd.DataFrame:
    """All finished runs of the seven networks under ``root``, one row each; columns and errors as of :func:`read`."""
    return pd.DataFrame([read(path) for path in find(root) if path.parts[-2] in MODEL_NAMES])


def predictions(root: str | Path, protocol: str | None = None, model: str | None = None, subset: str | None = "test",
                references: bool = False, seeds: bool = False) -> pd.DataFrame:
    """Predictions of all finished runs of networks under ``root`` in one long table.

    ``protocol``, ``model`` and ``subset`` ("test", "val") choose; None takes all, with ``references`` also those that
    are not of the seven networks, with ``seeds`` also further seeds. Columns: protocol, model, fold, seed, clip,
    subset, label, prediction, p_neutral ... p_surprised. Raises ResultsError as :func:`read_predictions`; warns if a
    ``model`` that was named has no run there.
    """
    if subset not in ("test", "val", None):
        raise ValueError(f"subset must be 'test', 'val' or None, not {subset!r}.")
    columns = ["protocol", "model", "fold", "seed", "clip", "subset", "label", "prediction", *PROBABILITIES]
    parts = []
    for path in find(root, seeds):
        chosen = (protocol or path.parts[-3], model or path.parts[-2]) == path.parts[-3:-1]
        if chosen and (model or references or path.parts[-2] in MODEL_NAMES):
            info = read_info(path)
            part = read_predictions(path, info).assign(**{key: info[key] for key in columns[:4]})
            parts.append(part if subset is None else part[part.subset == subset])
    if model and not parts:
        warnings.warn(f"{Path(root).absolute()} has no finished run {protocol or '*'}/{model}.", stacklevel=2)
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
