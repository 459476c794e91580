"""Named studies: what one change of the settings is worth, measured on validation clips.

A study takes the runs of its profile as its baseline and changes one thing at a time; its runs lie apart from the main
results. No table of a study reads a test clip, so that a choice made from it leaves the test untouched.
"""

import argparse
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ser_utils import PROTOCOLS
from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.data import corpus as corpora
from ser_utils.evaluation import metrics, statistics
from ser_utils.evaluation.metrics import ResultsError
from ser_utils.features import spectral
from ser_utils.paper import MODEL_NAMES, TABLE1
from ser_utils.paths import RESULTS, RUNS
from ser_utils.training import grid, runs

BASELINE = "baseline"
SHARES = {"half": 0.5, "quarter": 0.25}  # of the training clips, in the study ``clips``
CHANCE = ("seed", "again")  # variants that choose nothing: they show how far two trainings of one recipe differ


@dataclasses.dataclass(frozen=True)
class Change:
    """One variant of a network's runs: what the baseline has in its place, and settings of ``RunConfig``.

    Under "options", "augment" and "features" only the keys that change are named (``"augment": None`` switches
    augmentation off).
    """

    what: str
    settings: dict


def _options(what: str, **options) -> Change:
    """A change of options of the network's builder."""
    return Change(what, {"options": options})


_SEED = Change("for scale: nothing but the seed of the random numbers", {"seed": 1})
_BANDS = _options("three frequency bands apart up to the classifier, not one mean over all frequencies", bands=1)
_AVERAGE = _options("attention over time, not the plain mean", pooling="average")
_FLAT = _options("bands, attention over time and one dense layer, not flattening and two layers of 4,096 units",
                 pooling="flatten", hidden=(4096, 4096))
_VGG = {
    "norm": _options("batch normalisation after every convolution, not none", batch_norm=False),
    "head": _FLAT,
    "seed": _SEED,
}
_CANONICAL = {  # each variant takes one difference of a tailored network back to the network as published
    "alexnet": {
        "stem": _options("conv1 steps by 2, not by 4", stem_stride=4),
        "norm": _options("batch normalisation, not local response normalisation", batch_norm=False),
        "head": _FLAT,
        "seed": _SEED,
    },
    "resnet": {
        "stem": _options("conv1 alone lowers the resolution, without a pooling behind it",
                         stem_stride=2, stem_pool=True),
        "bands": _BANDS,
        "average": _AVERAGE,
        "skip": _options("kept from the original: x is added to F(x)", skip=False),
        "seed": _SEED,
    },
    "inceptionnet": {
        "stem": _options("one pooling in the stem, not two", stem_pool=True),
        "modules": _options("in this profile fewer modules on each grid", modules=(3, 4, 2)),
        "bands": _BANDS,
        "average": _AVERAGE,
        "seed": _SEED,
    },
    "vgg16": _VGG,
    "vgg19": _VGG,
    "lstm": {
        "front": _options("two convolutions along time before the LSTM, not the bare frames", front=0),
        "stack": _options("several frames to a step, not one", stack=1),
        "direction": _options("both directions, not one", bidirectional=False),
        "average": _AVERAGE,
        "seed": _SEED,
    },
    "transformer": {
        "stem": _options("convolutions along time before the encoder, not one dense layer", stem=False),
        "norm": _options("normalisation before each part of a layer, not after it", pre_norm=False),
        "positions": _options("kept from the original: sines and cosines of the frame number", positions=False),
        "average": _AVERAGE,
        "seed": _SEED,
    },
}

