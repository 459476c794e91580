"""From predictions to metrics, ensembles, intervals and tests.

Everything here is computed from the files of finished runs (``run.json``, ``history.csv``,
``predictions.csv``); neither audio nor a deep-learning library is needed. :mod:`ser_utils.tables` makes tables of it.

Metrics follow equations (7) to (10) of the paper, each class against the rest, averaged over the classes
with equal weight ("macro"); F1 has the factor 2 that the printed equation (10) lacks.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ser_utils import EMOTIONS, FOLDS, PROTOCOLS
from ser_utils.paper import MODEL_NAMES

METRICS = ("accuracy", "precision", "recall", "f1")
ENSEMBLE_NAMES = {"ensemble": "Ensemble, mean", "greedy": "Ensemble, weighed"}  # of the networks
PROTOCOL_TITLES = {
    "random": "Random split (the paper's)",
    "twins": "Twins kept together",
    "actors": "Unseen actors",
}
REFERENCE_NAMES = {  # what the networks are held against (ser_utils.reference); never counted among them
    "majority": "Most frequent class",
    "logistic": "Logistic regression",
    "svm": "SVM (RBF kernel)",
}
PROBABILITIES = [f"p_{emotion}" for emotion in EMOTIONS]
FULL_ROWS = 480  # 240 validation and 240 test clips in one fold of the whole corpus
RUN_KEYS = (
    "model",
    "protocol",
    "fold",
    "seed",
    "profile",
    "corpus",
    "parameters",
    "epochs",
    "best_epoch",
    "metrics",
    "wall_seconds",
    "samples_per_second",
)
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


class ResultsError(ValueError):
    """A results folder or file that cannot be used; the message names it and says what to do."""


# ---------------------------------------------------------------------------------------------- metrics


def confusion(labels, predictions, classes: int = len(EMOTIONS)) -> np.ndarray:
    """Count of clips by true class (rows) and predicted class (columns), shape (classes, classes), int64.

    ``predictions`` are class numbers, shape (n,), or probabilities, shape (n, classes), of which the largest
    counts.

    Raises
    ------
    ValueError
        If the lengths differ, nothing is given, a probability is not finite, or a class is out of range.
    """
    labels = _classes(labels, "labels", classes)
    predictions = np.asarray(predictions)
    if predictions.ndim == 2:
        if predictions.shape[1] != classes:
            raise ValueError(
                f"Probabilities have {predictions.shape[1]} columns; {classes} classes need {classes}."
            )
        if not np.isfinite(predictions).all():
            raise ValueError(
                "Probabilities hold NaN or infinite values; the network that made them diverged."
            )
        predictions = predictions.argmax(axis=1)
    predictions = _classes(predictions, "predictions", classes)
    if len(labels) != len(predictions):
        raise ValueError(f"{len(labels)} labels but {len(predictions)} predictions; give one for each clip.")
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def _classes(values, what: str, classes: int) -> np.ndarray:
    """One-dimensional class numbers as int64, checked."""
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(
            f"{what} must be a list of at least one class number, not an array of shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{what} hold NaN or infinite values.")
    numbers = values.astype(np.int64)
    if (numbers != values).any() or numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(
            f"{what} must be whole numbers from 0 to {classes - 1}; found {np.unique(values)[:10]}."
        )
    return numbers


def metrics_from_confusion(matrix) -> dict:
    """Accuracy and macro precision, recall and F1 of confusion matrices, shape (..., classes, classes).

    Per class (paper, equations 8 to 10): precision = TP / (TP + FP), recall = TP / (TP + FN),
    F1 = 2 precision recall / (precision + recall) = 2 TP / (2 TP + FP + FN); a quotient with nothing below
    the line is 0. The mean runs over the classes that occur as label or as prediction, as in scikit-learn.
    Accuracy is the share on the diagonal (equation 7 for more than two classes).

    Returns a dict of arrays of shape (...), fractions 0-1.
    """
    matrix = np.asarray(matrix, dtype=float)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true = matrix.sum(axis=-1)
    predicted = matrix.sum(axis=-2)
    seen = (true + predicted) > 0

    def macro(above, below):
        ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return ratio.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)

    return {
        "accuracy": hits.sum(axis=-1) / np.maximum(true.sum(axis=-1), 1),
        "precision": macro(hits, predicted),
        "recall": macro(hits, true),
        "f1": macro(2 * hits, true + predicted),
    }


def metrics(labels, predictions, classes: int = len(EMOTIONS)) -> dict[str, float]:
    """Accuracy, macro precision, macro recall (= unweighted average recall, UAR) and macro F1, fractions 0-1.

    ``predictions`` are class numbers (n,) or probabilities (n, classes). Definitions: see
    :func:`metrics_from_confusion`; errors: see :func:`confusion`.
    """
    scores = metrics_from_confusion(confusion(labels, predictions, classes))
    return {name: float(value) for name, value in scores.items()}


def per_class_recall(labels, predictions, classes: int = len(EMOTIONS)) -> np.ndarray:
    """Share of each class's clips that were recognised, shape (classes,), 0-1; NaN without clips."""
    matrix = confusion(labels, predictions, classes)
    clips = matrix.sum(axis=1)
    return np.divide(matrix.diagonal(), clips, out=np.full(classes, np.nan), where=clips > 0)


