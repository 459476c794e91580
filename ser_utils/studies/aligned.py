"""The aligned view: what a network can know of a clip once its sentence is known.

Dynamic time warping lays a clip against a template of each of the two sentences; the cheaper one names the sentence and
cuts the clip into ten segments. Their cepstra, duration and pitch go to a support vector machine and to small dense
networks. Neither the label of a test clip nor the sentence in its name is used. An *enrolled* voice is known by some
unlabelled clips of its own: their mean view is taken off, and the seven networks are fitted to it, too.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import librosa
import numpy as np
import pandas as pd
from keras import layers
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ser_utils import EMOTIONS, FOLD_COUNT, FOLDS
from ser_utils import config as configuration
from ser_utils.data import corpus
from ser_utils.data.folds import ENROLLED, enrolled, joined, judged
from ser_utils.evaluation import reference
from ser_utils.evaluation.metrics import PROBABILITIES, metrics
from ser_utils.features import audio, prosody, spectral
from ser_utils.paths import RUNS
from ser_utils.training import frontend, grid, runs
from ser_utils.training.augment import interpolation
from ser_utils.training.fit import predict

STATES, SEGMENTS = 40, 10               # of a template; of a view, four states each
STEPS = np.array([[1, 0], [1, 1], [1, 2]])  # frames and states that one step of the warping path goes on
WARPS = (-0.08, -0.04, 0.0, 0.04, 0.08)  # of the mel axis and the pitch: training and test clips in all of them
MODELS = ("aligned_svm", "aligned_dense")
COPIES = 3  # of each training voice, enrolled by other clips each time


def shape(logmel: np.ndarray) -> np.ndarray:
    """13 cepstra (frames, 13) of a log-mel (frames, bands), each normalised over the clip: what is aligned."""
    cepstra = librosa.feature.mfcc(S=logmel.T, n_mfcc=13).T
    return (cepstra - cepstra.mean(axis=0)) / (cepstra.std(axis=0) + 1e-6)


def align(clip: np.ndarray, template: np.ndarray) -> tuple[float, np.ndarray]:
    """Lay a clip (frames, 13) against a template (states, 13): cost per frame, and the state of each frame (frames,).

    Dynamic time warping (Sakoe and Chiba 1978), none to two states on a frame: a clip of the corpus has many more.
    """
    cost, path = librosa.sequence.dtw(clip.T, template.T, step_sizes_sigma=STEPS)
    return cost[-1, -1] / len(clip), path[::-1, 1]


def template(clips: Sequence[np.ndarray]) -> np.ndarray:
    """The mean course (``STATES``, 13) of clips of one sentence: cut evenly at first, then aligned anew three times."""
    found = np.mean([clip[np.linspace(0, len(clip) - 1, STATES).round().astype(int)] for clip in clips], axis=0)
    for _ in range(3):
        states = np.concatenate([align(clip, found)[1] for clip in clips])
        means = pd.DataFrame(np.concatenate(clips)).groupby(states).mean()
        found[means.index] = means
    return found


def view(logmel: np.ndarray, f0: np.ndarray, states: np.ndarray, warp: float = 0.0) -> np.ndarray:
    """What the segments of one clip are like, (``SEGMENTS`` * 23,).

    For each: the mean of 20 cepstra, the log of its frames, the mean log pitch and the share of voiced frames.
    ``logmel`` (frames, bands) in dB, ``f0`` (frames,) in Hz, NaN where unvoiced; a segment without a pitch has the
    clip's. ``warp`` lowers the spectrum, on the mel axis, and the pitch, roughly as in a larger speaker.
    """
    bands = np.arange(logmel.shape[1], dtype=np.float32)
    warped = logmel @ np.asarray(interpolation(np.clip(bands * (1 + warp), 0, bands[-1]), len(bands))).T
    frames = pd.DataFrame(librosa.feature.mfcc(S=warped.T, n_mfcc=20).T)
    pitch = pd.Series(np.log(f0 / (1 + warp)))
    segment = states * SEGMENTS // STATES  # each has frames: a path skips no two states
    melody = pitch.groupby(segment).mean().fillna(pitch.median()).fillna(np.log(200.0))
    return np.concatenate([frames.groupby(segment).mean().to_numpy().ravel(), np.log(np.bincount(segment) + 0.5),
                           melody, pitch.notna().groupby(segment).mean()])


def views(store: spectral.FeatureStore, f0: Sequence[np.ndarray], train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views (N, warps, values) less their sentence's mean, and the sentences heard, 1 or 2; learned from ``train``."""
    logmels = [values[:length] for values, length in zip(store.logmel, store.lengths, strict=True)]
    shapes, said = [shape(logmel) for logmel in logmels], store.index.statement.to_numpy()
    templates = {sentence: template([shapes[row] for row in train if said[row] == sentence]) for sentence in (1, 2)}
    heard, found = np.zeros(len(shapes), int), []
    for row, (logmel, pitch) in enumerate(zip(logmels, f0, strict=True)):
        laid = {sentence: align(shapes[row], course) for sentence, course in templates.items()}
        heard[row] = min(laid, key=lambda sentence: laid[sentence][0])
        found.append([view(logmel, pitch, laid[heard[row]][1], warp) for warp in WARPS])
    found = np.array(found)
    for sentence in templates:
        found[heard == sentence] -= found[train[heard[train] == sentence]].mean(axis=(0, 1))
    return found, heard


