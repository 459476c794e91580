"""Voice, face and whatever stream a user adds: modalities aligned by clip, late fusion, and one network for several."""

import argparse
import dataclasses
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import layers, ops
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from ser_utils import EMOTIONS, FOLDS
from ser_utils.config import BaseConfig
from ser_utils.data import names
from ser_utils.data.folds import check_split
from ser_utils.evaluation.metrics import PROBABILITIES, ensemble, metrics, temperature
from ser_utils.evaluation.reference import record
from ser_utils.paper import TABLE2
from ser_utils.paths import DATA, RESULTS, RUNS, named
from ser_utils.training import grid, runs

FACES = "openface_action_units.csv"
MODELS = ("face", "fusion_late", "fusion_feature")
FLOOR = 1e-4  # a probability taken for 0 would decide alone
PRIOR = np.array([1, *[2] * 7]) / 15  # each emotion's share of the clips: neutral has half as many
MEMBERS, DROP = 5, 0.3  # networks of a feature fusion; share of the clips met without one of their streams


class AlignmentError(ValueError):
    """A table whose rows are not those of the clips it names."""


@dataclasses.dataclass(frozen=True)
class Modality:
    """A stream: ``table``, a row a clip (its index), a column a feature, or ``PROBABILITIES``; see :func:`modality`.

    A clip without a row, or with NaN in it, has the stream missing.
    """

    name: str
    table: pd.DataFrame

    @property
    def classifies(self) -> bool:
        """Whether its columns are class probabilities."""
        return list(self.table.columns) == PROBABILITIES

    def values(self, clips: Sequence[str], without: Sequence[str] = ()) -> np.ndarray:
        """Its rows for some clips (N, columns), their logs for probabilities; NaN if missing or in ``without``."""
        found = self.table.reindex(clips).to_numpy(np.float64, copy=True)
        found[np.isnan(found).any(axis=1) | (self.name in without)] = np.nan
        return np.log(np.maximum(found, FLOOR)) if self.classifies else found


def modality(name: str, table: pd.DataFrame) -> Modality:
    """A stream from a table with a column ``clip``; ``01-01-...`` (video) names the performance of ``03-01-...``.

    Columns that say what names say (label, emotion, actor ...) are held against them and dropped. Raises AlignmentError
    for names outside RAVDESS's speech, a performance that comes twice, or a contradiction with the names.
    """
    try:
        facts = names.index_of("03" + str(clip)[2:] for clip in table.get("clip", ()))
    except ValueError as error:
        raise AlignmentError(f"{name}: {error}") from error
    if facts.empty or (facts.channel != "speech").any() or facts["clip"].duplicated().any():
        raise AlignmentError(f"{name}: each row must be one speech clip, named in the column clip, none twice.")
    shared = table.columns.intersection(facts.columns).drop("clip")
    wrong = table[shared].astype(str).to_numpy() != facts[shared].astype(str).to_numpy()
    if wrong.any():
        raise AlignmentError(f"{name}: the {shared[wrong.any(axis=0)][0]} of {wrong.any(axis=1).sum()} rows "
                             "contradicts their names. Is the table shuffled?")
    return Modality(name, table.drop(columns=["clip", *shared]).astype(float).set_axis(pd.Index(facts["clip"]), axis=0))


def check_order(stream: Modality) -> None:
    """Raise AlignmentError unless features lie beside their own names.

    Of the clips nearest to each (standardised features) twice as many as by chance must be of its actor; of its actor's
    nearest, 1.5 times as many of its emotion. Whole actors exchanged would not be noticed.
    """
    facts = names.index_of(stream.table.index)
    values = ((stream.table - stream.table.mean()) / (stream.table.std() + 1e-9)).fillna(0).to_numpy()
    apart = cdist(values, values)
    np.fill_diagonal(apart, np.inf)
    actor, emotion = (np.equal.outer(facts[name].to_numpy(), facts[name].to_numpy()) for name in ("actor", "emotion"))
    for what, same, among, factor in (("actor", actor, actor | True, 2), ("emotion", emotion, actor, 1.5)):
        nearest = np.where(among, apart, np.inf).argmin(axis=1)
        if same[np.arange(len(same)), nearest].mean() < factor * (same & among).sum() / among.sum():
            raise AlignmentError(f"{stream.name}: rows of one {what} are hardly more alike than any others. They are "
                                 "not in the order of their names.")


def faces() -> Modality:
    """Facial action units, square roots of intensities and shares of frames; RAVDESS_FACES or data/ravdess_faces/.

    Raises FileNotFoundError where there is no table, AlignmentError where it is shuffled or foreign.
    """
    path = named("RAVDESS_FACES", DATA / "ravdess_faces") / FACES
    if not path.is_file():
        raise FileNotFoundError(f"No table of faces: put {FACES} into data/ravdess_faces/, or set RAVDESS_FACES to its "
                                "folder. It holds the per-trial OpenFace averages of Luna-Jiménez et al. (2022), doi "
                                "10.3390/app12010327, github.com/cristinalunaj/MMEmotionRecognition.")
    read = modality("face", pd.read_csv(path))
    check_order(read)
    return Modality("face", np.sqrt(read.table.clip(lower=0)))