def calibration(labels, probabilities, bins: int = 10) -> pd.DataFrame:
    """Confidence against accuracy in ``bins`` equal bins of the largest probability (reliability diagram).

    Returns the columns low, high (edges), clips, confidence, accuracy; empty bins hold NaN in the last two.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(labels)
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, bins - 1)
    clips = np.bincount(number, minlength=bins)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "clips": clips,
                "confidence": np.bincount(number, weights=confidence, minlength=bins) / clips,
                "accuracy": np.bincount(number, weights=right, minlength=bins) / clips,
            }
        )


def calibration_error(labels, probabilities, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017): gap of confidence and accuracy, weighted by clips."""
    table = calibration(labels, probabilities, bins).dropna()
    return float(((table.confidence - table.accuracy).abs() * table.clips).sum() / table.clips.sum())


# ------------------------------------------------------------------------------------------ reading runs


def clip_facts(clips: Iterable[str]) -> pd.DataFrame:
    """Intensity ("normal"/"strong"), actor (int) and gender ("male"/"female") of clip names, one row each.

    Names follow RAVDESS: the fourth field is the intensity, the seventh the actor (odd male, even female).

    Raises
    ------
    ResultsError
        If a name is not made of seven two-digit numbers.
    """
    clips = pd.Series(list(clips), dtype=str)
    parts = clips.str.extract(r"^\d\d-\d\d-\d\d-(\d\d)-\d\d-\d\d-(\d\d)$")
    if parts.isna().any(axis=None):
        bad = clips[parts.isna().any(axis=1)].iloc[0]
        raise ResultsError(f"Clip name {bad!r} is not a RAVDESS name such as 03-01-05-01-02-01-12.")
    actor = parts[1].astype(int)
    return pd.DataFrame(
        {
            "intensity": np.where(parts[0] == "02", "strong", "normal"),
            "actor": actor,
            "gender": np.where(actor % 2 == 1, "male", "female"),
        }
    )


