"""Reference rows, as runs: the most frequent class; logistic regression and an SVM on MFCCs' means and deviations."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from ser_utils import FOLDS
from ser_utils.config import PROFILES, BaseConfig
from ser_utils.data import corpus
from ser_utils.data.folds import check_split
from ser_utils.evaluation.metrics import PROBABILITIES, REFERENCE_NAMES, cross_entropy, metrics
from ser_utils.features import spectral
from ser_utils.paths import RUNS
from ser_utils.training import grid, runs

STRENGTHS = {  # values of C tried, the most regularised first
    "majority": (1.0,), "logistic": tuple(10.0**power for power in range(-5, 2)),
    "svm": tuple(10.0**power for power in range(-1, 4))}


@dataclasses.dataclass(frozen=True)
class ReferenceConfig(BaseConfig):
    """One reference run; ``model`` is a key of ``REFERENCE_NAMES``."""

    strengths: tuple[float, ...] = ()  # values of C; validation accuracy chooses


def run_configs(profile: str, kind: str) -> list[ReferenceConfig]:
    """The reference runs of a profile on a corpus ("ravdess" or "synthetic"): its protocols and folds."""
    chosen = PROFILES[profile]
    return [ReferenceConfig(profile, kind, protocol, model, fold, 0, chosen.features, STRENGTHS[model])
            for protocol in chosen.protocols for model in REFERENCE_NAMES for fold in chosen.folds]


def classifier(model: str, strength: float):
    """An unfitted classifier with ``predict_proba``; ``strength`` is C, the inverse of the regularisation.

    The SVM's decision values become probabilities by a temperature (Guo et al. 2017), fitted to training clips.
    """
    if model == "majority":
        return DummyClassifier(strategy="prior")
    if model == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
    vectors = make_pipeline(StandardScaler(), SVC(C=strength, kernel="rbf", gamma="scale"))
    return CalibratedClassifierCV(vectors, method="temperature", cv=5, ensemble=False)


def parameters(fitted) -> int:
    """Fitted numbers of a classifier: coefficients and intercepts; of the SVM, support vectors and their weights."""
    if isinstance(fitted, DummyClassifier):
        return fitted.class_prior_.size
    if isinstance(fitted, CalibratedClassifierCV):
        last = fitted.calibrated_classifiers_[0].estimator[-1]
        return last.support_vectors_.size + last.dual_coef_.size + last.intercept_.size + 1  # 1: the temperature
    return fitted[-1].coef_.size + fitted[-1].intercept_.size


def run(config: ReferenceConfig, store: spectral.FeatureStore, root: Path = RUNS) -> runs.Run:
    """Fit one reference on the training clips and write its run.

    C is the value with the best validation accuracy (ties: the lower validation loss, then the smaller C). A finished
    run is left as it is. Raises LeakError as ``folds.check_split``.
    """
    directory = config.run_directory(root)
    if runs.holds(directory, config):
        return runs.Run(directory)
    rows = check_split(store.index, config.protocol, config.fold)
    values, labels = spectral.clip_statistics(store).to_numpy(), store.index.label.to_numpy()
    tried, began = [], time.perf_counter()
    for strength in config.strengths:
        fitted = classifier(config.model, strength).fit(values[rows["train"]], labels[rows["train"]])
        told = fitted.predict_proba(values[rows["val"]])
        val = labels[rows["val"]]
        tried.append(((told.argmax(axis=1) == val).mean(), -cross_entropy(told, val), fitted, strength))
    *_, fitted, strength = max(tried, key=lambda one: one[:2])
    seconds = time.perf_counter() - began
    answers = {part: fitted.predict_proba(values[rows[part]]) for part in ("val", "test")}
    return record(config, directory, store.index, rows, answers, seconds, len(tried) * len(rows["train"]),
                  strength=strength, parameters=parameters(fitted), backend="scikit-learn", precision="float64")


def record(config: BaseConfig, directory: Path, index: pd.DataFrame, rows: Mapping[str, np.ndarray],
           answers: Mapping[str, np.ndarray], seconds: float, samples: int, **told) -> runs.Run:
    """Write the run of what is fitted in one step, without epochs: ``samples`` in ``seconds``.

    ``answers`` ("test", of most "val") are probabilities for ``rows`` of ``index``; ``run.json`` has what is ``told``.
    """
    tables = {part: runs.prediction_table(index["clip"].to_numpy()[rows[part]], index.label.to_numpy()[rows[part]],
                                          found, part) for part, found in answers.items()}
    scores = {part: metrics(table.label, table[PROBABILITIES].to_numpy()) for part, table in tables.items()}
    history = dict.fromkeys(runs.HISTORY_COLUMNS, np.nan) | {"epoch": 1}
    if (val := tables.get("val")) is not None:
        history |= {"val_loss": cross_entropy(val[PROBABILITIES].to_numpy(), val.label),
                    "val_accuracy": scores["val"]["accuracy"]}
    info = runs.provenance(config) | {
        "epochs": 1, "best_epoch": 1, "metrics": scores, "wall_seconds": round(seconds, 4),
        "samples_per_second": round(samples / seconds, 2)} | told
    return runs.write(directory, info, pd.DataFrame([history]), pd.concat(tables.values()))


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.evaluation.reference``: fit a profile's missing references, print their means."""
    parser = argparse.ArgumentParser(prog="ser_utils.evaluation.reference", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(PROFILES))
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")
    options = parser.parse_args(arguments)
    found = corpus.for_profile(options.profile)
    store = spectral.extract(found, PROFILES[options.profile].features)
    done = [run(config, store, options.runs) for config in
            tqdm(run_configs(options.profile, found.kind), desc="References", unit="run")]
    table = pd.DataFrame([runs.read(one.dir) for one in done])
    if found.banner:
        print(found.banner)
    means = 100 * table.pivot_table(["test_accuracy", "test_recall"], "model", "protocol", sort=False)
    print(f"Mean test accuracy and recall (UAR) in per cent, {table.fold.nunique()} of {FOLDS} folds:\n"
          f"{means.round(1).to_string()}")


if __name__ == "__main__":
    sys.exit(main())