_RECIPE = {name: Change(what, settings) for name, (what, settings) in {
    # With the recipe minus one ingredient ...
    "smoothing": ("smoothed labels (0.1), not plain ones", {"label_smoothing": 0.0}),
    "plain": ("augmentation in training and at test time, not the clips as they are",
              {"augment": None, "versions": 1}),
    "speed": ("clips sped up and slowed down", {"augment": {"stretch": 0.0}}),
    "warp": ("a warped frequency axis", {"augment": {"warp": 0.0}}),
    "noise": ("noise in a quarter of the clips", {"augment": {"noise_probability": 0.0}}),
    "stripes": ("blanked stripes (SpecAugment)", {"augment": {"frequency_masks": 0, "time_masks": 0}}),
    "single": ("test-time augmentation (mean over 27 variants)", {"versions": 1}),
    # ... and with something else in its place.
    "mels": ("80 mel bands of 50 ms windows, not 128 of 100 ms", {"features": {"n_fft": 1600, "n_mels": 128}}),
    "level": ("every clip as loud and as bright as recorded, not at random",
              {"augment": {"gain_db": 6.0, "tilt_db": 6.0}}),
    "treble": ("sound up to 8 kHz, not up to 16 kHz", {"features": {
        "sample_rate": 32_000, "n_fft": 1600, "hop_length": 640, "n_mels": 96, "fmax": 16_000.0}}),
    "deltas": ("the spectrogram alone, without its deltas", {"channels": ("static", "delta", "delta2")}),
    "centred": ("the spectrogram with its clip's mean, not without", {"channels": ("centred",)}),
    "epochs": ("240 epochs, not 80", {"epochs": 80, "patience": 80}),
    "batch": ("32 clips to a batch, not 16", {"batch_size": 16}),
    "rate": ("a learning rate of 0.001, not half of it", {"learning_rate": 5e-4}),
    "decay": ("a weight decay of 0.02, not 1", {"weight_decay": 1.0}),
    "average": ("the weights themselves, not their running average", {"ema": 0.995}),
    "mixup": ("each clip alone, not mixed with another", {"mixup": 0.2}),
    "strong": ("mild augmentation, not twice as much", {"augment": {
        "stretch": 0.2, "warp": 0.08, "noise_probability": 0.5, "frequency_masks": 2, "time_masks": 2}}),
    "again": ("for scale: nothing changed, trained once more", {}),
}.items()}
_RECIPE_OF_CONVOLUTIONS = _RECIPE | {
    "wide": _options("a part of the published channels, not all of them", width=1.0),
}
_RECIPE_OF_SEQUENCES = _RECIPE | {
    "front": _options("two convolutions over frames and bands in front, not along time alone", front_2d=0),
}
_SEARCHED = Change(
    "the recipe of all networks, not the best of the search for ResNet",
    {"learning_rate": 8.07e-4, "weight_decay": 0.107, "batch_size": 16, "label_smoothing": 0.2, "ema": 0.99,
     "options": {"dropout": 0.0}, "augment": {"stretch": 0.125, "shift": 10, "warp": 0.05, "noise_probability": 0.3125,
                                              "frequency_masks": 2, "time_masks": 2}})
_RECIPE_OF_TRANSFORMER = _RECIPE_OF_SEQUENCES | {  # where its recipe is another
    "rate": Change("a learning rate of 0.002, not half of it", {"learning_rate": 1e-3}),
    "average": Change("the running average of the weights, not the weights themselves", {"ema": 0.0}),
    "dropout": _options("dropout of 0.1, not 0.2 and layers skipped now and then",
                        dropout=0.2, stochastic_depth=0.1),
    "large": _options("2 encoder layers of 96 features, not 4 of 192", dim=192, depth=4),
}


def _fewer(variant: str, share: float) -> Change:
    """A part of the training clips, in as many more epochs: all else, the number of steps too, stays."""
    epochs = round(configuration.PROFILES["full"].common["epochs"] / share)
    return Change(f"all training clips, not a {variant} of them",
                  {"share": share, "epochs": epochs, "patience": epochs,
                   "warmup_epochs": round(RunConfig.warmup_epochs / share)})


STUDIES: dict[str, dict[str, dict[str, Change]]] = {  # study -> network -> variant -> change
    "canonical": _CANONICAL,
    # The recipe of the full profile, one ingredient at a time.
    "recipe": dict.fromkeys(MODEL_NAMES, _RECIPE_OF_CONVOLUTIONS) | {
        "resnet": _RECIPE_OF_CONVOLUTIONS | {"searched": _SEARCHED}, "lstm": _RECIPE_OF_SEQUENCES,
        "transformer": _RECIPE_OF_TRANSFORMER},
    # What the number of recordings is worth.
    "clips": dict.fromkeys(MODEL_NAMES, {variant: _fewer(variant, share) for variant, share in SHARES.items()}),
}
PROFILES = {"canonical": "quick", "recipe": "full", "clips": "full"}  # study -> the profile whose runs are its baseline
# (profile, protocol) -> settings that the studies start from where the profile has moved on, partly by their findings.
START = {("full", "actors"): {"augment": {"warp": 0.04, "gain_db": 0.0, "tilt_db": 0.0}},
         ("quick", "actors"): {"epochs": 30}}


def study(name: str) -> dict[str, dict[str, Change]]:
    """The changes of a study: network -> variant -> change; a ValueError lists the studies there are."""
    if name not in STUDIES:
        raise ValueError(f"Unknown study {name!r}; choose from {', '.join(STUDIES)}.")
    return STUDIES[name]