def check_predictions(
    frame: pd.DataFrame, source: str | Path = "predictions", rows: int | None = None
) -> None:
    """Check a table of predictions for everything the results format promises.

    ``source`` is the name used in messages; ``rows`` the number of rows expected (``FULL_ROWS`` for one fold
    of the whole corpus), or None for any.

    Raises
    ------
    ResultsError
        If columns are missing, the number of rows is wrong, a value is missing or no number, a label is not
        0-7 or not the one in the clip's name, a subset is neither val nor test, a clip occurs twice, or
        probabilities leave 0-1 or do not sum to 1 within 0.001.
    """

    def fail(problem):
        raise ResultsError(f"{source}: {problem} Delete this run's folder and train it again.")

    missing = [column for column in ["clip", "subset", "label", *PROBABILITIES] if column not in frame]
    if missing:
        fail(f"columns missing: {', '.join(missing)}.")
    if len(frame) == 0:
        fail("it holds no rows.")
    if rows is not None and len(frame) != rows:
        fail(f"it has {len(frame)} rows; a finished run on the whole corpus has {rows}.")
    numbers = frame[["label", *PROBABILITIES]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(numbers).all() or frame[["clip", "subset"]].isna().any(axis=None):
        bad = ~np.isfinite(numbers).all(axis=1) | frame[["clip", "subset"]].isna().any(axis=1).to_numpy()
        fail(f"row {int(bad.argmax()) + 1} holds NaN, an empty cell or a value that is no finite number.")
    if not np.isin(numbers[:, 0], range(len(EMOTIONS))).all():
        fail(f"labels must be 0 to {len(EMOTIONS) - 1}; found {np.unique(numbers[:, 0])[:10]}.")
    if not frame.subset.isin(["val", "test"]).all():
        fail(f"subset must be 'val' or 'test'; found {sorted(set(frame.subset) - {'val', 'test'})[:5]}.")
    clips = frame["clip"].astype(str)
    if clips.duplicated().any():
        fail(f"clip {clips[clips.duplicated()].iloc[0]} occurs twice.")
    probabilities = numbers[:, 1:]
    wrong = (np.abs(probabilities.sum(axis=1) - 1) > 1e-3) | (probabilities < 0).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        fail(
            f"probabilities of clip {clips.iloc[row]} sum to {probabilities[row].sum():.4f} "
            f"(smallest {probabilities[row].min():.4f}); they must be 0 to 1 and sum to 1."
        )
    named = pd.to_numeric(clips.str[6:8], errors="coerce") - 1
    if (named.to_numpy() != numbers[:, 0]).any():
        row = int((named.to_numpy() != numbers[:, 0]).argmax())
        fail(f"clip {clips.iloc[row]} is labelled {numbers[row, 0]:.0f}, which its name contradicts.")


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV file of a run, or a :class:`ResultsError` that names it."""
    if not path.is_file():
        raise ResultsError(
            f"{path} is missing: the run beside it is incomplete. Delete that folder and train it again."
        )
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise ResultsError(
            f"{path} cannot be read ({error}). Delete that folder and train it again."
        ) from error


def _finite(value) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _read_info(run_dir: Path) -> dict:
    """``run.json`` of a run, its keys checked."""
    path = Path(run_dir) / "run.json"
    if not path.is_file():
        raise ResultsError(f"{path} is missing: this run is not finished. Train it (again) to finish it.")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ResultsError(
            f"{path} is damaged ({error}). Delete that folder and train the run again."
        ) from error
    missing = [key for key in RUN_KEYS if not isinstance(info, dict) or key not in info]
    if missing:
        raise ResultsError(f"{path} lacks {', '.join(missing)}. Delete that folder and train the run again.")
    for subset in ("val", "test"):
        scores = info["metrics"].get(subset) if isinstance(info["metrics"], dict) else None
        if not isinstance(scores, dict) or not all(_finite(scores.get(name)) for name in METRICS):
            raise ResultsError(
                f"{path}: metrics of {subset} must be the finite numbers {', '.join(METRICS)}."
            )
    place = (Path(run_dir).resolve().parts)[-3:]
    stated = (str(info["protocol"]), str(info["model"]), f"fold{info['fold']}")
    if place != stated:
        raise ResultsError(
            f"{path} says it is {'/'.join(stated)}, but lies in {'/'.join(place)}. Move or delete it."
        )
    return info


def read_predictions(run_dir: str | Path) -> pd.DataFrame:
    """The checked predictions of one run (both subsets) with the column ``prediction`` (0-7) added.

    Raises
    ------
    ResultsError
        See :func:`check_predictions`; also if the file is missing or unreadable. A run of profile ``full``
        must have 480 rows.
    """
    return _read_predictions(Path(run_dir), _read_info(Path(run_dir)))


def _read_predictions(run_dir: Path, info: dict) -> pd.DataFrame:
    path = run_dir / "predictions.csv"
    frame = _read_csv(path)
    check_predictions(frame, path, rows=FULL_ROWS if info["profile"] == "full" else None)
    frame["prediction"] = frame[PROBABILITIES].to_numpy().argmax(axis=1)
    return frame


def read_history(run_dir: str | Path) -> pd.DataFrame:
    """``history.csv`` of one run: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate.

    Raises
    ------
    ResultsError
        If the file is missing, unreadable, empty or lacks a column.
    """
    path = Path(run_dir) / "history.csv"
    frame = _read_csv(path)
    missing = [column for column in HISTORY_COLUMNS if column not in frame]
    if missing or frame.empty:
        raise ResultsError(
            f"{path} lacks {', '.join(missing) or 'any epoch'}. Delete that folder and train it again."
        )
    return frame


def read_run(run_dir: str | Path) -> dict:
    """One finished run as a flat dict: the row that :func:`load_runs` makes of it.

    Keys: protocol, model, fold, seed, profile, corpus, parameters, epochs, best_epoch, wall_seconds,
    samples_per_second, val_accuracy ... test_f1 (fractions 0-1), dir (Path). All three files are read and
    checked, and the test metrics in ``run.json`` must be those of ``predictions.csv``.

    Raises
    ------
    ResultsError
        If a file is missing, damaged or contradicts another.
    """
    run_dir = Path(run_dir)
    info = _read_info(run_dir)
    read_history(run_dir)
    predictions = _read_predictions(run_dir, info)
    for subset in ("val", "test"):
        part = predictions[predictions.subset == subset]
        if part.empty:
            raise ResultsError(
                f"{run_dir / 'predictions.csv'} has no {subset} clips. Delete that folder and train again."
            )
        accuracy = float((part.label == part.prediction).mean())
        # Rounding to five decimals may turn a tie: allow one clip.
        if abs(accuracy - info["metrics"][subset]["accuracy"]) > 1 / len(part) + 1e-4:
            raise ResultsError(
                f"{run_dir / 'run.json'} states a {subset} accuracy of "
                f"{info['metrics'][subset]['accuracy']:.4f}, "
                f"predictions.csv beside it gives {accuracy:.4f}. Delete that folder and train the run again."
            )
    row = {key: info[key] for key in RUN_KEYS if key != "metrics"}
    row |= {
        f"{subset}_{name}": info["metrics"][subset][name] for subset in ("val", "test") for name in METRICS
    }
    return row | {"dir": run_dir}


def check_run(run_dir: str | Path) -> None:
    """Check that a run's epoch was not chosen on test clips, and that its files tell one story.

    From ``history.csv`` and ``predictions.csv``, without audio: the epochs are numbered without gaps; the kept one
    is the last or, as the run's ``keep`` says, has the highest validation accuracy (ties: the lowest validation
    loss); where each clip is judged once, the validation predictions are those of that epoch, by accuracy and
    cross-entropy; all eight metrics in ``run.json`` are those of the predictions; the clips are the fold's (of a
    whole corpus: see ``FULL_ROWS``).

    Raises
    ------
    ResultsError
        The message says which of these does not hold.
    """
    run_dir = Path(run_dir)
    read_run(run_dir)
    info, history = _read_info(run_dir), read_history(run_dir)
    predictions = _read_predictions(run_dir, info)

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
    if kept.empty or tuple(kept.iloc[0][same]) != tuple(due[same]):
        fail(f"epoch {info['best_epoch']} was kept, but epoch {due.epoch:.0f} is the "
             f"{'last one' if last else 'best on validation clips'}: something else chose the epoch.")
    for subset, part in predictions.groupby("subset"):
        true = metrics(part.label, part.prediction)
        for name in METRICS:
            if abs(true[name] - info["metrics"][subset][name]) > 1e-4:
                fail(f"run.json states a {subset} {name} of {info['metrics'][subset][name]:.4f}, the predictions "
                     f"give {true[name]:.4f}.")
    val = predictions[predictions.subset == "val"]
    right = val[PROBABILITIES].to_numpy()[np.arange(len(val)), val.label]
    low, high = (float(-np.log(np.clip(right + d, 1e-7, 1)).mean()) for d in (5e-6, -5e-6))  # five decimals
    accuracy = float((val.label == val.prediction).mean())
    told = abs(accuracy - due.val_accuracy) <= 1 / len(val) + 1e-4 and low - 0.01 <= due.val_loss <= high + 0.01
    if info["config"].get("versions", 1) == 1 and not told:
        fail(f"the validation predictions (accuracy {accuracy:.4f}, loss {low:.4f} to {high:.4f}) are not those of "
             f"the kept epoch (accuracy {due.val_accuracy:.4f}, loss {due.val_loss:.4f}).")
    protocol = info["protocol"]
    if len(predictions) == FULL_ROWS and protocol in PROTOCOLS:
        from ser_utils import folds

        table = folds.table().set_index("clip")[protocol]
        for subset, number in (("test", info["fold"]), ("val", (info["fold"] + 1) % FOLDS)):
            clips = predictions["clip"][predictions.subset == subset]
            strangers = clips[table.reindex(clips).to_numpy() != number]
            if len(strangers):
                fail(f"{len(strangers)} {subset} clips do not belong to fold {number} of {protocol}, among them "
                     f"{strangers.iloc[0]}.")


def in_order(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Distinct names, those of ``first`` in its order, then the others alphabetically; references last."""
    names = set(names)
    others = sorted(names - set(first), key=lambda name: (_place(name), name))
    return [name for name in first if name in names] + others


