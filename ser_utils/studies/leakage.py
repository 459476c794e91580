"""What each shortcut is worth, what the numbers do not rest on, and checks that catch a leak.

A shortcut departs in one point from honest training; network, recipe, budget and seed stay the same. Honest runs
are trained by ``ser_utils.training.fit``, which has no switch for any of this: the leaks are planted here, around it.

``python -m ser_utils.studies.leakage`` trains what is missing of a profile's ladder. Runs land in
``runs/<corpus>-<profile>/validity/<shortcut>/<model>/fold<k>/``, in the format of all other runs.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_utils import EMOTIONS, FOLDS, machine
from ser_utils import config as configuration
from ser_utils.config import PAD_DB, AugmentConfig, RunConfig
from ser_utils.data import corpus as corpora
from ser_utils.data import ravdess
from ser_utils.data.corpus import Corpus
from ser_utils.data.folds import LeakError, check_split, split
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import statistics
from ser_utils.features import spectral as features
from ser_utils.features.spectral import FeatureStore, audio
from ser_utils.paths import DATA, RESULTS, RUNS, atomic_write
from ser_utils.training import fit as training
from ser_utils.training import runs
from ser_utils.training.augment import Augment
from ser_utils.training.fit import Data, Run, frontend


class LadderError(RuntimeError):
    """Some trainings failed; the message names each with the end of its log."""


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """How an experiment departs from honest training under a protocol; the defaults are honest."""

    protocol: str
    title: str
    chosen_on: str = "val"      # the part of the split whose accuracy chooses the epoch
    statistics: str = "train"   # clips that the normalisation is measured on: "train" or "all"
    copies: int = 1             # of each clip, made by augmentation before the split
    by_speaker: bool = False    # each speaker's clips normalised by that speaker's own statistics
    permuted: bool = False      # labels shuffled among each actor's clips

    @property
    def honest(self) -> bool:
        return self == Shortcut(self.protocol, self.title)


SHORTCUTS = {
    "actors": Shortcut("actors", "unseen actors"),
    "twins": Shortcut("twins", "known voices, twins kept together"),
    "random": Shortcut("random", "random split, as in the paper"),
    "test_statistics": Shortcut("random", "... normalised with test clips", statistics="all"),
    "test_epoch": Shortcut("random", "... epoch chosen on test clips", chosen_on="test"),
    "copies": Shortcut("random", "... augmented before the split", copies=3),
    "everything": Shortcut("random", "... all three at once", "test", "all", copies=3),
    "by_speaker": Shortcut("actors", "unseen actors, normalised by speaker", by_speaker=True),
    "permuted": Shortcut("random", "shuffled labels", permuted=True),
    "permuted_copies": Shortcut("random", "shuffled labels, augmented before the split", copies=3, permuted=True),
}
LADDER = ("actors", "twins", "random", "test_statistics", "test_epoch", "copies", "everything")
APART = ("by_speaker",)  # hears the test speaker's other clips, but not what they express
SLOW_TO_PAY = ("everything", "permuted_copies")  # nothing to see in a short training
PLANS = {  # profile -> networks, folds and shortcuts
    "smoke": (("alexnet",), (0,), tuple(name for name in SHORTCUTS if name not in SLOW_TO_PAY)),
    "quick": (("transformer",), (0,), tuple(name for name in SHORTCUTS if name not in SLOW_TO_PAY)),
    "full": (("alexnet", "transformer"), tuple(range(FOLDS)), tuple(SHORTCUTS)),
}
CUES = {  # what a logistic regression is given, of the columns of `surface`
    "duration of the speech": ("speech",),
    "loudness of the speech": ("level", "peak"),
    "silence around the speech": ("before", "after", "level_before", "level_after"),
}


# ------------------------------------------------------------------------------------------------ the runs


@dataclasses.dataclass(frozen=True)
class Job:
    """One training of the ladder: a shortcut, and the honest configuration that it departs from."""

    shortcut: str
    config: RunConfig

    @property
    def plan(self) -> Shortcut:
        return SHORTCUTS[self.shortcut]

    @property
    def name(self) -> str:
        return f"{self.shortcut}/{self.config.model}/fold{self.config.fold}"

    @property
    def hash(self) -> str:
        """That of the configuration if the job is honest; else it covers the shortcut, too."""
        if self.plan.honest:
            return self.config.hash
        plan = {key: value for key, value in dataclasses.asdict(self.plan).items() if key != "title"}
        text = json.dumps([self.shortcut, plan, self.config.hash], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def epochs(self) -> int:
        """Epochs of the training: with copies fewer, so that the number of steps stays the same."""
        return max(self.config.epochs // self.plan.copies, 1)

    def directory(self, root: Path) -> Path:
        """The run's folder; an honest job is an ordinary run and lies where those do."""
        if self.plan.honest:
            return self.config.run_directory(root)
        home = Path(root) / f"{self.config.corpus}-{self.config.profile}" / "validity"
        return home / self.shortcut / self.config.model / f"fold{self.config.fold}"

    def is_finished(self, root: Path) -> bool:
        """Whether the folder holds a finished run of this very job."""
        try:
            return json.loads((self.directory(root) / "run.json").read_text())["config_hash"] == self.hash
        except (OSError, ValueError, KeyError):
            return False