def voices(fold: int, models: Sequence[str] = tuple(TABLE2)) -> Modality:
    """The mean probabilities of published networks on the val and test clips of a fold of unseen actors."""
    found = runs.predictions(RESULTS, "actors", subset=None)
    return modality("voice", ensemble(found[(found.fold == fold) & found.model.isin(models)])[["clip", *PROBABILITIES]])


@dataclasses.dataclass
class LateFusion:
    """Joins streams of class probabilities; fitted on clips that none of them was trained on (validation clips).

    A temperature a stream (Guo et al. 2017), then the sum of log-probabilities less the emotions' shares: Bayes' rule
    for streams independent given the emotion. With ``stacking`` a logistic regression takes clips that have them all.
    """

    streams: Sequence[Modality]
    stacking: bool = False

    def fit(self, clips: Sequence[str], labels: np.ndarray) -> "LateFusion":
        self.scales = [1 / temperature(stream.values(clips), labels) for stream in self.streams]
        if self.stacking:
            evidence = self._evidence(clips)
            whole = ~np.isnan(evidence).any(axis=1)
            self.regression = LogisticRegression(C=0.01, max_iter=1000).fit(evidence[whole], labels[whole])
        return self

    def predict(self, clips: Sequence[str], without: Sequence[str] = ()) -> np.ndarray:
        """Probabilities (N, 8), with streams left out by name; the emotions' shares for a clip that lacks them all."""
        evidence = self._evidence(clips, without)
        added = np.nan_to_num(evidence).reshape(len(evidence), -1, len(EMOTIONS)).sum(axis=1)
        answers = softmax(np.log(PRIOR) + added, axis=1)
        whole = ~np.isnan(evidence).any(axis=1)
        if self.stacking and whole.any():
            answers[whole] = 0  # an emotion that no clip showed
            answers[np.ix_(whole, self.regression.classes_)] = self.regression.predict_proba(evidence[whole])
        return answers

    def _evidence(self, clips, without=()) -> np.ndarray:
        """What each stream says beyond the emotions' shares (N, 8 a stream), NaN where it is missing."""
        return np.hstack([log_softmax(scale * stream.values(clips, without), axis=1) - np.log(PRIOR)
                          for scale, stream in zip(self.scales, self.streams, strict=True)])


def network(streams: Sequence[Modality]) -> keras.Model:
    """An encoder a stream, their sum, eight probabilities; ``MEMBERS`` of these abreast, which share no weight.

    Inputs: for each stream its columns (N, size); a row of NaN, a missing stream, adds nothing. The logs of class
    probabilities are also added to the last layer's logits as they are. Output (N, MEMBERS, 8).
    """
    def dense(x, units, activation=None):  # one layer of each member
        start = keras.initializers.RandomUniform(-(x.shape[-1] ** -0.5), x.shape[-1] ** -0.5)
        return layers.EinsumDense("nmi,mio->nmo", (MEMBERS, units), activation, bias_axes="mo",
                                  kernel_initializer=start)(x)

    inputs, encoded, logits = {}, [], []
    for stream in streams:
        given = inputs[stream.name] = keras.Input((stream.table.shape[1],), name=stream.name)
        x = layers.RepeatVector(MEMBERS)(ops.nan_to_num(given))
        there = layers.RepeatVector(MEMBERS)(ops.cast(ops.isfinite(given[:, :1]), "float32"))
        logits += [x] if stream.classifies else []
        encoded.append(dense(layers.Dropout(0.25)(x), 64, "gelu") * there)
    logits.append(dense(layers.Dropout(0.5)(sum(encoded)), len(EMOTIONS)))
    return keras.Model(inputs, layers.Softmax()(sum(logits)))