def _place(name: str) -> int:
    """Where a name that is no network stands: 0, or for a reference its place behind the others."""
    return list(REFERENCE_NAMES).index(name) + 1 if name in REFERENCE_NAMES else 0


def run_dirs(root: str | Path) -> list[Path]:
    """Folders of finished runs under ``root`` (<protocol>/<model>/fold<k>), in the order of the tables.

    A folder without ``run.json`` is a run still going on and is left out, as are runs of other settings
    that were moved aside (``fold<k>-<hash>``); a root that does not exist is empty.
    """
    found = [path.parent for path in Path(root).glob("*/*/fold[0-9]/run.json")]
    protocols = in_order({path.parts[-3] for path in found}, PROTOCOLS)
    models = in_order({path.parts[-2] for path in found}, tuple(MODEL_NAMES))
    return sorted(
        found, key=lambda path: (protocols.index(path.parts[-3]), models.index(path.parts[-2]), path.name)
    )


def load_runs(root: str | Path, references: bool = False) -> pd.DataFrame:
    """All finished runs of networks under ``root``, one row each; columns as the keys of :func:`read_run`.

    With ``references`` also those of ``REFERENCE_NAMES``, which are no networks.

    Raises
    ------
    ResultsError
        If a finished run's file is missing or damaged; the message names the file.
    """
    rows = [read_run(path) for path in run_dirs(root) if references or path.parts[-2] not in REFERENCE_NAMES]
    columns = [key for key in RUN_KEYS if key != "metrics"]
    columns += [f"{subset}_{name}" for subset in ("val", "test") for name in METRICS] + ["dir"]
    first = ["protocol", "model", "fold"]
    return pd.DataFrame(rows, columns=first + [column for column in columns if column not in first])