def jobs(profile: str, corpus: str, models: Sequence[str] | None = None, folds: Sequence[int] | None = None,
         shortcuts: Sequence[str] | None = None) -> list[Job]:
    """The trainings of a profile's ladder on a corpus ("ravdess" or "synthetic"), fold by fold.

    Raises
    ------
    ValueError
        An unknown profile, network, fold or shortcut; the message lists what there is.
    """
    unknown = [name for name in shortcuts or () if name not in SHORTCUTS]
    if unknown:
        raise ValueError(f"Unknown shortcut {unknown[0]!r}; choose from {', '.join(SHORTCUTS)}.")
    usual = PLANS.get(profile, ((), (), SHORTCUTS))  # an unknown profile is named by run_configs
    found = []
    for name in shortcuts or usual[2]:
        protocol = SHORTCUTS[name].protocol
        configs = configuration.run_configs(profile, corpus, models or usual[0], [protocol], folds or usual[1])
        found += [Job(name, c) for c in configs]
    return sorted(found, key=lambda job: (job.config.fold, job.config.model))


def leaky_data(job: Job, data: Data, actors: np.ndarray) -> Data:
    """The data of an honest run, (N, frames, bands), with the job's leak planted in it; ``actors`` (N,)."""
    plan, rng = job.plan, np.random.default_rng([job.config.seed, job.config.fold])
    if plan.by_speaker:
        data = dataclasses.replace(data, logmel=normalised_by_speaker(data.logmel, actors))
    if plan.permuted:
        data = dataclasses.replace(data, labels=permuted_within(data.labels, actors, rng))
    if plan.copies > 1:
        data = augmented_before_split(data, job.config, plan.copies, rng)
    return data


def normalised_by_speaker(logmel: np.ndarray, actors: np.ndarray) -> np.ndarray:
    """Log-mels (N, frames, bands) in dB whose bands have the same mean and deviation for every actor.

    They are brought to those of the whole corpus; frames of padding stay padding.
    """
    mean, deviation = features.statistics(logmel)
    out = np.empty_like(logmel)
    for actor in np.unique(actors):
        rows = actors == actor
        own_mean, own_deviation = features.statistics(logmel[rows])
        moved = (logmel[rows] - own_mean) / own_deviation * deviation + mean
        speech = (logmel[rows] > PAD_DB).any(axis=2, keepdims=True)
        out[rows] = np.where(speech, np.maximum(moved, PAD_DB + 1e-3), PAD_DB)
    return out