def variants_of(name: str) -> list[str]:
    """The variants of a study, the baseline first."""
    return [BASELINE, *dict.fromkeys(variant for changes in study(name).values() for variant in changes)]


def changed(config: RunConfig, settings: dict) -> RunConfig:
    """A configuration with some settings changed; within options, augmentation and features the others are kept."""
    parts = {"options": lambda old, new: old | new, "augment": lambda old, new: new and dataclasses.replace(old, **new),
             "features": lambda old, new: dataclasses.replace(old, **new)}
    return dataclasses.replace(config, **{
        name: parts[name](getattr(config, name), value) if name in parts else value
        for name, value in settings.items()})


def run_configs(name: str, models=None, variants=None, protocols=("actors",),
                folds=(0,)) -> dict[str, list[RunConfig]]:
    """The runs of a study on RAVDESS: variant -> configurations, the baseline first; lists narrow it down.

    The baseline is the profile's own run where the study starts from its settings (see ``START``), and is trained once
    for both. An unknown name is a ValueError that lists what there is.
    """
    changes, (_, *known), profile = study(name), variants_of(name), PROFILES[name]
    unknown = [variant for variant in variants or () if variant not in known]
    if unknown:
        raise ValueError(f"The study {name} has no variant {unknown[0]!r}; it has {', '.join(known)}.")
    base = []
    for c in configuration.run_configs(profile, "ravdess", models, protocols, folds):
        start = changed(c, START.get((profile, c.protocol), {}))
        base.append(c if start.hash == c.hash else changed(start, {"variant": f"studies/{name}/{BASELINE}"}))
    configs = {variant: [changed(c, changes[c.model][variant].settings | {"variant": f"studies/{name}/{variant}"})
                         for c in base if variant in changes[c.model]] for variant in variants or known}
    return {BASELINE: base} | {variant: own for variant, own in configs.items() if own}


def place(name: str, config: RunConfig) -> str:
    """Where in ``results/`` a run of a study lies: ``studies/<study>/<variant>/<protocol>/<model>/fold<k>``."""
    home = config.variant or f"studies/{name}/{BASELINE}"
    return f"{home}/{config.protocol}/{config.model}/fold{config.fold}"


def published(name: str, results: Path = RESULTS) -> dict[str, dict[str, Path]]:
    """The published runs of a study: variant -> ``<protocol>/<model>/fold<k>`` -> folder."""
    return {variant: {"/".join(path.parts[-3:]): path for path in found} for variant in variants_of(name)
            if (found := runs.find(results / "studies" / name / variant))}


def publish(name: str, configs: dict[str, list[RunConfig]], root: Path = RUNS, results: Path = RESULTS) -> list[str]:
    """Copy a study's finished runs to their :func:`place` in the results; returns the places of new ones.

    Where the baseline is a published run of the profile, that is copied. Raises see ``runs.publish``.
    """
    for c in configs[BASELINE]:
        if not c.variant and runs.holds(results / c.place, c):
            runs.copy(results / c.place, results / place(name, c))
    return runs.publish(itertools.chain(*configs.values()), root, results, lambda c: place(name, c))


def table(name: str, results: Path = RESULTS) -> pd.DataFrame:
    """What the published variants of a study reach on validation clips, beside the baseline on the same clips.

    A row a protocol, network and variant that is finished, the baseline first, on the folds that some variant has
    finished (all its own while none has): protocol, model, variant, folds (of a variant: finished by both), clips,
    accuracy and uar (means over folds, per cent), difference (accuracy of the variant less that of the baseline,
    points) with low and high (95 %, paired bootstrap over clips, under ``actors`` over voices), p (exact McNemar
    test), profile, corpus. The interval holds the chance in the validation clips, not that in the training.
    A ResultsError names a damaged run, or one that differs from its baseline in more than the study says.
    """
    there, rows, read = published(name, results), [], functools.cache(runs.read_predictions)
    for protocol, (model, changes) in itertools.product(PROTOCOLS, study(name).items()):
        own = {variant: {place: path for place, path in found.items() if place.startswith(f"{protocol}/{model}/")}
               for variant, found in there.items()}
        base = own.get(BASELINE, {})
        both = {variant: [place for place in base if place in own.get(variant, ())] for variant in changes}
        compared = [place for place in base if any(place in places for places in both.values())]
        for variant, places in ({BASELINE: compared or list(base)} | both).items():
            for place in places if variant in changes else ():
                _check_only_change(base[place], own[variant][place], changes[variant])
            if places:
                rows.append({"protocol": protocol, "model": model, "variant": variant} | _measured(
                    places, own[variant], base if variant in changes else None, read))
    return pd.DataFrame(rows, columns=["protocol", "model", "variant", "folds", "clips", "accuracy", "uar",
                                       "difference", "low", "high", "p", "profile", "corpus"])