def load_predictions(
    root: str | Path, protocol: str | None = None, model: str | None = None, subset: str | None = "test",
    references: bool = False,
) -> pd.DataFrame:
    """Predictions of all finished runs of networks under ``root`` in one long table.

    ``protocol`` and ``model`` choose; None takes all, with ``references`` also those of ``REFERENCE_NAMES``,
    which are no networks (one that is named as ``model`` is read in any case). ``subset`` is "test", "val" or
    None for both. Columns: protocol, model, fold, clip, subset, label, prediction, p_neutral ... p_surprised.
    No rows if nothing is finished.

    Raises
    ------
    ResultsError
        If a file is missing or damaged.
    ValueError
        If ``subset`` is something else.
    """
    if subset not in ("test", "val", None):
        raise ValueError(f"subset must be 'test', 'val' or None, not {subset!r}.")
    columns = ["protocol", "model", "fold", "clip", "subset", "label", "prediction", *PROBABILITIES]
    parts = []
    for path in run_dirs(root):
        if (protocol or path.parts[-3], model or path.parts[-2]) != path.parts[-3:-1]:
            continue
        if path.parts[-2] in REFERENCE_NAMES and not (references or model):
            continue
        info = _read_info(path)
        part = _read_predictions(path, info).assign(**{key: info[key] for key in columns[:3]})
        parts.append(part if subset is None else part[part.subset == subset])
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def ensemble(predictions: pd.DataFrame, name: str = "ensemble") -> pd.DataFrame:
    """The mean of several models' probabilities for each clip, in the format of :func:`load_predictions`.

    Raises
    ------
    ResultsError
        If some model lacks clips that another has, or labels of one clip differ.
    """
    keys = ["protocol", "fold", "clip", "subset"]
    groups = predictions.groupby(keys, sort=False)
    short = groups.model.nunique() < predictions.model.nunique()
    if short.any() or predictions.duplicated([*keys, "model"]).any():
        raise ResultsError(
            f"An ensemble needs each model once for each clip: {int(short.sum())} clips lack a model. "
            "Finish the missing folds or leave the model out."
        )
    if (groups.label.nunique() > 1).any():
        raise ResultsError(
            "The models disagree about a clip's label; their runs come from different corpora."
        )
    mean = groups[["label", *PROBABILITIES]].mean().reset_index()
    mean["label"] = mean.label.astype(int)
    mean["prediction"] = mean[PROBABILITIES].to_numpy().argmax(axis=1)
    return mean.assign(model=name)[list(predictions.columns)]


