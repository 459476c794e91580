"""Reference rows: what no deep network is needed for, measured on the same clips and folds.

The most frequent class, logistic regression and a support vector machine, the latter two on the mean and
standard deviation over time of every MFCC and delta. They write the run format of the networks, so that the
same code publishes and tabulates them.
"""

import argparse
import dataclasses
import json
import sys
import time
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

from ser_utils import EMOTIONS, FOLDS, machine
from ser_utils import config as configuration
from ser_utils.config import FeatureConfig, RunConfig
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import check_split
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation.metrics import REFERENCE_NAMES
from ser_utils.features import spectral as features
from ser_utils.features.spectral import FeatureStore
from ser_utils.paths import RUNS, atomic_write
from ser_utils.training import runs

STRENGTHS = {  # values of C tried, the most regularised first
    "majority": (1.0,),
    "logistic": tuple(10.0**power for power in range(-5, 2)),
    "svm": tuple(10.0**power for power in range(-1, 4)),
}


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """One reference run; its hash, name and folder are made as those of a network's run."""

    profile: str
    corpus: str
    protocol: str
    model: str                      # a key of evaluation.REFERENCE_NAMES
    fold: int
    seed: int = 0
    features: FeatureConfig = FeatureConfig()
    strengths: tuple[float, ...] = ()  # values of C; validation accuracy chooses

    variant = ""  # part of no study
    hash, place, name = RunConfig.hash, RunConfig.place, RunConfig.name
    run_directory, is_finished, lies_in = RunConfig.run_directory, RunConfig.is_finished, RunConfig.lies_in


def run_configs(profile: str, corpus: str) -> list[ReferenceConfig]:
    """The reference runs of a profile on a corpus ("ravdess" or "synthetic"): its protocols and folds."""
    chosen = configuration.PROFILES[profile]
    return [ReferenceConfig(profile, corpus, protocol, model, fold, 0, chosen.features, STRENGTHS[model])
            for protocol in chosen.protocols for model in REFERENCE_NAMES for fold in chosen.folds]


def classifier(model: str, strength: float):
    """An unfitted classifier with ``predict_proba``; ``strength`` is C, the inverse of the regularisation.

    The SVM's decision values become probabilities by temperature scaling (Guo et al. 2017), fitted by
    cross-validation within the training clips; it never changes which class comes first.
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


def run(config: ReferenceConfig, corpus: Corpus, store: FeatureStore, root: Path = RUNS) -> Path:
    """Fit one reference on the training clips and write its run; returns the run's folder.

    C is the value with the best validation accuracy (ties: the lower validation loss, then the smaller C);
    test clips are predicted once. A run that is finished is left as it is.

    Raises
    ------
    LeakError
        The split shares a speaker, a twin or a clip between parts where the protocol forbids it.
    """
    directory = config.run_directory(root)
    if runs.is_finished(config, root):
        return directory
    rows = check_split(corpus.index, config.protocol, config.fold)
    values = features.clip_statistics(store).to_numpy()
    labels = corpus.index.label.to_numpy()
    began = time.perf_counter()
    best = None
    for strength in config.strengths:
        fitted = classifier(config.model, strength).fit(values[rows["train"]], labels[rows["train"]])
        scores = {part: _scores(fitted, values[rows[part]], labels[rows[part]]) for part in ("train", "val")}
        if best is None or (scores["val"]["accuracy"], -scores["val"]["loss"]) > (
                best[2]["val"]["accuracy"], -best[2]["val"]["loss"]):
            best = fitted, strength, scores
    seconds = time.perf_counter() - began
    fitted, strength, scores = best

    tables = {part: _predictions(fitted, store.clips, values, labels, rows[part], part) for part in ("val", "test")}
    history = {"epoch": 1, "loss": scores["train"]["loss"], "accuracy": scores["train"]["accuracy"],
               "val_loss": scores["val"]["loss"], "val_accuracy": scores["val"]["accuracy"], "learning_rate": np.nan}
    seen = len(config.strengths) * len(rows["train"])
    info = {
        "model": config.model, "protocol": config.protocol, "fold": config.fold, "seed": config.seed,
        "profile": config.profile, "corpus": config.corpus,
        "config": dataclasses.asdict(config), "config_hash": config.hash, "strength": strength,
        "features": dataclasses.asdict(config.features), "features_hash": config.features.hash,
        "parameters": parameters(fitted), "epochs": 1, "best_epoch": 1,
        "metrics": {part: evaluation.metrics(table.label.to_numpy(), table[evaluation.PROBABILITIES].to_numpy())
                    for part, table in tables.items()},
        "wall_seconds": round(seconds, 4), "samples_per_second": round(seen / seconds, 2),
        "device": machine.processor(), "backend": "scikit-learn", "precision": "float64",
        "versions": machine.versions(), "revision": machine.revision(),
    }
    (directory / "run.json").unlink(missing_ok=True)  # of other settings: no longer true of the files beside it
    for name, table in (("predictions.csv", pd.concat(tables.values())), ("history.csv", pd.DataFrame([history]))):
        with atomic_write(directory / name) as temporary:
            table.to_csv(temporary, index=False)
    with atomic_write(directory / "run.json") as temporary:
        temporary.write_text(json.dumps(info, indent=1) + "\n")
    return directory


def _probabilities(fitted, values: np.ndarray) -> np.ndarray:
    """Probabilities of all eight classes (N, 8); classes that no training clip has get 0."""
    out = np.zeros((len(values), len(EMOTIONS)))
    out[:, fitted.classes_] = fitted.predict_proba(values)
    return out


def _scores(fitted, values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and mean cross-entropy in nats of a fitted classifier."""
    predicted = _probabilities(fitted, values)
    return {"accuracy": float((predicted.argmax(axis=1) == labels).mean()),
            "loss": float(-np.log(np.maximum(predicted[np.arange(len(labels)), labels], 1e-7)).mean())}


def _predictions(fitted, clips, values, labels, rows, part: str) -> pd.DataFrame:
    """The rows of ``predictions.csv`` of one part of the split."""
    table = pd.DataFrame({"clip": clips[rows], "subset": part, "label": labels[rows]})
    return table.join(pd.DataFrame(_probabilities(fitted, values[rows]).round(5), columns=evaluation.PROBABILITIES))


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.evaluation.reference``: fit the references of a profile that are missing, print their means."""
    parser = argparse.ArgumentParser(prog="ser_utils.evaluation.reference", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(configuration.PROFILES))
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")
    options = parser.parse_args(arguments)

    from ser_utils.data import corpus

    try:
        found = corpus.for_profile(options.profile)
        store = features.extract(found, configuration.PROFILES[options.profile].features)
        configs = run_configs(options.profile, found.kind)
        folders = [run(c, found, store, options.runs) for c in tqdm(configs, desc="References", unit="run")]
        table = pd.DataFrame([runs.read(folder) for folder in folders])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(found.banner or "", end="\n" if found.banner else "")
    means = 100 * table.pivot_table(["test_accuracy", "test_recall"], "model", "protocol", sort=False)
    folds = f"{table.fold.nunique()} of {FOLDS} folds"
    print(f"Mean test accuracy and recall (UAR) in per cent, {folds}:\n{means.round(1).to_string()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