def centred(found: np.ndarray, voices: np.ndarray, clips: dict[int, np.ndarray]) -> np.ndarray:
    """Views less the mean view, times n / (n + ``SHRINK``), of n clips of each voice: ``clips``, rows by voice."""
    out = found.copy()
    for voice, rows in clips.items():
        out[voices == voice] -= found[rows].mean(axis=(0, 1)) * len(rows) / (len(rows) + frontend.SHRINK)
    return out


@dataclasses.dataclass(frozen=True)
class AlignedConfig(configuration.BaseConfig):
    """A fit of one of ``MODELS`` or a refit; of a voice so many clips are known without their labels."""

    enrolled: int = 0
    strength: float = 8.0  # C of the SVM
    members: int = 3       # dense networks, averaged
    width: int = 256
    epochs: int = 40
    copies: int = 1


def run_configs() -> list[AlignedConfig]:
    """The fits of all protocols and of enrolled voices, every fold; on ``random`` and ``actors`` refits, too."""
    kinds = [(protocol, MODELS, {}) for protocol in FOLD_COUNT]
    kinds += [(protocol, ("aligned_dense_refit",), {}) for protocol in ("random", "actors")]
    kinds += [(f"actors_enrolled{n}", MODELS, {"enrolled": n, "copies": COPIES, "epochs": 14}) for n in ENROLLED]
    return [AlignedConfig("full", "ravdess", protocol, model, fold, **more)
            for protocol, models, more in kinds for fold in range(FOLD_COUNT.get(protocol, FOLDS)) for model in models]


def dense(config: AlignedConfig, x: np.ndarray, labels: np.ndarray):
    """Fitted networks abreast, which share no weight: views (N, values) in, probabilities (N, members, 8) out."""
    def units(count: int, activation: str):  # one layer of each member
        return layers.EinsumDense("nmi,mio->nmo", (config.members, count), activation, bias_axes="mo")

    keras.utils.set_random_seed(config.fold)
    model = keras.Sequential([keras.Input((x.shape[1],)), layers.RepeatVector(config.members),
        layers.Dropout(0.25), units(config.width, "gelu"), layers.Dropout(0.5), units(config.width // 2, "gelu"),
        layers.Dropout(0.5), units(len(EMOTIONS), "softmax")])
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, config.epochs * max(len(x) // 512, 1))
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.02),
                  keras.losses.CategoricalCrossentropy(label_smoothing=0.1), jit_compile=False)
    truth = np.eye(len(EMOTIONS))[labels][:, None].repeat(config.members, axis=1)
    model.fit(x, truth, batch_size=512, epochs=config.epochs, verbose=0)
    return model


def answers(config: AlignedConfig, store: spectral.FeatureStore, found: np.ndarray, rows: dict[str, np.ndarray]
            ) -> tuple[dict[str, np.ndarray], int]:
    """Probabilities (N, 8) of all rows but the training rows by a model fitted on these; its parameters.

    ``found``: see :func:`views`. An enrolled voice is known by the clips of ``folds.enrolled``, a training voice by as
    many drawn at random, ``copies`` times.
    """
    voices, train, parts = store.index.actor.to_numpy(), rows["train"], [part for part in rows if part != "train"]
    taught, tested = [found[train]], found
    if config.enrolled:
        of = {voice: np.flatnonzero(voices == voice) for voice in np.unique(voices)}
        rng = np.random.default_rng(config.fold)
        taught = [centred(found, voices, {voice: rng.permutation(mine)[:config.enrolled]
                                          for voice, mine in of.items()})[train] for _ in range(config.copies)]
        known = enrolled(config.enrolled, store.index)
        tested = centred(found, voices, {voice: mine[known[mine]] for voice, mine in of.items()})
    truth = np.tile(store.index.label.to_numpy()[train], len(taught))
    taught, size = np.concatenate(taught), found.shape[2]
    scaler = StandardScaler().fit(taught.reshape(-1, size))
    if config.model == "aligned_svm":
        middle = WARPS.index(0.0)
        svm = reference.classifier("svm", config.strength).fit(scaler.transform(taught[:, middle]), truth)
        return ({part: svm.predict_proba(scaler.transform(tested[rows[part], middle])) for part in parts},
                reference.parameters(svm))
    network = dense(config, scaler.transform(taught.reshape(-1, size)), np.repeat(truth, len(WARPS)))
    told = {}
    for part in parts:  # the mean over warps and members
        values = network.predict(scaler.transform(tested[rows[part]].reshape(-1, size)), batch_size=2048, verbose=0)
        told[part] = values.reshape(len(rows[part]), -1, len(EMOTIONS)).mean(axis=1)
    return told, network.count_params()