def greedy_weights(validation: pd.DataFrame, rounds: int = 20) -> pd.Series:
    """The weights of models in a mean of probabilities, chosen on validation clips of one fold; they sum to 1.

    Forward selection with replacement (Caruana et al. 2004, doi 10.1145/1015330.1015432): one model is added at
    a time, whichever lowers the cross-entropy of the mean most, and the best of the ``rounds`` means is kept.
    ``validation`` holds each model once for each clip, in the format of :func:`load_predictions`.
    """
    models = in_order(set(validation.model), MODEL_NAMES)
    members = [validation[validation.model == model].sort_values("clip") for model in models]
    labels = members[0].label.to_numpy()
    if any(not np.array_equal(member["clip"].to_numpy(), members[0]["clip"].to_numpy()) for member in members):
        raise ResultsError("The models were validated on different clips; they can't be weighed against each other.")
    likely = np.stack([member[PROBABILITIES].to_numpy()[np.arange(len(labels)), labels] for member in members])
    chosen, best = [], (np.inf, [])
    for _ in range(rounds):
        means = (likely[chosen].sum(axis=0) + likely) / (len(chosen) + 1)
        losses = -np.log(np.maximum(means, 1e-7)).mean(axis=1)
        chosen = [*chosen, int(losses.argmin())]
        best = min(best, (losses.min(), chosen))
    return pd.Series(np.bincount(best[1], minlength=len(models)) / len(best[1]), index=models)


def greedy_ensemble(predictions: pd.DataFrame, name: str = "greedy") -> pd.DataFrame:
    """The models' mean with :func:`greedy_weights` of each fold's validation clips, for its test clips.

    ``predictions`` holds validation and test clips of every model (``load_predictions(subset=None)``).

    Raises
    ------
    ResultsError
        See :func:`ensemble`.
    """
    parts = []
    for _, fold in predictions.groupby(["protocol", "fold"]):
        weights = greedy_weights(fold[fold.subset == "val"])
        test = fold[fold.subset == "test"].copy()
        test[PROBABILITIES] = test[PROBABILITIES].mul(test.model.map(weights) * len(weights), axis=0)
        parts.append(ensemble(test, name))
    return pd.concat(parts, ignore_index=True)


