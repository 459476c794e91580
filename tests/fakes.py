"""Results folders in the contract's format, made up: no audio, no training."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import EMOTIONS
from ser_utils.data import folds, ravdess

MODELS = ("alexnet", "resnet", "inceptionnet", "vgg16", "vgg19", "lstm", "transformer")


@functools.cache
def clip_names() -> pd.DataFrame:
    """The 1,440 speech clips: clip, label (0-7), actor, emotion by emotion."""
    rows = []
    for label in range(8):
        for intensity in (1,) if label == 0 else (1, 2):
            for statement, repetition, actor in np.ndindex(2, 2, 24):
                fields = (3, 1, label + 1, intensity, statement + 1, repetition + 1, actor + 1)
                rows.append(("-".join(f"{field:02d}" for field in fields), label, actor + 1))
    return pd.DataFrame(rows, columns=["clip", "label", "actor"])


def fold_of(clips: pd.DataFrame, protocol: str) -> np.ndarray:
    """The committed fold 0-5 of each clip."""
    return folds.table().set_index("clip")[protocol].reindex(clips["clip"]).to_numpy()


def texts(fig) -> list[str]:
    """Every text of a figure that is not empty."""
    from matplotlib.text import Text

    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]


def waveform(name: str, samples: int = 64) -> np.ndarray:
    """A moment of noise, another for each clip, int16."""
    return np.random.default_rng([int(part) for part in name.split("-")]).integers(-2000, 2000, samples, np.int16)


def write_clips(root, names, suffix=".wav", flat=False) -> Path:
    """Such noise as RAVDESS's files, in a folder an actor or all in one; the root."""
    import soundfile

    for name in names:
        folder = root if flat else root / f"Actor_{name[-2:]}"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}{suffix}", waveform(name), 48000, subtype="PCM_16")
    return root


def known_clips(root, monkeypatch) -> None:
    """Have the table of checksums hold the clips in ``root`` and no others."""
    table = ravdess.index(root)
    rows = pd.DataFrame([ravdess.describe(path) for path in table.path]).assign(clip=table["clip"])
    monkeypatch.setattr(ravdess, "reference", lambda: rows)


def fake_probabilities(labels, accuracy: float, rng, sharpness: float = 3.0) -> np.ndarray:
    """Probabilities (n, 8) whose largest is the label in about ``accuracy`` of the rows, to 5 decimals."""
    labels = np.asarray(labels)
    wrong = (labels + rng.choice([1, 1, 1, 2, 3, 4, 5, 6, 7], size=len(labels))) % 8
    chosen = np.where(rng.random(len(labels)) < accuracy, labels, wrong)
    logits = rng.normal(size=(len(labels), 8))
    logits[np.arange(len(labels)), chosen] = (
        logits.max(axis=1) + rng.gamma(sharpness, 0.6, size=len(labels)) + 0.01
    )
    values = np.exp(logits)
    return (values / values.sum(axis=1, keepdims=True)).round(5)


def fake_scores(labels, probabilities) -> dict:
    """Contract metrics, class by class; all eight occur."""
    labels, guesses = np.asarray(labels), probabilities.argmax(axis=1)
    hits = np.bincount(labels[labels == guesses], minlength=8)
    true, said = np.bincount(labels, minlength=8), np.bincount(guesses, minlength=8)
    return {"accuracy": hits.sum() / len(labels), "precision": (hits / np.maximum(said, 1)).mean(),
            "recall": (hits / true).mean(), "f1": (2 * hits / (true + said)).mean()}


def fake_history(epochs: int = 30, best: float = 0.8, seed: int = 0) -> pd.DataFrame:
    """A plausible history.csv."""
    rng = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    rise = 1 - np.exp(-epoch / (epochs / 4))
    return pd.DataFrame({
        "epoch": epoch,
        "loss": 2.1 - 1.7 * rise + rng.normal(0, 0.02, epochs),
        "accuracy": 0.13 + 0.83 * rise + rng.normal(0, 0.01, epochs),
        "val_loss": 2.1 - 1.2 * rise + rng.normal(0, 0.06, epochs),
        "val_accuracy": 0.13 + (best - 0.13) * rise + rng.normal(0, 0.02, epochs),
        "learning_rate": 1e-3 * np.cos(np.pi / 2 * epoch / epochs)})


def fake_run(root, protocol="random", model="resnet", fold=0, accuracy=0.8, seed=0, profile="full", corpus="ravdess",
             beside=False, folder=None, told=None) -> Path:
    """Write one finished run and return its folder: that of the first seed or, with ``beside``, of this further one.

    ``folder``: another one; ``told``: what run.json says besides or in the place of the usual.
    """
    rng = np.random.default_rng([seed, fold, MODELS.index(model) if model in MODELS else 99])
    clips = clip_names()
    number_of = fold_of(clips, protocol)
    parts, scores = [], {}
    for subset, number in (("val", (fold + 1) % 6), ("test", fold))[protocol == "random10":]:
        part = clips.loc[number_of == number, ["clip", "label"]].reset_index(drop=True)
        probabilities = fake_probabilities(part.label, accuracy, rng)
        scores[subset] = {key: float(value) for key, value in fake_scores(part.label, probabilities).items()}
        part.insert(1, "subset", subset)
        parts.append(part.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in EMOTIONS])))
    folder = folder or Path(root) / protocol / model / (f"fold{fold}-seed{seed}" if beside else f"fold{fold}")
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_csv(folder / "predictions.csv", index=False)
    judged = parts[0].subset[0]
    right = parts[0][[f"p_{name}" for name in EMOTIONS]].to_numpy()[np.arange(len(parts[0])), parts[0].label]
    history = fake_history(best=accuracy, seed=fold)
    history.loc[26, "val_accuracy"] = scores[judged]["accuracy"]  # epoch 27 is the best
    history.loc[26, "val_loss"] = -np.log(np.maximum(right, 1e-7)).mean()
    history.loc[history.epoch != 27, "val_accuracy"] *= scores[judged]["accuracy"] / history.val_accuracy.max() * 0.99
    history.to_csv(folder / "history.csv", index=False)
    place = MODELS.index(model) if model in MODELS else 0
    info = {"model": model, "protocol": protocol, "fold": fold, "seed": seed, "profile": profile, "corpus": corpus,
            "config": {}, "config_hash": "c0ffee", "features": {}, "features_hash": "feed",
            "parameters": [3_700_000, 11_200_000, 21_800_000, 14_700_000, 20_000_000, 900_000, 2_100_000][place],
            "epochs": 30, "best_epoch": 27, "metrics": scores, "wall_seconds": 60.0 + 45 * place,
            "samples_per_second": 900.0 - 100 * place, "device": "CPU", "precision": "float32",
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
    """Have a run.json say something else."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def fake_results(root, protocols=("random", "actors"), models=MODELS, folds=range(6), **options) -> Path:
    """Write a tree of runs: accuracies rise along ``models`` and are lower for unseen actors; the root."""
    for protocol in protocols:
        for place, model in enumerate(models):
            accuracy = (0.55 if protocol == "actors" else 0.75) + 0.02 * place
            for fold in folds:
                fake_run(root, protocol, model, fold, accuracy, **options)
    return Path(root)
