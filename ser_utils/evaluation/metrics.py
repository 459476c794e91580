"""From predictions to metrics: accuracy, macro precision, recall and F1, calibration, ensembles.

Metrics follow equations (7) to (10) of the paper; F1 has the factor 2 that the printed equation (10) lacks.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, recall_score

from ser_utils import EMOTIONS
from ser_utils.data import names
from ser_utils.paper import MODEL_NAMES, TABLE2

METRICS = ("accuracy", "precision", "recall", "f1")
PROTOCOL_TITLES = {"random": "Random split (the paper's)", "twins": "Twins kept together", "actors": "Unseen actors"}
ENSEMBLE_NAMES = {"ensemble": "Ensemble, mean", "weighted": "Ensemble, weighted"}  # of the networks
REFERENCE_NAMES = {  # what the networks are held against, see ser_utils.evaluation.reference
    "majority": "Most frequent class", "logistic": "Logistic regression", "svm": "SVM (RBF kernel)"}
OTHER_NAMES = {  # trained or told otherwise than the seven: rows of their own
    "face": "Face alone", "fusion_late": "Voice and face, late fusion",
    "fusion_feature": "Voice and face, feature fusion", "aligned_svm": "Aligned view, SVM",
    "aligned_dense": "Aligned view, dense networks", "aligned_ensemble": "Ensemble with the aligned view"}
PROBABILITIES = [f"p_{emotion}" for emotion in EMOTIONS]


class ResultsError(ValueError):
    """A results folder or file that cannot be used; the message names it and says what to do."""


def confusion(labels, predictions) -> np.ndarray:
    """Count of clips by true class (rows) and predicted class (columns), shape (8, 8), int64.

    ``predictions`` are class numbers, shape (n,), or probabilities, shape (n, 8), of which the largest counts. Raises
    ValueError if the lengths differ, nothing is given, a probability is not finite, or a class is out of range.
    """
    predictions, classes = np.asarray(predictions), range(len(EMOTIONS))
    if predictions.ndim == 2:
        if not np.isfinite(predictions).all():
            raise ValueError("Probabilities hold NaN or infinite values; the network that made them diverged.")
        predictions = predictions.argmax(axis=1)
    matrix = confusion_matrix(labels, predictions, labels=classes)
    if matrix.sum() < len(predictions):
        raise ValueError(f"Labels and predictions must be whole numbers from 0 to {classes[-1]}.")
    return matrix


def metrics_from_confusion(matrix) -> dict:
    """Accuracy and macro precision, recall and F1 of confusion matrices (..., classes, classes): a dict of arrays, 0-1.

    As scikit-learn's with ``zero_division=0``: averaged over the classes that occur as label or as prediction.
    """
    matrix = np.asarray(matrix, dtype=float)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    seen = (true + predicted > 0).sum(axis=-1)

    def macro(above, below):
        ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return ratio.sum(axis=-1) / np.maximum(seen, 1)

    return {"accuracy": hits.sum(axis=-1) / np.maximum(true.sum(axis=-1), 1), "precision": macro(hits, predicted),
            "recall": macro(hits, true), "f1": macro(2 * hits, true + predicted)}


def metrics(labels, predictions) -> dict[str, float]:
    """Accuracy, macro precision, recall (unweighted average recall, UAR) and F1, 0-1. Raises as :func:`confusion`."""
    return {name: float(value) for name, value in metrics_from_confusion(confusion(labels, predictions)).items()}


def per_class_recall(labels, predictions) -> np.ndarray:
    """Share of each emotion's clips that were recognised, shape (8,), 0-1; NaN without clips."""
    return recall_score(labels, predictions, labels=range(len(EMOTIONS)), average=None, zero_division=np.nan)


def calibration(labels, probabilities) -> pd.DataFrame:
    """Confidence against accuracy in ten equal bins of the largest probability (reliability diagram).

    Columns clips, confidence, accuracy; the last two are NaN in an empty bin.
    """
    probabilities = np.asarray(probabilities)
    answers = pd.DataFrame({"confidence": probabilities.max(axis=1).clip(max=1),
                            "accuracy": probabilities.argmax(axis=1) == np.asarray(labels)})
    bins = answers.groupby(pd.cut(answers.confidence, np.linspace(0, 1, 11)), observed=False)
    return bins.mean().assign(clips=bins.size()).reset_index(drop=True)


def calibration_error(labels, probabilities) -> float:
    """Expected calibration error (Naeini et al. 2015): gap of confidence and accuracy, weighted by clips; 0-1."""
    table = calibration(labels, probabilities).dropna()
    return float(((table.confidence - table.accuracy).abs() * table.clips).sum() / table.clips.sum())