def _check_only_change(base: Path, other: Path, change: Change) -> None:
    """Two runs must differ in the change alone; quick and full, real and synthetic never meet."""
    before, after = (configuration.from_dict(runs.Run(path).info["config"]) for path in (base, other))
    if after.hash != changed(before, change.settings).hash:
        raise ResultsError(f"{other} differs from the baseline {base} in more than its change {change.settings}. "
                           "Train both with the same settings and publish them, or delete it.")


def _measured(places: list[str], found: dict[str, Path], base: dict[str, Path] | None, read: Callable) -> dict:
    """The numbers of a row of the table, with those that compare it with the baseline if there is one."""

    def validation(of):
        answers = pd.concat([read(of[place]).assign(place=place) for place in places], ignore_index=True)
        return answers[answers.subset == "val"]

    own, info = validation(found), runs.Run(found[places[0]]).info
    scores = pd.DataFrame([metrics.metrics(part.label, part.prediction) for _, part in own.groupby("place")])
    row = {"folds": len(places), "clips": len(own), "accuracy": 100 * scores.accuracy.mean(),
           "uar": 100 * scores.recall.mean(), "profile": info["profile"], "corpus": info["corpus"]}
    if base is None:
        return row
    both = own.merge(validation(base), on=["place", "clip"], suffixes=("", "_base"), validate="one_to_one")
    right, right_base = both.prediction == both.label, both.prediction_base == both.label
    voices = metrics.clip_facts(both["clip"]).actor if info["protocol"] == "actors" else None
    low, high = statistics.bootstrap_difference(right, right_base, voices)
    return row | {"difference": 100 * (right.mean() - right_base.mean()), "low": 100 * low, "high": 100 * high,
                  "p": statistics.mcnemar(right, right_base)["p"]}


def growth(results: Path = RESULTS) -> pd.DataFrame:
    """What more recordings bring, by the study ``clips``.

    Columns: protocol, model, clips (in training), folds, accuracy (on validation clips, per cent), low and high (the
    95 % interval of the difference from all clips, put around the accuracy), gain (points over half as many clips).
    """
    found = table("clips", results)
    found["clips"] = (TABLE1["train"] * found.variant.map({BASELINE: 1.0} | SHARES)).astype(int)
    lines = []
    for _, line in found.groupby(["protocol", "model"], sort=False):
        line = line[line.folds == line.folds.max()].sort_values("clips")  # on the same folds as all clips
        if len(line) > 1:
            whole, before = line.accuracy.iloc[-1], line.clips.shift()
            lines.append(line.assign(low=whole + line.low, high=whole + line.high,
                                     gain=line.accuracy.diff().where(line.clips == 2 * before)))
    columns = ["protocol", "model", "clips", "folds", "accuracy", "low", "high", "gain"]
    return pd.concat(lines, ignore_index=True)[columns] if lines else pd.DataFrame(columns=columns)


@grid.command
def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.studies.ablation STUDY``: train what is not published of a study, publish and print it."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.ablation", description=main.__doc__)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--variants", nargs="*", help="only these variants")
    grid.add_options(parser)
    parser.set_defaults(protocols=["actors"], folds=[0])
    options = parser.parse_args(arguments)
    configs = run_configs(options.study, options.models, options.variants, options.protocols, options.folds)
    publish(options.study, configs, options.runs)
    missing = [c for own in configs.values() for c in own if not runs.holds(RESULTS / place(options.study, c), c)]
    corpus, path = grid.features_of(PROFILES[options.study], options.features)
    if corpus != "ravdess":
        raise ValueError("A study is trained on RAVDESS: make data")
    stores = {configuration.PROFILES[PROFILES[options.study]].features: path}
    for settings in {c.features for c in missing} - set(stores):
        recordings = corpora.find(corpus)
        spectral.extract(recordings, settings)
        stores[settings] = spectral.store_path(recordings, settings)
    grid.train(missing, stores, options.runs, options.jobs, options.budget, scheduler=options.scheduler)
    print(f"New: {', '.join(publish(options.study, configs, options.runs)) or 'none'}.")
    print(table(options.study).round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