def ensembles(predictions: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Test predictions of the two ensembles of one protocol's networks, and how many networks they join.

    The networks with the most finished folds take part, or all that were run if that is one alone; only folds that
    all of them finished count. No predictions and 0 where there are not two networks or more.
    """
    finished = predictions.groupby("fold").model.unique()
    done = predictions.groupby("model").fold.nunique()
    models = done.index[done == done.max()]
    if len(models) < 2:
        models = done.index
    folds = [fold for fold, present in finished.items() if set(models) <= set(present)]
    if len(models) < 2 or not folds:
        return predictions.head(0), 0
    shared = predictions[predictions.fold.isin(folds) & predictions.model.isin(models)]
    return pd.concat([ensemble(shared[shared.subset == "test"]), greedy_ensemble(shared)]), len(models)


# --------------------------------------------------------------------------------------------- intervals


def wilson_interval(correct: int, clips: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's (1927) interval of a share, fractions 0-1; ``correct`` of ``clips`` independent clips."""
    interval = stats.binomtest(int(correct), int(clips)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_metrics(
    labels, predictions, groups=None, resamples: int = 2000, seed: int = 0, classes: int = len(EMOTIONS)
) -> dict[str, np.ndarray]:
    """All four metrics of ``resamples`` bootstrap corpora, a dict of arrays (resamples,).

    Without ``groups`` clips are drawn with replacement; with ``groups`` (one actor a clip) whole actors are,
    which keeps the dependence between clips of one voice (cluster bootstrap). Neither draws clips one by one:
    metrics depend on the confusion matrix alone, so multinomial counts of its cells (of the actors' matrices)
    are enough.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        cells = confusion(labels, predictions, classes).ravel()
        drawn = rng.multinomial(cells.sum(), cells / cells.sum(), size=resamples)
    else:
        matrices = _group_confusions(labels, predictions, groups, classes)
        drawn = (
            rng.multinomial(len(matrices), np.full(len(matrices), 1 / len(matrices)), size=resamples)
            @ matrices
        )
    return metrics_from_confusion(drawn.reshape(resamples, classes, classes))


def _group_confusions(labels, predictions, groups, classes) -> np.ndarray:
    """Confusion matrices of the groups, each as a row: shape (groups, classes * classes)."""
    labels, predictions, groups = np.asarray(labels), np.asarray(predictions), np.asarray(groups)
    if len(groups) != len(labels):
        raise ValueError(f"{len(labels)} labels but {len(groups)} groups; give the actor of each clip.")
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("A cluster bootstrap needs at least two groups (actors).")
    return np.stack(
        [confusion(labels[groups == g], predictions[groups == g], classes).ravel() for g in names]
    )


def bootstrap_interval(
    labels,
    predictions,
    metric: str = "accuracy",
    groups=None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval (low, high) of a metric, 0-1: over clips, or over actors given as ``groups``.

    Percentiles of the bootstrap corpora, with tails widened for the number of units drawn ("expanded
    percentile interval", Hesterberg 2015): the plain percentile interval is too short when there are 24
    actors.

    Raises
    ------
    ValueError
        If ``metric`` is unknown, or ``groups`` do not match the clips or are fewer than two.
    """
    if metric not in METRICS:
        raise ValueError(f"Unknown metric {metric!r}; choose from {', '.join(METRICS)}.")
    samples = bootstrap_metrics(labels, predictions, groups, resamples, seed)
    units = len(np.asarray(labels)) if groups is None else len(np.unique(groups))
    return expanded_percentiles(samples[metric], units, level)


def bootstrap_difference(
    correct_a, correct_b, groups=None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval (low, high) of the difference of two networks' accuracies (a - b) on the same clips.

    ``correct_a`` and ``correct_b`` say clip by clip who was right, shape (n,). Pairs are drawn: clips, or with
    ``groups`` (one actor a clip) whole actors. Expanded percentiles as in :func:`bootstrap_interval`.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    a, b = np.asarray(correct_a, dtype=float), np.asarray(correct_b, dtype=float)
    groups = np.arange(len(a)) if groups is None else np.asarray(groups)
    if not a.shape == b.shape == groups.shape:
        raise ValueError(f"A paired interval needs the same clips for both: {len(a)}, {len(b)}, {len(groups)}.")
    _, unit = np.unique(groups, return_inverse=True)
    clips, difference = np.bincount(unit), np.bincount(unit, weights=a - b)
    units = len(clips)
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return expanded_percentiles((drawn @ difference) / (drawn @ clips), units, level)


def expanded_percentiles(samples, units: int, level: float) -> tuple[float, float]:
    """Interval of bootstrap samples with tails widened for ``units`` drawn units (Hesterberg 2015)."""
    tail = (1 - level) / 2
    if units > 1:
        tail = stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf(tail, units - 1))
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


# -------------------------------------------------------------------------------------------------- tests


def mcnemar(correct_a, correct_b) -> dict:
    """Exact McNemar test of two networks on the same clips.

    ``correct_a`` and ``correct_b`` say clip by clip who was right, shape (n,). Returns only_a, only_b (clips
    that one alone got right) and the two-sided p of the binomial test that both are equally likely.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"McNemar's test needs the same clips for both: {a.shape} against {b.shape}.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": float(p)}


def wilcoxon_actors(correct_a, correct_b, actors) -> dict:
    """Wilcoxon's signed-rank test over actors: is one network better for most voices?

    Each actor gives one pair, the two networks' accuracies on that actor's clips. Returns difference (mean of
    a - b over actors), actors (number) and the two-sided p; p is 1 when no actor shows a difference.
    """
    frame = pd.DataFrame(
        {"a": np.asarray(correct_a, float), "b": np.asarray(correct_b, float), "actor": actors}
    )
    means = frame.groupby("actor")[["a", "b"]].mean()
    difference = (means.a - means.b).round(12)  # equal shares must be exact ties
    p = stats.wilcoxon(difference).pvalue if (difference != 0).any() else 1.0
    return {"difference": float(difference.mean()), "actors": len(difference), "p": float(p)}


def holm(pvalues) -> np.ndarray:
    """Holm's (1979) step-down correction: adjusted p values in the given order, at most 1.

    Raises
    ------
    ValueError
        If a p value is not between 0 and 1.
    """
    from statsmodels.stats.multitest import multipletests

    pvalues = np.asarray(pvalues, dtype=float)
    if not ((pvalues >= 0) & (pvalues <= 1)).all():
        raise ValueError(f"p values must lie between 0 and 1; got {pvalues}.")
    return multipletests(pvalues, method="holm")[1] if len(pvalues) else pvalues


def _one_protocol(predictions: pd.DataFrame) -> None:
    protocols = predictions.protocol.unique()
    if len(protocols) != 1 or predictions.duplicated(["model", "clip"]).any():
        raise ResultsError(
            f"Networks are compared within one protocol, each clip once; got protocols {list(protocols)}. "
            "Choose one with load_predictions(root, protocol=...)."
        )


def _correct(predictions: pd.DataFrame) -> pd.DataFrame:
    """Right (True) or wrong by clip (rows) and model (columns); only clips that every model has."""
    _one_protocol(predictions)
    right = predictions.assign(right=(predictions.label == predictions.prediction).astype(float))
    table = right.pivot(index="clip", columns="model", values="right").dropna()
    if table.empty:
        raise ResultsError("The models have no clip in common; finish the same folds for each.")
    return table[in_order(table.columns, tuple(MODEL_NAMES))].astype(bool)


def compare_all(predictions: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Every pair of models on the clips both have: exact McNemar and Wilcoxon over actors, Holm-corrected.

    ``predictions`` as from :func:`load_predictions`, one protocol. Columns: model_a, model_b, clips,
    accuracy_a, accuracy_b, difference (a - b), only_a, only_b, p_mcnemar, p_wilcoxon, holm_mcnemar,
    holm_wilcoxon and significant (both corrected p values below ``level``: clips and voices agree).

    Raises
    ------
    ResultsError
        If several protocols are mixed, or the models have no clip in common.
    """
    _one_protocol(predictions)
    rows = []
    for a, b in itertools.combinations(in_order(predictions.model, tuple(MODEL_NAMES)), 2):
        right = _correct(predictions[predictions.model.isin([a, b])])
        clips, voices = (
            mcnemar(right[a], right[b]),
            wilcoxon_actors(right[a], right[b], clip_facts(right.index).actor),
        )
        rows.append(
            {
                "model_a": a,
                "model_b": b,
                "clips": len(right),
                "accuracy_a": right[a].mean(),
                "accuracy_b": right[b].mean(),
                "difference": right[a].mean() - right[b].mean(),
                "only_a": clips["only_a"],
                "only_b": clips["only_b"],
                "p_mcnemar": clips["p"],
                "p_wilcoxon": voices["p"],
            }
        )
    columns = [
        "model_a",
        "model_b",
        "clips",
        "accuracy_a",
        "accuracy_b",
        "difference",
        "only_a",
        "only_b",
        "p_mcnemar",
        "p_wilcoxon",
    ]
    table = pd.DataFrame(rows, columns=columns)
    for test in ("mcnemar", "wilcoxon"):
        table[f"holm_{test}"] = holm(table[f"p_{test}"])
    table["significant"] = (table.holm_mcnemar < level) & (table.holm_wilcoxon < level)
    return table


def standing(comparison: pd.DataFrame, model: str) -> dict:
    """How a model stands against each other one, by :func:`compare_all`'s table.

    Returns the lists better_than, worse_than (differences that survive: column significant) and open (all others),
    in the table's order, and ahead_of (number of models with a lower accuracy, whether it survives or not).

    Raises
    ------
    ValueError
        If the table does not know the model.
    """
    mine = comparison[(comparison.model_a == model) | (comparison.model_b == model)]
    if mine.empty:
        raise ValueError(f"{model!r} is in none of the pairs.")
    found = {"better_than": [], "worse_than": [], "open": [], "ahead_of": 0}
    for pair in mine.itertuples():
        rival, gain = (pair.model_b, pair.difference) if pair.model_a == model else (pair.model_a, -pair.difference)
        kind = "open" if not pair.significant else "better_than" if gain > 0 else "worse_than"
        found[kind].append(rival)
        found["ahead_of"] += bool(gain > 0)
    return found


def actor_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model (columns) for each actor (rows), on the clips that all models have; 0-1."""
    right = _correct(predictions)
    return right.groupby(clip_facts(right.index).actor.to_numpy()).mean().rename_axis("actor")


def critical_difference(scores: pd.DataFrame, level: float = 0.05) -> dict:
    """Friedman's test and Nemenyi's critical difference (Demsar 2006) of models over blocks.

    ``scores`` has one row a block (an actor) and one column a model; higher is better. Returns ranks (Series,
    mean rank, 1 is best, best first), difference (two models whose ranks are closer cannot be told apart),
    statistic and p of Friedman's test, blocks.

    Raises
    ------
    ValueError
        With fewer than three models or two blocks, or with missing scores.
    """
    values = scores.to_numpy(dtype=float)
    blocks, models = values.shape
    if models < 3 or blocks < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"Friedman's test needs at least 3 models and 2 blocks without gaps; got {models} and {blocks}."
        )
    ranks = pd.Series(
        stats.rankdata(-values.round(12), axis=1).mean(axis=0), index=scores.columns
    ).sort_values()
    if (values == values[:, :1]).all():  # all tied everywhere: nothing to test
        statistic, p = 0.0, 1.0
    else:
        statistic, p = stats.friedmanchisquare(*values.round(12).T)
    quantile = stats.studentized_range.ppf(1 - level, models, np.inf) / np.sqrt(2)
    width = quantile * np.sqrt(models * (models + 1) / (6 * blocks))
    return {
        "ranks": ranks,
        "difference": float(width),
        "statistic": float(statistic),
        "p": float(p),
        "blocks": blocks,
    }