def cross_entropy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats of probabilities (N, 8) against labels (N,)."""
    return float(-np.log(np.maximum(predicted[np.arange(len(labels)), labels], 1e-7)).mean())


def temperature(logs: np.ndarray, labels: np.ndarray) -> float:
    """The temperature (Guo et al. 2017) that fits log-probabilities (n, classes) to labels (n,); 1 without any.

    A weak pull towards 1 steadies it on few rows; rows of NaN are left out.
    """
    known = np.flatnonzero(~np.isnan(logs[:, 0]))

    def loss(power):
        scaled = log_softmax(np.exp(-power) * logs[known], axis=1)
        return 0.01 * np.square(power).sum() - scaled[np.arange(len(known)), labels[known]].mean()

    return float(np.exp(minimize(loss, [0.0]).x[0])) if len(known) else 1.0


def clip_facts(clips: Iterable[str]) -> pd.DataFrame:
    """Intensity, actor (int) and gender of clip names, one row each; ValueError if a name is not one of RAVDESS."""
    facts = names.index_of(dict.fromkeys(clips)).set_index("clip")
    return facts.loc[list(clips), ["intensity", "actor", "gender"]].reset_index(drop=True)


def in_order(names: Iterable[str], first: Iterable[str] = tuple(MODEL_NAMES)) -> list[str]:
    """Distinct names, those of ``first`` in its order, then the others alphabetically; references last."""
    last = list(REFERENCE_NAMES)
    others = sorted(set(names) - set(first), key=lambda name: (last.index(name) + 1 if name in last else 0, name))
    return [name for name in first if name in set(names)] + others


def model_name(model: str) -> str:
    """What a model is called in tables and figures."""
    base, _, learns = model.rpartition("_")
    if learns in ("distilled", "refit"):
        return f"{model_name(base)}, {learns}"
    names = MODEL_NAMES | ENSEMBLE_NAMES | REFERENCE_NAMES | OTHER_NAMES
    return names.get(model, model.replace("_", " ").capitalize())


def ensemble(predictions: pd.DataFrame, name: str = "ensemble", over: str = "model") -> pd.DataFrame:
    """The mean of several models' probabilities for each clip, in the format of ``runs.predictions``.

    ``over`` tells the members apart: "model", or "seed" for the trainings of one network. Raises ResultsError if some
    member lacks clips that another has, or has another label for them.
    """
    keys = ["protocol", "fold", "clip", "subset", "label"]
    groups = predictions.groupby(keys, sort=False)
    short = groups[over].nunique() < predictions[over].nunique()
    if short.any() or predictions.duplicated([*keys, over]).any():
        raise ResultsError(f"An ensemble needs each {over} once for each clip: {int(short.sum())} clips lack a {over}. "
                           f"Finish the missing folds or leave the {over} out.")
    mean = groups[PROBABILITIES].mean().reset_index()
    answers = mean[PROBABILITIES].to_numpy().argmax(axis=1)
    return mean.assign(prediction=answers, model=name, seed=predictions.seed.min())[list(predictions.columns)]


def ensemble_weights(validation: pd.DataFrame) -> pd.Series:
    """The weights of models in a mean of probabilities, chosen on validation clips of one fold; they sum to 1.

    Forward selection with replacement by cross-entropy, the best of twenty steps (Caruana et al. 2004, doi
    10.1145/1015330.1015432). Raises ResultsError if the models were validated on different clips.
    """
    answers = validation.label.to_numpy()
    likely = validation.assign(likely=validation[PROBABILITIES].to_numpy()[np.arange(len(answers)), answers])
    likely = likely.pivot(index="model", columns="clip", values="likely")
    likely = likely.loc[in_order(likely.index)]
    if likely.isna().any(axis=None):
        raise ResultsError("The models were validated on different clips; they can't be weighted.")
    models, likely = likely.index, likely.to_numpy()
    chosen, best = [], (np.inf, [])
    for _ in range(20):
        means = (likely[chosen].sum(axis=0) + likely) / (len(chosen) + 1)
        losses = -np.log(np.maximum(means, 1e-7)).mean(axis=1)
        chosen = [*chosen, int(losses.argmin())]
        best = min(best, (losses.min(), chosen))
    return pd.Series(np.bincount(best[1], minlength=len(models)) / len(best[1]), index=models)


def ensembles(predictions: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Test predictions of the two ensembles of one protocol's networks, and how many networks they join (0: none).

    "ensemble" is their mean, "weighted" one with the weights of each fold's validation clips. The networks with the
    most finished folds take part, or all if that is one alone; only folds and seeds that all of them finished count.
    """
    predictions = predictions[predictions.model.isin(list(TABLE2))]
    done = predictions.groupby("model").fold.nunique()
    models = done.index[done == done.max()] if (done == done.max()).sum() > 1 else done.index
    mine = predictions[predictions.model.isin(models)]
    shared = mine[mine.groupby(["seed", "fold"]).model.transform("nunique") == len(models)]
    if len(models) < 2 or shared.empty:
        return predictions.head(0), 0
    folds = shared[shared.seed == shared.seed.min()].fold.nunique()
    complete = shared[shared.groupby("seed").fold.transform("nunique") == folds]
    joint = []
    for _, part in complete.groupby("seed"):
        joint.append(ensemble(part[part.subset == "test"]))
        for fold, validated in part[part.subset == "val"].groupby("fold"):  # of ten folds none validates
            weights = ensemble_weights(validated)
            test = part[(part.fold == fold) & (part.subset == "test")]
            scaled = test[PROBABILITIES].mul(test.model.map(weights) * len(weights), axis=0)
            joint.append(ensemble(test.assign(**scaled), "weighted"))
    return pd.concat(joint, ignore_index=True), len(models)
