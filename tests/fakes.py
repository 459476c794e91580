"""Results folders in the contract's format, made up: no audio, no training."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from ser_utils import EMOTIONS
from ser_utils.data import folds, names

MODELS = ("alexnet", "resnet", "inceptionnet", "vgg16", "vgg19", "lstm", "transformer")


@functools.cache
def clip_names() -> pd.DataFrame:
    """The 1,440 speech clips: clip, label (0-7), actor, emotion by emotion."""
    return names.index_of(names.speech_names())[["clip", "label", "actor"]]


def fold_of(clips: pd.DataFrame, protocol: str) -> np.ndarray:
    return folds.table().set_index("clip")[protocol].reindex(clips["clip"]).to_numpy()


def texts(fig) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]


def waveform(name: str, samples: int = 64) -> np.ndarray:
    return np.random.default_rng([int(part) for part in name.split("-")]).integers(-2000, 2000, samples, np.int16)


def write_clips(root, clips, suffix=".wav", flat=False) -> Path:
    """Such noise as RAVDESS's files, in a folder an actor or all in one; the root."""
    import soundfile

    for name in clips:
        folder = root if flat else root / f"Actor_{name[-2:]}"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}{suffix}", waveform(name), 48000, subtype="PCM_16")
    return root


def fake_probabilities(labels, accuracy: float, rng) -> np.ndarray:
    """Probabilities (n, 8) whose largest is the label in about ``accuracy`` of the rows, to 5 decimals."""
    labels = np.asarray(labels)
    wrong = (labels + rng.choice([1, 1, 1, 2, 3, 4, 5, 6, 7], size=len(labels))) % 8
    chosen = np.where(rng.random(len(labels)) < accuracy, labels, wrong)
    logits = rng.normal(size=(len(labels), 8))
    logits[np.arange(len(labels)), chosen] = logits.max(axis=1) + rng.gamma(3.0, 0.6, size=len(labels)) + 0.01
    return softmax(logits, axis=1).round(5)


def fake_scores(labels, probabilities) -> dict:
    """What run.json says of predictions, by scikit-learn."""
    guesses = probabilities.argmax(axis=1)
    macro = precision_recall_fscore_support(labels, guesses, average="macro", zero_division=0)
    return dict(zip(("accuracy", "precision", "recall", "f1"), (accuracy_score(labels, guesses), *macro), strict=False))


def fake_run(root, protocol="random", model="resnet", fold=0, accuracy=0.8, seed=0, profile="full", corpus="ravdess",
             beside=False, folder=None, told=None) -> Path:
    """Write one finished run and return its folder: that of the first seed or, with ``beside``, of this further one.

    ``folder``: another one; ``told``: what run.json says besides or in the place of the usual.
    """
    place = MODELS.index(model) if model in MODELS else 99
    rng = np.random.default_rng([seed, fold, place])
    clips = clip_names()
    number_of = fold_of(clips, protocol)
    parts, scores = [], {}
    for subset, number in (("val", (fold + 1) % 6), ("test", fold))[protocol == "random10" or "_refit" in model:]:
        part = clips.loc[number_of == number, ["clip", "label"]].reset_index(drop=True)
        probabilities = fake_probabilities(part.label, accuracy, rng)
        scores[subset] = {key: float(value) for key, value in fake_scores(part.label, probabilities).items()}
        part.insert(1, "subset", subset)
        parts.append(part.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in EMOTIONS])))
    folder = folder or Path(root) / protocol / model / (f"fold{fold}-seed{seed}" if beside else f"fold{fold}")
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_csv(folder / "predictions.csv", index=False)
    judged = parts[0]
    right = judged[[f"p_{name}" for name in EMOTIONS]].to_numpy()[np.arange(len(judged)), judged.label]
    best = scores[judged.subset[0]]["accuracy"]
    rise = np.arange(1, 31) / 31
    history = pd.DataFrame({"epoch": range(1, 31), "loss": 2 - rise, "accuracy": rise, "val_loss": 3 - rise,
                            "val_accuracy": best * rise, "learning_rate": 1e-3 * (1 - rise)})
    history.loc[26, ["val_accuracy", "val_loss"]] = best, -np.log(np.maximum(right, 1e-7)).mean()  # the best epoch
    history.to_csv(folder / "history.csv", index=False)
    info = {"model": model, "protocol": protocol, "fold": fold, "seed": seed, "profile": profile, "corpus": corpus,
            "config": {}, "config_hash": "c0ffee", "features": {}, "features_hash": "feed",
            "parameters": 11_200_000, "epochs": 30, "best_epoch": 27, "metrics": scores,
            "wall_seconds": 60.0 + 45 * place, "samples_per_second": 900.0, "device": "CPU", "precision": "float32",
            "backend": "tensorflow", "versions": {}, "revision": "unknown"} | (told or {})
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def fake_finished(root, config, /, accuracy=0.8, seed=None, **told) -> Path:
    """A made-up run of a configuration, with weights, where it belongs in a folder of runs; its folder."""
    folder = fake_run(root, config.protocol, config.model, config.fold, accuracy, config.seed if seed is None else seed,
                      config.profile, config.corpus, folder=config.run_directory(root),
                      told={"config_hash": config.hash, "seed": config.seed} | told)
    (folder / "model.keras").write_bytes(b"weights")
    return folder


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def fake_results(root, protocols=("random", "actors"), models=MODELS, folds=range(6), **options) -> Path:
    """Write a tree of runs: accuracies rise along ``models`` and are lower for unseen actors; the root."""
    for protocol in protocols:
        for place, model in enumerate(models):
            accuracy = (0.55 if protocol == "actors" else 0.75) + 0.02 * place
            for fold in folds:
                fake_run(root, protocol, model, fold, accuracy, **options)
    return Path(root)
