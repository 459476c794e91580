"""What each shortcut is worth: a ladder of trainings, from honest to flattering.

A shortcut departs in one point from honest training, which has no switch for any of this: the leaks are planted here.
Leaky runs land in ``runs/<corpus>-<profile>/validity/<shortcut>/<model>/fold<k>/``. :func:`check_data` and
:func:`check_model` catch such leaks in this project's own data and models; ``runs.check`` is that of runs.
"""

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportions_ztest

from ser_utils import FOLDS
from ser_utils import config as configuration
from ser_utils.config import PAD_DB, AugmentConfig, RunConfig
from ser_utils.data import corpus as corpora
from ser_utils.data.folds import LeakError, check_split
from ser_utils.evaluation import metrics, statistics
from ser_utils.features import spectral
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import RESULTS, RUNS
from ser_utils.studies import controls
from ser_utils.training import augment, fit, frontend, grid, runs


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """How an experiment departs from honest training under a protocol; the defaults are honest."""

    protocol: str
    title: str
    chosen_on: str = "val"      # the part of the split whose accuracy chooses the epoch: "val" or "test"
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
    "permuted": Shortcut("random", "shuffled labels", permuted=True)}
LADDER = ("actors", "twins", "random", "test_statistics", "test_epoch", "copies", "everything")
APART = ("by_speaker",)  # hears the test speaker's other clips, but not what they express
BRIEF = tuple(name for name in SHORTCUTS if name != "everything")  # nothing to see of it in a short training
PLANS = {  # profile -> networks, folds and shortcuts
    "smoke": (("alexnet",), (0,), BRIEF),
    "quick": (("alexnet", "transformer"), tuple(range(FOLDS)), BRIEF),
    "full": (("alexnet", "transformer"), tuple(range(FOLDS)), tuple(SHORTCUTS))}