def fit(configs: Sequence[AlignedConfig], store: spectral.FeatureStore, f0: Sequence[np.ndarray], root: Path) -> None:
    """Fit some configurations and write their runs, but for those that are finished in ``root``; ``f0``: see `view`."""
    waiting = sorted((c for c in configs if not runs.is_finished(c, root)), key=lambda c: (c.fold, c.protocol))
    index, train = store.index, None
    for config in tqdm(waiting, desc="Aligned view", unit="run"):
        rows = joined(judged(index, config.protocol, config.fold), "refit" if "_refit" in config.model else "train")
        if not np.array_equal(train, rows["train"]):  # enrolled or not, the views of a fold are the same
            train = rows["train"]
            found, heard = views(store, f0, train)
        began = time.perf_counter()
        told, parameters = answers(config, store, found, rows)
        seconds = time.perf_counter() - began
        reference.record(config, config.run_directory(root), index, rows, told, seconds, len(rows["train"]),
                         parameters=parameters, sentences_right=float((heard == index.statement).mean()))


def enrolled_networks(profile: str = "full") -> list[configuration.RunConfig]:
    """The networks of unseen actors in the protocols ``actors_enrolled<n>``, see :func:`judge_enrolled`."""
    return [dataclasses.replace(config, protocol=f"actors_enrolled{count}") for count in ENROLLED
            for config in configuration.run_configs(profile, "ravdess", None, ["actors"])]


def judge_enrolled(config: configuration.RunConfig, store: spectral.FeatureStore, root: Path) -> None:
    """Write the run of a network whose test voices are enrolled (``frontend.enrol``) by clips of ``folds.enrolled``.

    The weights, history and cost are those of the run in ``root`` of unseen actors; nothing is trained.
    FileNotFoundError where it has no weights.
    """
    source, index = runs.Run(dataclasses.replace(config, protocol="actors").run_directory(root)), store.index
    model, logmel = frontend.load(source.dir), spectral.fit_length(store.logmel, store.lengths, config.frames)
    known, usual = enrolled(int(config.protocol.partition("_enrolled")[2]), index), model.get_weights()
    rows, tables = judged(index, config.protocol, config.fold), {}
    for part in ("val", "test"):
        clips, told = rows[part], np.zeros((len(rows[part]), len(EMOTIONS)))
        for voice, mine in index.iloc[clips].groupby("actor").indices.items():
            model.set_weights(usual)
            frontend.enrol(model, logmel[known & (index.actor == voice)])
            told[mine] = predict(model, logmel[clips[mine]], config.versions)
        tables[part] = runs.prediction_table(store.clips[clips], index.label.to_numpy()[clips], told, part)
    scores = {part: metrics(table.label, table[PROBABILITIES]) for part, table in tables.items()}
    runs.write(config.run_directory(root), source.info | runs.provenance(config) | {"metrics": scores},
               source.history, pd.concat(tables.values()))


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.studies.aligned``: fit what is missing of the aligned view, judge enrolled voices."""
    argparse.ArgumentParser(prog="ser_utils.studies.aligned", description=main.__doc__).parse_args(arguments)
    found = corpus.for_profile("full")
    store = spectral.extract(found, configuration.FeatureConfig())

    def pitch(path: str) -> np.ndarray:  # a value for every frame of the log-mel
        wave = audio.load_speech(path, store.config.sample_rate, store.config.top_db)
        return prosody.pitch(np.pad(wave, prosody.WINDOW // 2))

    fit(run_configs(), store, audio.each(pitch, found.index["path"], "Pitch"), RUNS)
    networks = [config for profile in ("full", "robust") for config in enrolled_networks(profile)
                if runs.is_finished(dataclasses.replace(config, protocol="actors"), RUNS)]
    for config in tqdm([c for c in networks if not runs.is_finished(c, RUNS)], "Enrolled voices", unit="run"):
        judge_enrolled(config, store, RUNS)
    print("Finished runs lie in runs/; make publish puts them into results/.")


if __name__ == "__main__":
    sys.exit(main())
