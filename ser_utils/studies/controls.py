"""Negative controls: what the accuracies should not rest on, and what the networks know that is no emotion."""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from statsmodels.stats.proportion import proportion_confint

from ser_utils import FOLDS
from ser_utils import config as configuration
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import check_split
from ser_utils.evaluation import metrics, statistics
from ser_utils.features import audio, spectral
from ser_utils.paper import MODEL_NAMES
from ser_utils.training import fit, frontend, runs

SURFACE = ("before", "speech", "after", "level_before", "level", "level_after", "peak")  # seconds; mean power and peak
CUES = {"duration of the speech": ["speech"], "loudness of the speech": ["level", "peak"],  # columns of `surface`
        "silence around the speech": ["before", "after", "level_before", "level_after"]}


def surface(corpus: Corpus) -> pd.DataFrame:
    """What a recording shows before anybody listens to it: clip and ``SURFACE``, seconds and dB re full scale.

    The speech is cut out as for the networks; no silence at all has 0 s and -100 dB. Raises as ``audio.load``.
    """
    def measured(path: str) -> list[float]:
        wave, rate = audio.load(path)
        bounds = audio.speech_bounds(wave, rate, configuration.FeatureConfig().top_db)
        parts = np.split(wave.astype(np.float64), bounds)
        levels = [10 * np.log10(max(np.mean(part**2), 1e-10)) if len(part) else -100.0 for part in parts]
        return [*(len(part) / rate for part in parts), *levels, 20 * np.log10(np.abs(wave).max())]

    rows = audio.each(measured, corpus.index.path, "Surface")
    return pd.DataFrame(rows, columns=SURFACE, index=corpus.index["clip"]).reset_index()


def cue_predictions(measured: pd.DataFrame, index: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Emotions as logistic regressions guess them from each of ``CUES`` alone, all folds: clip, label, cue, prediction.

    ``measured``: of :func:`surface`, for the clips of ``index``. The cues enter with their squares and products,
    standardised on the training clips; emotions count alike.
    """
    model = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(),
                          LogisticRegression(class_weight="balanced", max_iter=2000))
    folds = [(rows["train"], rows["test"]) for rows in (check_split(index, protocol, fold) for fold in range(FOLDS))]
    return pd.concat([index[["clip", "label"]].assign(cue=cue, prediction=cross_val_predict(
        model, measured[columns], index.label, cv=folds)) for cue, columns in CUES.items()], ignore_index=True)


def penultimate(run: runs.Run, logmel: np.ndarray) -> np.ndarray:
    """What a trained network hands to its last layer, (N, features), of log-mels (N, frames, bands) in dB."""
    front, network = frontend.parts(frontend.load(run.dir))
    last = keras.Model(network.inputs[0], network.get_layer("predictions").input)
    return frontend.outputs(last, frontend.outputs(front, logmel))


def actor_probe(values: np.ndarray, actors: np.ndarray, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Which test clips' actors a logistic regression of training clips names from ``values`` (N, features): bool."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(values[rows["train"]], actors[rows["train"]])
    return model.predict(values[rows["test"]]) == actors[rows["test"]]


def table(corpus: Corpus, store: spectral.FeatureStore, probed: Sequence[runs.Run] = ()) -> pd.DataFrame:
    """Emotions from cues alone, and who is speaking.

    ``probed`` are honest runs on the ``random`` protocol, with their weights. Columns: kind ("emotion": UAR with
    a bootstrap interval over ``statistics.units``; "actor": accuracy with Wilson's interval),
    what, protocol, clips (of all folds probed), score, low, high, chance (per cent).
    """
    columns = ["kind", "what", "protocol", "clips", "score", "low", "high", "chance"]
    rows, measured = [], surface(corpus)
    for protocol in ("random", "actors"):
        for cue, part in cue_predictions(measured, corpus.index, protocol).groupby("cue", sort=False):
            ends = statistics.bootstrap_intervals(part.label, part.prediction, statistics.units(part["clip"], protocol))
            rows.append(("emotion", cue, protocol, len(part), metrics.metrics(part.label, part.prediction)["recall"],
                         *ends["recall"], 1 / 8))
    actors, named = store.index.actor.to_numpy(), {}  # what -> for each fold whether a test clip's actor was named
    for run in probed:
        data = fit.prepare(configuration.from_dict(run.info["config"]), store)
        speech = (data.logmel > configuration.PAD_DB).any(axis=2, keepdims=True)
        means = np.where(speech, data.logmel, 0).sum(axis=1) / speech.sum(axis=1)
        for what, values in ((f"last features of {MODEL_NAMES[run.info['model']]}", penultimate(run, data.logmel)),
                             ("mean log-mel spectrum", means)):
            named.setdefault(what, {})[run.info["fold"]] = actor_probe(values, actors, data.rows)
    for what, by_fold in named.items():
        right = np.concatenate(list(by_fold.values()))
        rows.append(("actor", what, "random", len(right), right.mean(),
                     *proportion_confint(right.sum(), len(right), method="wilson"), 1 / len(np.unique(actors))))
    return pd.DataFrame([(*row[:4], *(100 * value for value in row[4:])) for row in rows], columns=columns)