@dataclasses.dataclass(frozen=True)
class LeakConfig(RunConfig):
    """One training of the ladder: an ordinary run's settings, and the shortcut taken."""

    shortcut: str = ""

    @property
    def plan(self) -> Shortcut:
        return SHORTCUTS[self.shortcut]

    @property
    def ordinary(self) -> RunConfig:
        return RunConfig(**{name: value for name, value in vars(self).items() if name != "shortcut"})

    @property
    def trained(self) -> RunConfig:
        """With copies fewer epochs are trained, so that the number of steps stays the same."""
        copies = self.plan.copies
        return dataclasses.replace(self.ordinary, epochs=max(self.epochs // copies, 1),
                                   patience=max(self.patience // copies, 1),
                                   warmup_epochs=-(-self.warmup_epochs // copies))

    @property
    def hash(self) -> str:
        if self.plan.honest:
            return self.ordinary.hash
        plan = {key: value for key, value in vars(self.plan).items() if key != "title"}
        text = json.dumps([self.shortcut, plan, self.ordinary.hash], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def place(self) -> str:
        return f"{self.shortcut}/{self.model}/fold{self.fold}"  # of an ordinary run, too, if it is honest

    def run_directory(self, root: Path) -> Path:
        return super().run_directory(root).parents[2] / ("" if self.plan.honest else "validity") / self.place


def run_configs(profile: str, corpus: str, models: Sequence[str] | None = None, folds: Sequence[int] | None = None,
                shortcuts: Sequence[str] | None = None) -> list[LeakConfig]:
    """The trainings of a profile's ladder on a corpus ("ravdess" or "synthetic"); raises as ``config.run_configs``."""
    networks, all_folds, names = PLANS[profile]
    return [LeakConfig(**vars(c), shortcut=name) for name in shortcuts or names
            for c in configuration.run_configs(profile, corpus, models or networks, [SHORTCUTS[name].protocol],
                                               folds or all_folds)]


def leaky_data(config: LeakConfig, store: spectral.FeatureStore) -> fit.Data:
    """The data of a run, (N, frames, bands), with its leak planted in it."""
    plan, rng = config.plan, np.random.default_rng([config.seed, config.fold])
    data, actors = fit.prepare(config.ordinary, store), store.index.actor.to_numpy()
    if plan.by_speaker:
        data = dataclasses.replace(data, logmel=normalised_by_speaker(data.logmel, actors))
    if plan.permuted:  # among the clips of each actor: all counts stay, all meaning goes
        labels = pd.Series(data.labels).groupby(actors).transform(lambda own: rng.permutation(own.to_numpy()))
        data = dataclasses.replace(data, labels=labels.to_numpy())
    if plan.copies > 1:
        data = augmented_before_split(data, config, rng)
    return data


def normalised_by_speaker(logmel: np.ndarray, actors: np.ndarray) -> np.ndarray:
    """Log-mels (N, frames, bands) in dB, each actor's bands brought to the mean and deviation of all; padding stays."""
    mean, deviation = spectral.statistics(logmel)
    moved = np.empty_like(logmel)
    for actor in np.unique(actors):
        own_mean, own_deviation = spectral.statistics(logmel[actors == actor])
        moved[actors == actor] = (logmel[actors == actor] - own_mean) / own_deviation * deviation + mean
    speech = (logmel > PAD_DB).any(axis=2, keepdims=True)
    return np.where(speech, np.maximum(moved, PAD_DB + 1e-3), PAD_DB)


def augmented_before_split(data: fit.Data, config: LeakConfig, rng: np.random.Generator) -> fit.Data:
    """Each clip so many times, itself and augmented versions, of which a random share goes to training.

    Validation and test keep their own clips alone, so that all shortcuts are measured on the same recordings.
    """
    layer = augment.Augment(config.augment or AugmentConfig(), seed=config.seed + 2)
    clips, copies = len(data.clips), config.plan.copies
    versions = [np.concatenate([keras.ops.convert_to_numpy(layer(data.logmel[start:start + 120], training=True))
                                for start in range(0, clips, 120)]) for _ in range(copies - 1)]
    extra = clips * (copies - 1)
    chosen = rng.permutation(extra)[: round(extra * len(data.rows["train"]) / clips)]
    train = np.concatenate([data.rows["train"], clips + np.sort(chosen)])
    return fit.Data(np.tile(data.clips, copies), np.concatenate([data.logmel, *versions]), np.tile(data.labels, copies),
                data.rows | {"train": train})


def check_data(data: fit.Data, store: spectral.FeatureStore, protocol: str) -> None:
    """Raise LeakError unless every clip is the recording of its name, with its label, where the protocol allows it."""
    if len(data.clips) != len(store.clips) or (data.clips != store.clips).any():
        twice = pd.Series(data.clips)[pd.Series(data.clips).duplicated()]
        raise LeakError(f"The data is not the corpus clip by clip; {twice.nunique():,} clips occur more than once.")
    check_split(store.index, protocol, data.rows)
    true = spectral.fit_length(store.logmel, store.lengths, data.logmel.shape[1])
    for part, rows in data.rows.items():
        for what, wrong in (("are not as recorded", (data.logmel[rows] != true[rows]).any(axis=(1, 2))),
                            ("have another label than their name says",
                             data.labels[rows] != store.index.label.to_numpy()[rows])):
            if wrong.any():
                raise LeakError(f"{wrong.sum():,} {part} clips {what}, among them {data.clips[rows][wrong][0]}.")


def check_model(model: keras.Model, data: fit.Data) -> None:
    """Raise LeakError unless a run's model was normalised by its training clips alone and augments none at test."""
    layer = model.get_layer("normalise")
    for what, found, true in zip(("mean", "deviation"), layer.statistics.numpy(),
                                 spectral.statistics(data.logmel[data.rows["train"]]), strict=True):
        worst = float(np.abs(found - true).max())
        if worst > 1e-3:
            raise LeakError(f"The normalisation's {what} is not that of the training clips: {worst:.3f} dB off.")
    whole, clips = keras.Model(model.inputs[0], model.outputs[0]), data.logmel[data.rows["val"][:32]]
    plain = clips
    for part in model.layers[1:]:
        if not isinstance(part, (augment.Augment, augment.SpecAugment)):
            plain = part(plain)
    first, again = frontend.outputs(whole, clips), frontend.outputs(whole, clips)
    if not (np.allclose(first, again, atol=1e-6) and np.allclose(first, plain, atol=1e-6)):
        raise LeakError("The model alters clips at random when it predicts: augmentation is on outside training.")


class Watcher(fit.Checkpoint):
    """Measure the test clips of leaky data after every epoch, too, and do what the plan says with them."""

    def __init__(self, plan: Shortcut, config: RunConfig, data: fit.Data, *others):
        super().__init__(config, data, *others)
        self.plan, self.data = plan, data

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if self.plan.statistics == "all":
            model.get_layer("normalise").assign(*spectral.statistics(self.data.logmel))

    def consider(self, epoch: int, accuracy: float, loss: float, last: bool) -> None:
        test = self.data.rows["test"]
        predicted, labels = fit.probabilities(self.model, self.data.logmel[test]), self.data.labels[test]
        test_accuracy = float((predicted.argmax(axis=1) == labels).mean())
        test_loss = fit.cross_entropy(predicted, labels)
        self.rows[-1] |= {"test_loss": round(test_loss, 6), "test_accuracy": round(test_accuracy, 6)}
        if self.plan.chosen_on == "test":
            accuracy, loss, last = test_accuracy, test_loss, False
        super().consider(epoch, accuracy, loss, last)


def run(config: LeakConfig, store: spectral.FeatureStore, root: Path = RUNS, progress: bool = True,
        on_epoch=None) -> runs.Run:
    """As ``training.fit.run``, for one rung.

    With a leak ``history.csv`` has the test clips' loss and accuracy, too; with shuffled labels ``predictions.csv`` has
    the label given to a clip, which the metrics are of, as ``target``.
    """
    if config.plan.honest:
        return fit.run(config.ordinary, store, root, progress, on_epoch)
    with fit.locked(config, root) as directory:
        if directory is None:
            return runs.Run(config.run_directory(root))
        data = leaky_data(config, store)
        watcher = functools.partial(Watcher, config.plan)
        model, checkpoint = fit.fit(config.trained, data, directory, on_epoch=on_epoch, kind=watcher)
        done = fit.finish(config.trained, data, model, checkpoint, directory)
        table = pd.read_csv(directory / "predictions.csv")
        if config.plan.permuted:
            table = table.assign(target=table.label, label=table["clip"].str[6:8].astype(int) - 1)
        # Only when its files say which shortcut it took does it count as finished.
        info = {"protocol": config.shortcut, "shortcut": dataclasses.asdict(config.plan), "config_hash": config.hash}
        return runs.write(directory, done.info | info, done.history, table)


def load_published() -> dict[str, pd.DataFrame]:
    """profile -> :func:`load` of its published ladder, ``results/validity/<profile>``."""
    found = {profile: runs.find(RESULTS / "validity" / profile) for profile in PLANS}
    return {profile: load(directories) for profile, directories in found.items() if directories}


def load(directories: Iterable[Path]) -> pd.DataFrame:
    """Test predictions of finished runs of a ladder in one table; a ResultsError names a missing or damaged file."""
    table = pd.concat([runs.read_predictions(path).query("subset == 'test'").assign(
        shortcut=path.parts[-3], model=path.parts[-2], fold=path.name) for path in directories], ignore_index=True)
    return table.assign(target=table.get("target", table.label).fillna(table.label).astype(int))


def scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """What every shortcut and network reaches, and the difference from honest training.

    Columns: shortcut, title, model, folds, clips; accuracy, low, high, uar, uar_low, uar_high (per cent; 95 %
    bootstrap intervals over ``statistics.units``); gain (points over the honest runs of its protocol, honest ones over
    ``random``; NaN without these and with shuffled labels) and p, Holm-corrected over the network's shortcuts: exact
    McNemar where both were tested on the same clips, else a two-proportion z test; none where the epoch was chosen on
    test clips, which flatters it.
    """
    rows, parts = [], dict(list(predictions.groupby(["model", "shortcut"])))
    networks = metrics.in_order(predictions.model, tuple(MODEL_NAMES))
    for model, name in [pair for pair in itertools.product(networks, SHORTCUTS) if pair in parts]:
        part, plan = parts[model, name], SHORTCUTS[name]
        found = metrics.metrics(part.target, part.prediction)
        row = {"shortcut": name, "title": plan.title, "model": model, "folds": part.fold.nunique(), "clips": len(part)}
        units = statistics.units(part["clip"], plan.protocol)
        ends = statistics.bootstrap_intervals(part.target, part.prediction, units)
        for metric, column, end in (("accuracy", "accuracy", ""), ("recall", "uar", "uar_")):
            low, high = ends[metric]
            row |= {column: 100 * found[metric], f"{end}low": 100 * low, f"{end}high": 100 * high}
        base, gain, p = parts.get((model, "random" if plan.honest else plan.protocol)), np.nan, np.nan
        if base is not None and name != "random" and not plan.permuted:
            a, b = ((t.target == t.prediction).set_axis(t["clip"]).sort_index() for t in (part, base))
            gain = 100 * (a.mean() - b.mean())
            p = (np.nan if plan.chosen_on == "test" else statistics.mcnemar(a, b)["p"] if a.index.equals(b.index)
                 else proportions_ztest([a.sum(), b.sum()], [len(a), len(b)])[1])
        rows.append(row | {"gain": gain, "p": p})
    table = pd.DataFrame(rows)
    return table.assign(p=table.p.dropna().groupby(table.model).transform(statistics.holm))


def publish(configs: Iterable[LeakConfig], root: Path) -> list[str]:
    """As :func:`ser_utils.training.runs.publish`, to ``results/validity/<profile>``; planted leaks are no error."""
    return runs.publish(configs, root, RESULTS, lambda c: f"validity/{c.profile}/{c.place}",
                        lambda c: runs.check if c.plan.honest else runs.read_predictions)


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.studies.leakage``: train what is missing of a profile's ladder, print what it is worth."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.leakage", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(PLANS))
    parser.add_argument("--publish", action="store_true",
                        help="copy finished runs to results/validity/<profile>, with the negative controls beside them")
    grid.add_options(parser)
    options = parser.parse_args(arguments)
    corpus, path = grid.features_of(options.profile, options.features)
    configs = [c for c in run_configs(options.profile, corpus, options.models, options.folds)
               if c.protocol in (options.protocols or c.protocol)]
    grid.train(configs, path, options.runs, options.jobs, options.budget, work=run, scheduler=options.scheduler)
    done = {c.run_directory(options.runs): c for c in configs if runs.is_finished(c, options.runs)}
    if options.publish:
        print(f"New: {', '.join(publish(configs, options.runs)) or 'none'}.")
        probed = [runs.Run(directory) for directory, c in done.items() if c.shortcut == "random"]
        table = controls.table(corpora.find(corpus), spectral.read(path), probed)
        runs.write_csv(table, RESULTS / "validity" / options.profile / "controls.csv")
    print(scores(load(done)).round(3).to_string(index=False) if done else "No run is finished.")


if __name__ == "__main__":  # by its full name, by which other processes find what is pickled from here
    sys.exit(pkgutil.resolve_name("ser_utils.studies.leakage:main")())