def permuted_within(labels: np.ndarray, actors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels (N,) shuffled among the clips of each actor: all counts stay, all meaning goes."""
    out = labels.copy()
    for actor in np.unique(actors):
        rows = np.flatnonzero(actors == actor)
        out[rows] = labels[rng.permutation(rows)]
    return out


def augmented_before_split(data: Data, config: RunConfig, copies: int, rng: np.random.Generator) -> Data:
    """Each clip ``copies`` times, itself and augmented versions, of which a random share goes to training.

    As if the enlarged data were split at random: a version trains with the probability that a clip does,
    wherever its siblings are. Validation and test keep their own unaugmented clips, so that all shortcuts are
    measured on the same recordings; versions that would join them are left out.
    """
    layer = Augment(config.augment or AugmentConfig(), seed=config.seed + 2)
    clips = len(data.clips)
    versions = [np.concatenate([keras.ops.convert_to_numpy(layer(data.logmel[start:start + 120], training=True))
                                for start in range(0, clips, 120)]) for _ in range(copies - 1)]
    extra = clips * (copies - 1)
    chosen = rng.permutation(extra)[: round(extra * len(data.rows["train"]) / clips)]
    train = np.concatenate([data.rows["train"], clips + np.sort(chosen)])
    return Data(np.tile(data.clips, copies), np.concatenate([data.logmel, *versions]), np.tile(data.labels, copies),
                data.rows | {"train": train})


class Watcher(training.Keeper):
    """Follow both the validation and the test clips, and keep the epoch that is best on either one of them.

    Where an honest run keeps its last epoch, so does a leaky one, unless its leak is to choose on test clips.
    """

    def __init__(self, config: RunConfig, data: Data, batches: training.Batches, chosen_on: str, report):
        super().__init__(config, None, None, batches, None, report)
        self.data, self.chosen_on = data, chosen_on

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "loss": logs["loss"], "accuracy": logs["accuracy"]}
        raw = self.swap_in_average()
        for part in ("val", "test"):
            rows = self.data.rows[part]
            predicted = training.probabilities(self.model, self.data.logmel[rows])
            row[f"{part}_loss"] = training.cross_entropy(predicted, self.data.labels[rows])
            row[f"{part}_accuracy"] = float((predicted.argmax(axis=1) == self.data.labels[rows]).mean())
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({key: round(float(value), 6) for key, value in row.items()})
        self.consider(epoch + 1, row[f"{self.chosen_on}_accuracy"], row[f"{self.chosen_on}_loss"],
                      self.config.keep == "last" and self.chosen_on == "val")
        if raw is not None:
            self.assign_trainable(raw)
        if epoch + 1 - self.best["epoch"] >= self.config.patience:
            self.model.stop_training = True
        self.seconds += time.perf_counter() - self.began
        if self.report:
            self.report(self.rows[-1])


def run(job: Job, corpus: Corpus, store: FeatureStore, root: Path = RUNS, on_epoch=None) -> Run:
    """Train one job, or return it if it is finished.

    ``on_epoch`` is called with each row of the history (dict). In a run with shuffled labels ``predictions.csv``
    has one column more, ``target``: the label that the clip was given, which its metrics are measured against.
    In all runs with a leak ``history.csv`` has the test clips' loss and accuracy, too.

    Raises
    ------
    RunBusy
        Another process is training this honest run.
    LeakError, ValueError, OSError
        See :func:`ser_utils.training.fit.run`.
    """
    if job.plan.honest:
        return training.run(job.config, corpus, store, root, progress=False, on_epoch=on_epoch)
    directory = job.directory(root)
    directory.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(directory / ".lock"):
        if not job.is_finished(root):
            _train(job, corpus, store, directory, on_epoch)
    return Run(directory)


def _train(job: Job, corpus: Corpus, store: FeatureStore, directory: Path, on_epoch) -> None:
    plan, copies = job.plan, job.plan.copies
    config = dataclasses.replace(job.config, epochs=job.epochs, patience=max(job.config.patience // copies, 1),
                                 warmup_epochs=-(-job.config.warmup_epochs // copies))
    keras.backend.clear_session()
    data = leaky_data(job, training.prepare(job.config, corpus, store), corpus.index.actor.to_numpy())
    model = training.compiled(config, data)
    if plan.statistics == "all":
        model.get_layer("normalise").assign(*features.statistics(data.logmel))
    train = data.rows["train"]
    batches = training.Batches(data.logmel[train], data.labels[train], config.batch_size, config.seed,
                               config.mixup)
    watcher = Watcher(config, data, batches, plan.chosen_on, on_epoch)
    watcher.set_model(model)
    model.fit(batches, epochs=config.epochs, callbacks=[watcher], shuffle=False, verbose=0)
    model.set_weights(watcher.best_weights)
    training.finish(config, data, model, watcher, directory, {part: data.rows[part] for part in ("val", "test")})
    _sign(job, directory)


def _sign(job: Job, directory: Path) -> None:
    """Write into a run's files which shortcut it took; only then does it count as finished."""
    if job.plan.permuted:
        table = pd.read_csv(directory / "predictions.csv")
        table["target"] = table.label
        table["label"] = [ravdess.parse_name(clip)["label"] for clip in table["clip"]]
        runs.write_csv(table, directory / "predictions.csv")
    info = json.loads((directory / "run.json").read_text())
    info |= {"protocol": job.shortcut, "shortcut": dataclasses.asdict(job.plan), "config_hash": job.hash}
    with atomic_write(directory / "run.json") as temporary:
        temporary.write_text(json.dumps(info, indent=1) + "\n")


# ---------------------------------------------------------------------------------- many runs, in processes


def train(waiting: Sequence[Job], corpus: Corpus, root: Path = RUNS, at_once: int | None = None,
          progress: bool = True) -> None:
    """Train the jobs that are not finished, ``at_once`` at a time (default: one a core), each in its own process.

    Raises
    ------
    LadderError
        At the end, if any failed; the others are finished.
    """
    waiting = [job for job in waiting if not job.is_finished(root)]
    if not waiting:
        return
    cores = machine.cores()
    at_once = min(at_once or cores, len(waiting))
    children: list[subprocess.Popen] = []
    with tqdm(total=sum(job.epochs for job in waiting), desc=f"Training {len(waiting)} runs", unit="epoch",
              disable=not progress, file=sys.stdout, mininterval=1) as bar, ThreadPoolExecutor(at_once) as pool:
        work = functools.partial(_in_child, corpus=corpus, root=root, threads=max(cores // at_once, 1), bar=bar,
                                 children=children)
        try:
            failures = [failure for failure in pool.map(work, waiting) if failure]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise
    if failures:
        raise LadderError(f"{len(failures)} runs failed; the others are finished.\n" + "\n".join(failures))


def _in_child(job: Job, corpus: Corpus, root: Path, threads: int, bar: tqdm, children: list) -> str | None:
    """Train one job in a child process, moving the bar on; the end of its log if it failed."""
    directory = job.directory(root)
    directory.mkdir(parents=True, exist_ok=True)
    task = json.dumps({"shortcut": job.shortcut, "config": dataclasses.asdict(job.config),
                       "corpus": str(corpus.root), "root": str(root)})
    seen = 0
    with open(directory / "train.log", "w") as log:
        child = subprocess.Popen([sys.executable, "-m", "ser_utils.studies.leakage", "--task", task],
                                 stdout=subprocess.PIPE, stderr=log, text=True, env=machine.environment(threads))
        children.append(child)
        for line in child.stdout:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a library's chatter, not ours
            bar.set_postfix_str(f"{job.name} val {row['val_accuracy']:.3f}")
            bar.update(row["epoch"] - seen)
            seen = row["epoch"]
    bar.update(job.epochs - seen)  # stopped early, or finished elsewhere in the meantime
    if child.wait() == 0:
        return None
    tail = "\n    ".join((directory / "train.log").read_text(errors="replace").strip().splitlines()[-6:])
    return f"{job.name} (exit {child.returncode}):\n    {tail}"


def _child(task: dict) -> int:
    """Train one job and print each epoch as a line of JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    job = Job(task["shortcut"], configuration.from_dict(task["config"]))
    corpus = corpora.at(task["corpus"], job.config.corpus)
    store = features.extract(corpus, job.config.features, progress=False)
    while True:
        try:
            run(job, corpus, store, Path(task["root"]), lambda row: print(json.dumps(row), flush=True))
            return 0
        except training.RunBusy:
            time.sleep(2)  # an honest run that the report or the grid is training


# ------------------------------------------------------------------------------------- what they are worth


def published(results: Path = RESULTS) -> dict[str, Path]:
    """profile -> folder of its published ladder (``<shortcut>/<model>/fold<k>`` and ``controls.csv``)."""
    homes = {profile: Path(results) / "validity" / profile for profile in PLANS}
    return {profile: home for profile, home in homes.items() if runs.find(home)}


def load_published(results: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """profile -> :func:`load` of its published ladder.

    The full profile's honest runs are those of the results, unless they were kept with a ladder of an older recipe.
    """
    return {profile: load(home, results if profile == "full" else None)
            for profile, home in published(results).items()}


def load(home: str | Path, ordinary: str | Path | None = None) -> pd.DataFrame:
    """Test predictions of all finished runs of a ladder and its controls in one table.

    ``home`` is the folder of the ladder: one of :func:`published`, or ``validity/`` beside the ``ordinary`` runs of
    a corpus and profile, from which honest runs are read if it holds none itself, of the networks and folds that
    took a shortcut. Columns: shortcut, model, fold, profile, clip, label, target, prediction and the eight
    probabilities; no rows if nothing is finished.

    Raises
    ------
    ResultsError
        A file is missing or damaged.
    """
    directories = runs.find(home)
    there = {path.parts[-3] for path in directories}
    taken = {path.parts[-2:] for path in directories}
    if ordinary and not any(SHORTCUTS[name].honest for name in there):
        directories += [path for path in runs.find(ordinary)
                        if path.parts[-3] in SHORTCUTS and path.parts[-2:] in taken]
    columns = ["shortcut", "model", "fold", "profile", "clip", "label", "target", "prediction",
               *evaluation.PROBABILITIES]
    parts = []
    for directory in directories:
        info = json.loads((directory / "run.json").read_text())
        part = runs.read_predictions(directory).query("subset == 'test'")
        part = part.assign(shortcut=directory.parts[-3], **{key: info[key] for key in ("model", "fold", "profile")})
        parts.append(part if "target" in part else part.assign(target=part.label))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and UAR of every shortcut and network, and the difference from honest training.

    Columns: shortcut, title, model, folds, clips; accuracy, low, high, uar, uar_low, uar_high (per cent; 95 %
    bootstrap intervals over clips, where speakers are new over actors); gain (points over the honest runs of its
    protocol, honest ones over ``random``; NaN without these and with shuffled labels) and p, Holm-corrected over the
    network's shortcuts: exact McNemar where both were tested on the same clips, else a two-proportion z test.
    """
    rows = []
    order = [name for name in SHORTCUTS if name in set(predictions.shortcut)]
    for model in evaluation.in_order(predictions.model, tuple(configuration.MODEL_NAMES)):
        mine = {name: predictions[(predictions.model == model) & (predictions.shortcut == name)] for name in order}
        for name, part in mine.items():
            if part.empty:
                continue
            actors = evaluation.clip_facts(part["clip"]).actor.to_numpy()
            groups = actors if SHORTCUTS[name].protocol == "actors" and len(set(actors)) > 1 else None
            row = {"shortcut": name, "title": SHORTCUTS[name].title, "model": model, "folds": part.fold.nunique(),
                   "clips": len(part)}
            for metric, short in (("accuracy", ""), ("recall", "uar_")):
                value = evaluation.metrics(part.target, part.prediction)[metric]
                low, high = statistics.bootstrap_interval(part.target, part.prediction, metric, groups)
                row |= {"accuracy" if metric == "accuracy" else "uar": 100 * value,
                        f"{short}low": 100 * low, f"{short}high": 100 * high}
            comparable = name != "random" and not SHORTCUTS[name].permuted
            base = "random" if SHORTCUTS[name].honest else SHORTCUTS[name].protocol
            rows.append(row | _against(mine.get(base), part if comparable else None))
    table = pd.DataFrame(rows, columns=["shortcut", "title", "model", "folds", "clips", "accuracy", "low", "high",
                                        "uar", "uar_low", "uar_high", "gain", "p"])
    for _, part in table.groupby("model"):
        tested = part.index[part.p.notna()]
        table.loc[tested, "p"] = statistics.holm(table.p[tested])
    return table


def _against(plain: pd.DataFrame | None, part: pd.DataFrame | None) -> dict[str, float]:
    """Gain of ``part`` over ``plain`` in points, with its p; NaN where one of them is missing."""
    from statsmodels.stats.proportion import proportions_ztest

    if plain is None or part is None or plain.empty:
        return {"gain": np.nan, "p": np.nan}
    a, b = ((t.target == t.prediction).set_axis(t["clip"]).sort_index() for t in (part, plain))
    if a.index.equals(b.index):
        p = statistics.mcnemar(a, b)["p"]
    else:
        p = float(proportions_ztest([a.sum(), b.sum()], [len(a), len(b)])[1])
    return {"gain": 100 * float(a.mean() - b.mean()), "p": p}


# ---------------------------------------------------------------------------------------- negative controls


def surface(corpus: Corpus, folder: Path = DATA / "features") -> pd.DataFrame:
    """What a recording shows before anybody listens to it; measured once and kept in one file.

    Columns: clip; before, speech, after (seconds); level_before, level, level_after (mean power, dB re full
    scale) and peak (dB). The speech is cut out as for the networks; no silence at all has 0 s and -100 dB.

    Raises
    ------
    AudioError
        A recording is damaged, silent or too short; the message names it.
    """
    from threadpoolctl import threadpool_limits

    columns = ["clip", "before", "speech", "after", "level_before", "level", "level_after", "peak"]
    path = features.store_path(corpus, configuration.FeatureConfig(), folder).with_suffix(".surface.csv")
    if path.exists():
        stored = pd.read_csv(path)
        if list(stored.columns) == columns and list(stored["clip"]) == list(corpus.index["clip"]):
            return stored
    with threadpool_limits(1), ThreadPoolExecutor(machine.cores()) as pool:
        rows = list(pool.map(_surface_of, corpus.index.path))
    table = pd.DataFrame(rows, columns=columns[1:])
    table.insert(0, "clip", corpus.index["clip"].to_numpy())
    runs.write_csv(table, path)
    return table


def _surface_of(path: str) -> list[float]:
    wave, rate = audio.load(path)
    start, stop = audio.speech_bounds(wave, rate, configuration.FeatureConfig().top_db)
    parts = [wave[:start], wave[start:stop], wave[stop:]]
    seconds = [len(part) / rate for part in parts]
    levels = [10 * np.log10(max(np.mean(part.astype(np.float64) ** 2), 1e-10)) if len(part) else -100.0
              for part in parts]
    return [*seconds, *levels, 20 * np.log10(np.abs(wave).max())]


def cue_predictions(corpus: Corpus, protocol: str, folder: Path = DATA / "features") -> pd.DataFrame:
    """Emotions as logistic regressions guess them from each of ``CUES`` alone, all six folds.

    The cues enter with their squares and products, standardised on the training clips; emotions count alike.
    Columns: cue, clip, fold, label, prediction.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    measured = surface(corpus, folder)
    labels = corpus.index.label.to_numpy()
    parts = []
    for fold in range(FOLDS):
        rows = check_split(corpus.index, protocol, split(corpus.index, protocol, fold))
        for cue, columns in CUES.items():
            values = measured[list(columns)].to_numpy()
            model = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(),
                                  LogisticRegression(class_weight="balanced", max_iter=2000))
            model.fit(values[rows["train"]], labels[rows["train"]])
            parts.append(pd.DataFrame({"cue": cue, "clip": measured["clip"][rows["test"]], "fold": fold,
                                       "label": labels[rows["test"]],
                                       "prediction": model.predict(values[rows["test"]])}))
    return pd.concat(parts, ignore_index=True)


def penultimate(run: Run, logmel: np.ndarray) -> np.ndarray:
    """What a trained network hands to its last layer, (N, features), of log-mels (N, frames, bands) in dB."""
    from ser_utils import explain

    front, network = explain.parts(run.model())
    last = explain.part(network, network.get_layer("predictions").input)
    return explain.outputs(last, explain.outputs(front, logmel))


def actor_probe(values: np.ndarray, actors: np.ndarray, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Which test clips' actors a logistic regression names from ``values`` (N, features): bool (test clips,).

    Fitted on the training clips; useful where every actor has clips in both parts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(values[rows["train"]], actors[rows["train"]])
    return model.predict(values[rows["test"]]) == actors[rows["test"]]


def controls(corpus: Corpus, store: FeatureStore, probed: Sequence[Run], folder: Path = DATA / "features"
             ) -> pd.DataFrame:
    """The negative controls that are no training of a network: cues alone, and who is speaking.

    ``probed`` are honest runs on the ``random`` protocol, with their weights. Columns: kind ("emotion": UAR with
    a bootstrap interval over clips, over actors where they are unseen; "actor": accuracy with Wilson's interval),
    what, protocol, clips (of all folds probed), score, low, high, chance (per cent).
    """
    rows = []
    for protocol in () if corpus.packed else ("random", "actors"):  # a packed corpus has no recordings
        for cue, part in cue_predictions(corpus, protocol, folder).groupby("cue", sort=False):
            actors = evaluation.clip_facts(part["clip"]).actor.to_numpy() if protocol == "actors" else None
            score = evaluation.metrics(part.label, part.prediction)["recall"]
            interval = statistics.bootstrap_interval(part.label, part.prediction, "recall", actors)
            rows.append(("emotion", cue, protocol, len(part), score, *interval, 1 / len(EMOTIONS)))
    actors = corpus.index.actor.to_numpy()
    named: dict[str, dict[int, np.ndarray]] = {}  # what -> fold -> whether a test clip's actor was named
    for run in probed:
        data = training.prepare(configuration.from_dict(run.info["config"]), corpus, store)
        speech = (data.logmel > PAD_DB).any(axis=2, keepdims=True)
        means = np.where(speech, data.logmel, 0).sum(axis=1) / speech.sum(axis=1)
        name = configuration.MODEL_NAMES[run.info["model"]]
        for what, values in ((f"last features of {name}", penultimate(run, data.logmel)),
                             ("mean log-mel spectrum", means)):
            named.setdefault(what, {})[run.info["fold"]] = actor_probe(values, actors, data.rows)
    for what, folds in named.items():
        right = np.concatenate(list(folds.values()))
        rows.append(("actor", what, "random", len(right), right.mean(),
                     *statistics.wilson_interval(right.sum(), len(right)), 1 / len(np.unique(actors))))
    table = pd.DataFrame(rows, columns=["kind", "what", "protocol", "clips", "score", "low", "high", "chance"])
    table[["score", "low", "high", "chance"]] *= 100
    return table


# --------------------------------------------------------------------------------------------------- checks


def check_data(data: Data, corpus: Corpus, store: FeatureStore, protocol: str) -> None:
    """Raise LeakError unless every clip is the recording of its name, with its label, in one part of the split.

    Catches clips, twins or actors in two parts, copies made before the split, augmented or otherwise altered
    clips (validation and test clips must be heard as recorded), and wrong labels.
    """
    if len(data.clips) != len(store.clips) or (data.clips != store.clips).any():
        twice = pd.Series(data.clips)[pd.Series(data.clips).duplicated()]
        raise LeakError(f"The data is not the corpus clip by clip; {twice.nunique():,} clips occur more than once"
                        + (f", among them {twice.iloc[0]}." if len(twice) else "."))
    check_split(corpus.index, protocol, data.rows)
    for part, rows in data.rows.items():
        true = features.fit_length(store.logmel[rows], store.lengths[rows], data.logmel.shape[1])
        altered = np.flatnonzero((data.logmel[rows] != true).any(axis=(1, 2)))
        if len(altered):
            raise LeakError(f"{len(altered):,} {part} clips are not as recorded, among them "
                            f"{data.clips[rows[altered[0]]]}.")
        wrong = np.flatnonzero(data.labels[rows] != corpus.index.label.to_numpy()[rows])
        if len(wrong):
            raise LeakError(f"{len(wrong):,} {part} clips have another label than their name says.")


def check_model(model: keras.Model, data: Data) -> None:
    """Raise LeakError unless a run's model was normalised by its training clips alone and augments none at test.

    ``data`` is what :func:`ser_utils.training.fit.prepare` gives for the run. Inference must not vary and must equal
    that of the same weights without the augmentation layers.
    """
    layer = model.get_layer("normalise")
    for what, found, true in zip(("mean", "deviation"), (layer.mean, layer.deviation),
                                 features.statistics(data.logmel[data.rows["train"]]), strict=True):
        worst = float(np.abs(np.array(found) - true).max())
        if worst > 1e-3:
            raise LeakError(f"The normalisation's {what} is not that of the training clips: off by up to "
                            f"{worst:.3f} dB.")
    sample = data.logmel[data.rows["val"][:32]]
    first, second, plain = (_predict(made, sample) for made in (model, model, _without_augmentation(model)))
    if not (np.allclose(first, second, atol=1e-6) and np.allclose(first, plain, atol=1e-6)):
        raise LeakError("The model alters clips at random when it predicts: augmentation is on outside training.")


def _without_augmentation(model: keras.Model) -> keras.Model:
    """A run's model (``frontend.assemble``) less what augments; its layers are shared, and with them the precision."""
    logmel = x = keras.Input(model.input_shape[1:])
    for layer in model.layers:
        if not isinstance(layer, (keras.layers.InputLayer, frontend.Augment, frontend.SpecAugment)):
            x = layer(x)
    return keras.Model(logmel, x)


def _predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The structure of `inputs`")  # one array, not a list of one
        return keras.ops.convert_to_numpy(model(x, training=False))


def check_run(run: Run, corpus: Corpus, store: FeatureStore) -> None:
    """Raise LeakError if a finished run's files or its model (if it is there) betray a leak.

    The files: see :func:`ser_utils.evaluation.metrics.check_run`; the model: see :func:`check_model`.
    """
    try:
        runs.check(run.dir)
    except evaluation.ResultsError as error:
        raise LeakError(str(error)) from error
    if (run.dir / "model.keras").exists():
        config = configuration.from_dict(run.info["config"])
        check_model(run.model(), training.prepare(config, corpus, store))


def findings(job: Job, corpus: Corpus, store: FeatureStore, root: Path = RUNS) -> dict[str, str]:
    """What the checks say of a finished job: "data" and "run", each empty where they find nothing."""
    found = {}
    data = leaky_data(job, training.prepare(job.config, corpus, store), corpus.index.actor.to_numpy())
    for what, check in (("data", lambda: check_data(data, corpus, store, job.plan.protocol)),
                        ("run", lambda: check_run(Run(job.directory(root)), corpus, store))):
        try:
            check()
            found[what] = ""
        except LeakError as error:
            found[what] = str(error)
    return found


# ---------------------------------------------------------------------------------------------- publication


def publish_ladder(wanted: Sequence[Job], table: pd.DataFrame | None, root: Path = RUNS, results: Path = RESULTS
                   ) -> list[str]:
    """Copy finished jobs of one profile to ``results/validity/<profile>``, weights left out.

    ``table`` are the controls, if there are any. Returns the names of the jobs.

    Raises
    ------
    PublishError
        A job is not on RAVDESS.
    ResultsError
        A run's files contradict each other.
    """
    from ser_utils.report import publish

    done = [job for job in wanted if job.is_finished(root)]
    for job in done:
        if job.config.corpus != "ravdess":
            raise publish.PublishError(f"{job.name} is a run on {job.config.corpus}; results/validity holds runs on "
                                       "ravdess.")
        runs.read_predictions(job.directory(root))
    for job in done:
        home = results / "validity" / job.config.profile
        target = home / job.name
        for file in runs.FILES:
            with atomic_write(target / file) as temporary:
                shutil.copyfile(job.directory(root) / file, temporary)
    if done and table is not None:
        runs.write_csv(table, home / "controls.csv")
    return [job.name for job in done]


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.studies.leakage``: train what is missing of a profile's ladder, and print what it is worth."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.leakage", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(PLANS))
    for name, kind in (("models", str), ("folds", int), ("shortcuts", str)):
        parser.add_argument(f"--{name}", nargs="*", type=kind, help=f"only these {name}")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core)")
    parser.add_argument("--publish", action="store_true", help="copy finished runs to results/validity/<profile>")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.task:
        return _child(json.loads(options.task))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trainings are stopped, too
    try:
        found = corpora.for_profile(options.profile)
        store = features.extract(found, configuration.PROFILES[options.profile].features)
        wanted = jobs(options.profile, found.kind, options.models, options.folds, options.shortcuts)
        train(wanted, found, options.runs, options.jobs)
        probed = [Run(job.directory(options.runs)) for job in wanted
                  if job.shortcut == "random" and job.is_finished(options.runs)]
        table = controls(found, store, probed) if probed else None
        if options.publish:
            from ser_utils.report import publish

            print(f"Published: {', '.join(publish_ladder(wanted, table, options.runs))}.")
            publish.draw()
    except KeyboardInterrupt:
        print("\nStopped. Finished runs are kept.")
        return 130
    except (LadderError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    ordinary = options.runs / f"{found.kind}-{options.profile}"
    print(scores(load(ordinary / "validity", ordinary)).round(3).to_string(index=False))
    if table is not None:
        print(table.round(1).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