@dataclasses.dataclass
class FeatureFusion:
    """Small networks over several streams, averaged. A clip that lacks a stream teaches the encoders of the others.

    Each clip is met ``copies`` times: as it is, then with its actor's mean features exchanged for mixtures of the other
    actors' (actor swapping; class probabilities stay). Of ``DROP`` of them one stream is left out (modality dropout).
    """

    streams: Sequence[Modality]
    copies: int = 8
    epochs: int = 12
    seed: int = 0

    def fit(self, clips: Sequence[str], labels: np.ndarray) -> "FeatureFusion":
        """On these clips; means and deviations of the features are theirs, too."""
        rng = np.random.default_rng(self.seed)
        values = [stream.values(clips) for stream in self.streams]
        self.scaling = [(0.0, 1.0) if stream.classifies else (np.nanmean(v, axis=0), np.nanstd(v, axis=0) + 1e-6)
                        for stream, v in zip(self.streams, values, strict=True)]
        actors, whose = np.unique([clip[-2:] for clip in clips], return_inverse=True)
        own, streams = np.eye(len(actors))[whose], np.eye(len(values), dtype=bool)
        means = [(not stream.classifies) * np.nan_to_num(pd.DataFrame(v).groupby(whose).mean().to_numpy())
                 for stream, v in zip(self.streams, values, strict=True)]
        met = []
        for copy in range(self.copies):
            mixture = rng.dirichlet(np.full(len(actors), 0.3), size=len(whose)) if copy else own
            dropped = streams[rng.integers(len(values), size=len(whose))]
            dropped &= (rng.random((len(whose), 1)) < DROP) & (len(values) > 1)
            met.append([np.where(out[:, None], np.nan, v + (mixture - own) @ m)
                        for v, m, out in zip(values, means, dropped.T, strict=True)])
        keras.utils.set_random_seed(self.seed)
        self.model = network(self.streams)
        self.model.compile(keras.optimizers.AdamW(4e-3, weight_decay=0.02), "sparse_categorical_crossentropy",
                           jit_compile=False, steps_per_execution=10)
        truth = np.tile(labels, self.copies)[:, None].repeat(MEMBERS, axis=1)
        self.model.fit(self._inputs([np.concatenate(copies) for copies in zip(*met, strict=True)]), truth,
                       batch_size=512, epochs=self.epochs, verbose=0)
        return self

    def predict(self, clips: Sequence[str], without: Sequence[str] = ()) -> np.ndarray:
        """Probabilities (N, 8); a stream that a clip lacks, or that is named in ``without``, adds nothing."""
        answers = self.model(self._inputs([stream.values(clips, without) for stream in self.streams]))
        return np.asarray(answers).mean(axis=1)

    def _inputs(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {stream.name: ((v - mean) / deviation).astype(np.float32)
                for stream, v, (mean, deviation) in zip(self.streams, values, self.scaling, strict=True)}


@dataclasses.dataclass(frozen=True)
class FusionConfig(BaseConfig):
    """A run of `face`, `fusion_late` or `fusion_feature`, and what it was made from."""

    faces: str = ""   # digest of the face table
    voices: str = ""  # digest of the networks' predictions on this fold; none for `face`


def digest(stream: Modality) -> str:
    """Twelve hexadecimal digits that change with a stream's values."""
    return hashlib.sha256(stream.table.sort_index().to_csv(float_format="%.5f").encode()).hexdigest()[:12]


def run_configs(face: Modality) -> list[FusionConfig]:
    """The runs of ``MODELS`` on the six folds of unseen actors."""
    heard = [digest(voices(fold)) for fold in range(FOLDS)]
    return [FusionConfig("full", "ravdess", "actors", model, fold, faces=digest(face),
                         voices="" if model == "face" else heard[fold]) for fold in range(FOLDS) for model in MODELS]


def answers(run: runs.Run) -> Modality:
    """The probabilities that a run gave, as a modality named after its model."""
    return modality(run.info["model"], run.predictions[["clip", *PROBABILITIES]])


def run(config: FusionConfig, face: Modality, root: Path = RUNS) -> runs.Run:
    """Fit one model and write its run.

    `face` learns from training clips; `fusion_late` fits temperatures for the answers of `face` and of the networks on
    validation clips; `fusion_feature` learns from training clips, for which the networks' answers are missing, and from
    validation clips. The two answer validation clips by fits without the actors in question.
    """
    directory = config.run_directory(root)
    if runs.holds(directory, config):
        return runs.Run(directory)
    index = names.index_of(names.speech_names())
    rows = check_split(index, config.protocol, config.fold)
    train, val, test = (index.iloc[rows[part]] for part in ("train", "val", "test"))
    late, began = config.model == "fusion_late", time.perf_counter()
    streams, taught, left_out = [face], train, []  # actors of validation clips, by fits without them
    if config.model != "face":
        seen = answers(run(dataclasses.replace(config, model="face", voices=""), face, root)) if late else face
        streams = [seen, voices(config.fold)]
        taught = val if late else pd.concat([train, val])
        left_out = np.array_split(np.unique(val.actor), 2)

    def fitted(clips: pd.DataFrame):
        made = LateFusion(streams) if late else FeatureFusion(streams, seed=config.fold)
        return made.fit(clips["clip"].to_numpy(), clips.label.to_numpy())

    model = fitted(taught)
    judged = {"val": model.predict(val["clip"]), "test": model.predict(test["clip"])}
    for actors in left_out:
        mine = val.actor.isin(actors).to_numpy()
        judged["val"][mine] = fitted(taught[~taught.actor.isin(actors)]).predict(val["clip"][mine])
    seconds = time.perf_counter() - began
    missing = {stream.name: metrics(test.label, model.predict(test["clip"], [stream.name]))
               for stream in streams if len(streams) > 1}
    return record(config, directory, index, rows, judged, seconds, len(taught),
                  parameters=len(streams) if late else model.model.count_params(), missing=missing)


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.fusion``: fit face and fusions to the published networks' answers, into results/."""
    argparse.ArgumentParser(prog="ser_utils.fusion", description=main.__doc__).parse_args(arguments)
    face = faces()
    configs = run_configs(face)
    for config in tqdm(configs, desc="Fusion", unit="run"):
        run(config, face)
    print(f"{len(runs.publish(configs, RUNS, RESULTS))} runs are new in results/: make table2 prints what they reach.")


if __name__ == "__main__":
    sys.exit(main())
