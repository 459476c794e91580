"""Named studies: what one change of the settings is worth, measured on validation clips.

A study takes the runs of a profile as its baseline and changes one thing at a time. ``python -m
ser_utils.studies.ablation canonical`` trains what is missing and prints the table; ``--publish`` copies the finished
runs to ``results/studies/``, apart from the main results. No table of a study reads a test clip, so that a
choice made from it leaves the test untouched; only of variants that choose nothing (``CHANCE``) are test clips read,
to tell how much chance there is in a published figure.
"""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import FOLDS, PROTOCOLS
from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import statistics
from ser_utils.paper import MODEL_NAMES, TABLE1, TEN_FOLDS
from ser_utils.paths import RESULTS, RUNS
from ser_utils.training import grid, runs

BASELINE = "baseline"
PROTOCOL, FOLD = ("actors",), (0,)  # where a study is run unless told otherwise
AGAIN = "again"
CHANCE = {  # variants that choose nothing: two trainings of one recipe
    "seed": "another seed", AGAIN: "the same seed on another processor"}


@dataclasses.dataclass(frozen=True)
class Change:
    """One variant of a network's runs.

    ``settings`` are those of ``RunConfig``; under "options", "augment" and "features" only the keys that change are
    named (``"augment": None`` switches augmentation off). ``what`` says what the baseline has in their place, ``why``
    the reason for it. ``profiles`` are those in which it changes something.
    """

    settings: dict
    what: str
    why: str
    profiles: tuple[str, ...] = tuple(configuration.PROFILES)


def _options(what: str, why: str, profiles: tuple[str, ...] = Change.profiles, **options) -> Change:
    """A change of options of the network's builder."""
    return Change({"options": options}, what, why, profiles)


_REDUCED = ("smoke", "quick")  # where strides depart from the published ones
_FULL = ("full",)
_SEED = Change({"seed": 1}, "for scale: nothing but the seed of the random numbers",
               "a difference no larger than this one may be chance")
_AGAIN = Change({}, "for scale: nothing, the same training once more on another processor",
                "processors round differently, and 240 epochs make another training of it", _FULL)
_BANDS = _options("three frequency bands apart up to the classifier, not one mean over all frequencies",
                  "the height of a feature in a spectrogram carries meaning", bands=1)
_AVERAGE = _options("attention over time, not the plain mean",
                    "some moments of a sentence say more than others", pooling="average")
_FLAT = _options("bands, attention over time and one dense layer, not flattening and two layers of 4,096 units",
                 "those two layers would hold most of the parameters, for 960 clips",
                 pooling="flatten", hidden=(4096, 4096))
_VGG = {
    "norm": _options("batch normalisation after every convolution, not none",
                     "without it so deep a stack hardly trains from 960 clips", batch_norm=False),
    "head": _FLAT,
    "seed": _SEED,
}

_RECIPE = {
    # With the recipe minus one ingredient ...
    "smoothing": Change({"label_smoothing": 0.0}, "smoothed labels (0.1), not plain ones",
                        "no clip is a pure emotion, and no verdict should be certain", _FULL),
    "plain": Change({"augment": None, "versions": 1}, "clips augmented in training and when judged, not as they are",
                    "960 clips are soon learnt by heart", _FULL),
    "speed": Change({"augment": {"stretch": 0.0}}, "clips sped up and slowed down", "nobody speaks at one speed",
                    _FULL),
    "warp": Change({"augment": {"warp": 0.0}}, "a warped frequency axis", "other vocal tracts, other voices", _FULL),
    "noise": Change({"augment": {"noise_probability": 0.0}}, "noise in a quarter of the clips",
                    "recordings elsewhere have some", _FULL),
    "stripes": Change({"augment": {"frequency_masks": 0, "time_masks": 0}}, "blanked stripes (SpecAugment)",
                      "no single band or moment should decide", _FULL),
    "single": Change({"versions": 1}, "a clip judged by 27 versions of it, not as it is",
                     "what a network makes of one version is partly chance", _FULL),
    # ... and with something else in its place.
    "mels": Change({"features": {"n_fft": 1600, "n_mels": 128}}, "80 mel bands of 50 ms windows, not 128 of 100 ms",
                   "longer windows tell a voice's harmonics apart, and blur its changes", _FULL),
    "level": Change({"augment": {"gain_db": 6.0, "tilt_db": 6.0}},
                    "every clip as loud and as bright as recorded, not at random",
                    "in one studio, loudness tells emotions apart", _FULL),
    "treble": Change({"features": {"sample_rate": 32_000, "n_fft": 1600, "hop_length": 640, "n_mels": 96,
                                   "fmax": 16_000.0}},
                     "sound up to 8 kHz, not up to 16 kHz", "little of a voice lies above", _FULL),
    "deltas": Change({"channels": ("static", "delta", "delta2")}, "the spectrogram alone, without its deltas",
                     "a network finds changes in time by itself", _FULL),
    "centred": Change({"channels": ("centred",)}, "the spectrogram with its clip's mean, not without",
                      "level and long-term spectrum carry emotion, not only the voice", _FULL),
    "epochs": Change({"epochs": 80, "patience": 80}, "240 epochs, not 80",
                     "validation still rises when the training clips are nearly learnt", _FULL),
    "batch": Change({"batch_size": 16}, "32 clips to a batch, not 16", "fewer, steadier steps", _FULL),
    "rate": Change({"learning_rate": 5e-4}, "a learning rate of 0.001, not half of it", "it gets further",
                   _FULL),
    "decay": Change({"weight_decay": 1.0}, "a weight decay of 0.02, not 1",
                    "the weights are hardly held back; varied clips do that", _FULL),
    "average": Change({"ema": 0.995}, "the weights themselves, not their running average", "one thing less", _FULL),
    "mixup": Change({"mixup": 0.2}, "each clip alone, not mixed with another", "two voices at once are no voice",
                    _FULL),
    "strong": Change({"augment": {"stretch": 0.2, "warp": 0.08, "noise_probability": 0.5, "frequency_masks": 2,
                                  "time_masks": 2}}, "mild augmentation, not twice as much",
                     "more of it takes longer to learn", _FULL),
    "seed": dataclasses.replace(_SEED, profiles=_FULL),
    AGAIN: _AGAIN,
}
_RECIPE_OF_CONVOLUTIONS = _RECIPE | {
    "wide": Change({"options": {"width": 1.0}}, "a part of the published channels, not all of them",
                   "all of them take four to sixteen times the products", _FULL),
}
_SEARCHED = {
    "searched": Change({"learning_rate": 8.07e-4, "weight_decay": 0.107, "batch_size": 16, "label_smoothing": 0.2,
                        "ema": 0.99, "options": {"dropout": 0.0},
                        "augment": {"stretch": 0.125, "shift": 10, "warp": 0.05, "noise_probability": 0.3125,
                                    "frequency_masks": 2, "time_masks": 2}},
                       "the recipe of all networks, not the best of the search for ResNet",
                       "the search trained for a quarter of the epochs only", _FULL),
}
_LEVEL_VARIED = {  # networks not trained anew since the level is as recorded
    "level": Change({"augment": {"gain_db": 0.0, "tilt_db": 0.0}}, "another level and colour for every clip",
                    "elsewhere the loudness of a recording is an accident", _FULL),
}
_RECIPE_OF_SEQUENCES = _RECIPE | {
    "front": _options("two convolutions over frames and bands in front, not along time alone",
                      "a pattern a little higher or lower is the same pattern", _FULL, front_2d=0),
}
_RECIPE_OF_TRANSFORMER = _RECIPE_OF_SEQUENCES | {  # where its recipe is another
    "rate": Change({"learning_rate": 1e-3}, "a learning rate of 0.002, not half of it", "it gets further",
                   _FULL),
    "average": Change({"ema": 0.0}, "the running average of the weights, not the weights themselves",
                      "the average wanders less from epoch to epoch", _FULL),
    "dropout": Change({"options": {"dropout": 0.2, "stochastic_depth": 0.1}},
                      "dropout of 0.1, not 0.2 and layers skipped now and then",
                      "so small a network has little to spare", _FULL),
    "large": Change({"options": {"dim": 192, "depth": 4}}, "2 encoder layers of 96 features, not 4 of 192",
                    "seven times the parameters take longer to train", _FULL),
}


def _fewer(words: str, share: float) -> Change:
    """A part of the training clips, in as many more epochs: all else, the number of steps too, stays."""
    epochs = round(configuration.PROFILES["full"].common["epochs"] / share)
    warmup = round(RunConfig.warmup_epochs / share)
    return Change({"share": share, "epochs": epochs, "patience": epochs, "warmup_epochs": warmup},
                  f"all training clips, not {words} of them",
                  "what the last recordings brought tells what the next might", _FULL)


# study -> network -> variant -> change
STUDIES: dict[str, dict[str, dict[str, Change]]] = {
    # Each variant takes one difference of a tailored network back to the network as published.
    "canonical": {
        "alexnet": {
            "stem": _options("conv1 steps by 2, not by 4", "a spectrogram is small beside a photograph", _REDUCED,
                             stem_stride=4),
            "norm": _options("batch normalisation, not local response normalisation",
                             "it allows a higher learning rate and has displaced the older one", batch_norm=False),
            "head": _FLAT,
            "seed": _SEED,
        },
        "resnet": {
            "stem": _options("conv1 alone lowers the resolution, without a pooling behind it",
                             "one reduction is enough for an input this small", _REDUCED,
                             stem_stride=2, stem_pool=True),
            "bands": _BANDS,
            "average": _AVERAGE,
            "skip": _options("kept from the original: x is added to F(x)", "it is the idea of the network", skip=False),
            "seed": _SEED,
        },
        "inceptionnet": {
            "stem": _options("one pooling in the stem, not two", "a spectrogram is small beside a photograph",
                             _REDUCED, stem_pool=True),
            "modules": Change({"options": {"modules": (3, 4, 2)}}, "in this profile fewer modules on each grid",
                              "a short training has little time", profiles=("quick",)),
            "bands": _BANDS,
            "average": _AVERAGE,
            "seed": _SEED,
        },
        "vgg16": _VGG,
        "vgg19": _VGG,
        "lstm": {
            "front": _options("two convolutions along time before the LSTM, not the bare frames",
                              "they gather a frame's neighbours at little cost", front=0),
            "stack": _options("several frames to a step, not one", "a loop that is as many times shorter", stack=1),
            "direction": _options("both directions, not one", "the whole clip is there before it is judged",
                                  bidirectional=False),
            "average": _AVERAGE,
            "seed": _SEED,
        },
        "transformer": {
            "stem": _options("convolutions along time before the encoder, not one dense layer",
                             "they tell neighbours from distant frames, which attention must learn", stem=False),
            "norm": _options("normalisation before each part of a layer, not after it",
                             "it trains steadily without a long warm-up", pre_norm=False),
            "positions": _options("kept from the original: sines and cosines of the frame number",
                                  "attention alone does not know the order of the frames", positions=False),
            "average": _AVERAGE,
            "seed": _SEED,
        },
    },
    # The recipe of the full profile, one ingredient at a time.
    "recipe": dict.fromkeys(MODEL_NAMES, _RECIPE_OF_CONVOLUTIONS) | {
        "resnet": _RECIPE_OF_CONVOLUTIONS | _SEARCHED,
        "inceptionnet": _RECIPE_OF_CONVOLUTIONS | _LEVEL_VARIED, "vgg19": _RECIPE_OF_CONVOLUTIONS | _LEVEL_VARIED,
        "lstm": _RECIPE_OF_SEQUENCES,
        "transformer": _RECIPE_OF_TRANSFORMER},
    # What the number of recordings is worth.
    "clips": {model: {"half": _fewer("half", 0.5), "quarter": _fewer("a quarter", 0.25)} for model in MODEL_NAMES},
    # The published trunk, started from photographs or at random; never among the runs trained from scratch.
    "imagenet": {
        model: {
            weights: Change({"pool": 1, "learning_rate": 1e-4, "options": {
                "weights": weights, "width": 1.0} | options}, what, "other data can teach what 960 clips can't")
            for weights, what in (("random", "the tailored network, not the published layers"),
                                  ("imagenet", "the tailored network from scratch, not the published layers with "
                                               "their ImageNet weights"))
        } for model, options in (
            ("resnet", {"depth": 50, "stem_stride": 2, "stem_pool": False}),
            ("inceptionnet", {"modules": (3, 4, 2), "stem_pool": False}),
            ("vgg16", {"stem_stride": 1}), ("vgg19", {"stem_stride": 1}))
    },
}


def changed(config: RunConfig, settings: dict) -> RunConfig:
    """A configuration with some settings changed; within options, augmentation and features the others are kept.

    Raises
    ------
    ValueError
        ``RunConfig`` has no such setting.
    """
    known = [field.name for field in dataclasses.fields(RunConfig)]
    for name in settings:
        if name not in known:
            raise ValueError(f"A run has no setting {name!r}; it has {', '.join(known)}.")
    settings = dict(settings)
    if "options" in settings:
        settings["options"] = config.options | settings["options"]
    for name in ("augment", "features"):
        if settings.get(name):
            settings[name] = dataclasses.replace(getattr(config, name), **settings[name])
    return dataclasses.replace(config, **settings)


def study(name: str) -> dict[str, dict[str, Change]]:
    """The changes of a study: network -> variant -> change; a ValueError lists the studies there are."""
    if name not in STUDIES:
        raise ValueError(f"Unknown study {name!r}; choose from {', '.join(STUDIES)}.")
    return STUDIES[name]


def run_configs(name: str, profile: str, corpus: str, models=None, variants=None, protocols=PROTOCOL,
                folds=FOLD) -> dict[str, list[RunConfig]]:
    """The runs of a study: variant -> configurations, the baseline first.

    A variant that changes nothing in a profile is left out there.

    Parameters
    ----------
    profile, corpus : whose runs are the baseline, see ``config.run_configs``.
    models, variants : lists that narrow the study down; None takes all.

    Raises
    ------
    ValueError
        An unknown study, profile, network, variant, protocol or fold; the message lists what there is.
    """
    changes = study(name)
    known = list(dict.fromkeys(variant for own in changes.values() for variant in own))
    for what, given, there in (("network", models, list(changes)), ("variant", variants, known)):
        for value in given or ():
            if value not in there:
                raise ValueError(f"The study {name} has no {what} {value!r}; it has {', '.join(there)}.")
    base = configuration.run_configs(profile, corpus, list(models or changes), list(protocols), list(folds))
    configs = {BASELINE: base}
    for variant in variants or known:
        configs[variant] = [changed(c, changes[c.model][variant].settings | {"variant": _folder(name, variant)})
                            for c in base
                            if variant in changes[c.model] and profile in changes[c.model][variant].profiles]
    return {variant: found for variant, found in configs.items() if found}


def _weights_serve(base: RunConfig, other: RunConfig, runs: Path) -> bool:
    """Whether a run has, or will have, the weights of another one: both differ in the versions judged alone."""
    without = runs.is_finished(base, runs) and not (base.run_directory(runs) / "model.keras").exists()
    alone = other.versions != base.versions and dataclasses.replace(other, versions=base.versions).hash == base.hash
    return alone and not without


def _folder(name: str, variant: str) -> str:
    """Where a variant's runs lie among all; the baseline's are the profile's own, trained once for both."""
    return "" if variant == BASELINE else f"studies/{name}/{variant}"


def published(name: str, results: Path = RESULTS) -> dict[str, Path]:
    """variant -> folder of its published runs."""
    return {variant: results / "studies" / name / variant for variant in _variants(name)}


def _variants(name: str) -> list[str]:
    return [BASELINE, *dict.fromkeys(variant for changes in study(name).values() for variant in changes)]


def finished(name: str, configs: dict[str, list[RunConfig]], runs: Path = RUNS,
             results: Path = RESULTS) -> dict[str, dict[str, Path]]:
    """variant -> place -> folder of a finished run: trained here or published.

    ``configs`` are those of :func:`run_configs`; runs of other settings don't count.
    """
    found = {}
    for variant, wanted in configs.items():
        for c in wanted:
            places = [c.run_directory(runs), published(name, results)[variant] / c.place]
            if variant == BASELINE:
                places.append(results / c.place)
            there = [place for place in places if runs.holds(place, c)]
            if there:
                found.setdefault(variant, {})[c.place] = there[0]
    return found


def table(name: str, results: Path | dict[str, dict[str, Path]] = RESULTS) -> pd.DataFrame:
    """What the variants of a study reach on validation clips, beside the baseline on the same clips.

    Parameters
    ----------
    results : the folder of the published results, or variant -> place -> folder of runs (:func:`finished`).

    Returns
    -------
    A row a protocol, network and variant that is finished, the baseline first, on the folds that some variant has
    finished (all its own while none has): protocol, model, variant, folds (of a variant: finished by both), clips,
    accuracy and uar (means over folds, per cent), difference (accuracy of the variant less that of the baseline,
    points) with low and high (95 %, paired bootstrap over clips, under ``actors`` over voices), p (exact McNemar
    test), same_device (the folds whose two trainings ran on one kind of processor), profile, corpus. A fold of which
    the baseline was trained on another processor is compared with ``again``, the baseline trained once more, if that
    was trained on the variant's. The interval holds the chance in the validation clips, not that in the training.

    Raises
    ------
    ResultsError
        A run's files are damaged, or a variant differs from its baseline in more than the study says.
    """
    runs = _places(name, results)
    rows = []
    for protocol in PROTOCOLS:
        for model, changes in study(name).items():
            base = _of(runs, BASELINE, protocol, model)
            again = _of(runs, AGAIN, protocol, model)
            compared = {place for variant in changes for place in runs.get(variant, ())}
            shown = {place: path for place, path in base.items() if place in compared} or base
            if base:
                rows.append(_row(protocol, model, BASELINE, shown))
            for variant, change in changes.items():
                both = {place: path for place, path in runs.get(variant, {}).items() if place in base}
                if both:
                    for place, path in both.items():
                        _check_only_change(base[place], path, change)
                    beside = base if variant == AGAIN else {
                        place: _nearest(path, base[place], again.get(place)) for place, path in both.items()}
                    alike = sum(_device(path) == _device(beside[place]) for place, path in both.items())
                    rows.append(_row(protocol, model, variant, both) | _against(protocol, both, beside)
                                | {"same_device": alike})
    columns = ["protocol", "model", "variant", "folds", "clips", "accuracy", "uar", "difference", "low", "high", "p",
               "same_device", "profile", "corpus"]
    return pd.DataFrame(rows, columns=columns)


def retrained(results: Path | dict[str, dict[str, Path]] = RESULTS) -> pd.DataFrame:
    """What another training of the recipe reaches on the test clips beside the published one.

    With another seed, or once more on another processor: neither is a choice of the recipe, so these are the variants
    whose test clips may be read. ``results`` are those of :func:`table`.

    Returns
    -------
    A row a protocol, network and variant of ``CHANCE`` that is finished: protocol, model, variant, folds (finished by
    both), published and other (test accuracy, means over folds, per cent), difference (of the other training, points)
    with low and high (95 %, as in :func:`table`).
    """
    runs, rows = _places("recipe", results), []
    for variant in CHANCE:
        for protocol in PROTOCOLS:
            for model in study("recipe"):
                if other := _another_training(runs, variant, protocol, model):
                    base = {place: runs[BASELINE][place] for place in other}
                    rows.append({"protocol": protocol, "model": model, "variant": variant, "folds": len(other),
                                 "published": _row(protocol, model, BASELINE, base, "test")["accuracy"],
                                 "other": _row(protocol, model, variant, other, "test")["accuracy"],
                                 **_against(protocol, other, base, "test")})
    return pd.DataFrame(rows, columns=["protocol", "model", "variant", "folds", "published", "other", "difference",
                                       "low", "high"])


def describe_retrained(found: pd.DataFrame) -> list[str]:
    """What :func:`retrained` says, in one sentence a variant (Markdown)."""
    return [f"**Test clips with {CHANCE[variant]}**, read for no choice: " + "; ".join(
        f"{MODEL_NAMES[row.model]}, *{row.protocol}*, {row.folds} of {FOLDS} folds: {row.other:.1f} % in place of "
        f"{row.published:.1f} ({_signed(row.difference)}, {_signed(row.low)} to {_signed(row.high)})"
        for row in part.itertuples()) + "." for variant, part in found.groupby("variant", sort=False)]


def averaged(results: Path | dict[str, dict[str, Path]] = RESULTS, subset: str = "test") -> pd.DataFrame:
    """What the mean over several trainings of the recipe recognises: of all trainings that differ by chance alone.

    None is chosen: the published training takes part and every variant of ``CHANCE`` that has finished as many folds.
    ``results`` are those of :func:`table`; ``subset`` is "test" or, for what a choice is to rest on, "val".

    Returns
    -------
    A row a protocol and network that was trained more than once: protocol, model, trainings, folds (finished by all),
    alone (accuracy of one training, mean over all) and accuracy (of their mean probabilities), both means over folds,
    per cent.
    """
    runs, rows = _places("recipe", results), []
    for protocol in PROTOCOLS:
        for model in study("recipe"):
            others = {variant: _another_training(runs, variant, protocol, model) for variant in CHANCE}
            most = max(map(len, others.values()))
            others = {variant: paths for variant, paths in others.items() if len(paths) == most > 0}
            if not (places := set.intersection(*map(set, others.values())) if others else set()):
                continue
            trainings = pd.concat(
                _predictions(paths[place], subset).assign(model=variant, protocol=protocol)
                for variant, paths in {BASELINE: runs[BASELINE], **others}.items() for place in sorted(places))
            alone, mean = (100 * (found.prediction == found.label).groupby(found.fold).mean().mean()
                           for found in (trainings, evaluation.ensemble(trainings)))
            rows.append({"protocol": protocol, "model": model, "trainings": 1 + len(others), "folds": len(places),
                         "alone": alone, "accuracy": mean})
    return pd.DataFrame(rows, columns=["protocol", "model", "trainings", "folds", "alone", "accuracy"])


def describe_averaged(found: pd.DataFrame) -> list[str]:
    """What :func:`averaged` says, in one sentence (Markdown), or in none."""
    said = [f"{MODEL_NAMES[row.model]}, *{row.protocol}*, {row.trainings} trainings, {row.folds} of {FOLDS} folds: "
            f"{row.accuracy:.1f} % in place of {row.alone:.1f} ({_signed(row.accuracy - row.alone)})"
            for row in found.itertuples()]
    return [f"**Several trainings of one network averaged**, on test clips: {'; '.join(said)}."] if said else []


def _places(name: str, results: Path | dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """Variant -> place -> folder of the runs of a study: as given, or of the published results in a folder."""
    return results if isinstance(results, dict) else {
        variant: {"/".join(path.parts[-3:]): path for path in runs.find(folder)}
        for variant, folder in published(name, results).items()}


def _of(runs: dict[str, dict[str, Path]], variant: str, protocol: str, model: str) -> dict[str, Path]:
    return {place: path for place, path in runs.get(variant, {}).items() if place.startswith(f"{protocol}/{model}/")}


def _another_training(runs: dict[str, dict[str, Path]], variant: str, protocol: str, model: str) -> dict[str, Path]:
    """Place -> folder of a variant of ``CHANCE`` beside its baseline, found to differ in nothing else."""
    base = _of(runs, BASELINE, protocol, model)
    other = {place: path for place, path in _of(runs, variant, protocol, model).items() if place in base}
    for place, path in other.items():
        _check_only_change(base[place], path, study("recipe")[model][variant])
    return other


def _predictions(directory: Path, subset: str) -> pd.DataFrame:
    predictions = runs.read_predictions(directory)
    return predictions[predictions.subset == subset].assign(fold=directory.name)


def _info(directory: Path) -> dict:
    return json.loads((directory / "run.json").read_text())


def _device(directory: Path) -> str:
    return _info(directory)["device"]


def _nearest(run: Path, base: Path, again: Path | None) -> Path:
    """Of two runs of the baseline, the one that was trained on the processor of another run; else the first."""
    serves = again and _device(base) != _device(run) == _device(again)
    return again if serves else base


def _check_only_change(base: Path, other: Path, change: Change) -> None:
    """Two runs must differ in the change alone; quick and full, real and synthetic never meet."""
    expected = changed(configuration.from_dict(_info(base)["config"]), change.settings)
    if configuration.from_dict(_info(other)["config"]).hash != expected.hash:
        raise evaluation.ResultsError(f"{other} differs from the baseline {base} in more than its change "
                                      f"{change.settings}. Train both with the same settings (and publish them).")


def _row(protocol: str, model: str, variant: str, directories: dict, subset: str = "val") -> dict:
    scores = []
    for path in directories.values():
        part = _predictions(path, subset)
        scores.append(evaluation.metrics(part.label, part.prediction) | {"clips": len(part)})
    scores, info = pd.DataFrame(scores), _info(path)
    return {"protocol": protocol, "model": model, "variant": variant, "folds": len(scores),
            "clips": int(scores.clips.sum()), "accuracy": 100 * scores.accuracy.mean(),
            "uar": 100 * scores.recall.mean(), "profile": info["profile"], "corpus": info["corpus"]}


def _against(protocol: str, directories: dict, base: dict, subset: str = "val") -> dict:
    """The difference in accuracy from the baseline on the same clips, with its interval and test."""
    mine, theirs = (pd.concat(_predictions(paths[place], subset) for place in directories)
                    for paths in (directories, base))
    both = mine.merge(theirs, on=["fold", "clip"], suffixes=("", "_base"), validate="one_to_one")
    right, right_base = both.prediction == both.label, both.prediction_base == both.label
    voices = evaluation.clip_facts(both["clip"]).actor if protocol == "actors" else None
    low, high = statistics.bootstrap_difference(right, right_base, voices)
    return {"difference": 100 * (right.mean() - right_base.mean()), "low": 100 * low, "high": 100 * high,
            "p": statistics.mcnemar(right, right_base)["p"]}


def differences(model: str, results: Path | dict[str, dict[str, Path]] = RESULTS, name: str = "canonical",
                protocol: str = "actors") -> tuple[pd.DataFrame, str]:
    """What differs in a network from the network as published, why, and what the difference is worth.

    Returns
    -------
    A table of text: "what differs", "why", "worth (points)" (validation accuracy with the difference less that
    without), "95 % interval"; "not measured" where there is no run. And a sentence on the runs it comes from.
    """
    measured = table(name, results)
    measured = measured[(measured.model == model) & (measured.protocol == protocol)].set_index("variant")
    rows = []
    for variant, change in study(name)[model].items():
        row = {"what differs": change.what, "why": change.why, "worth (points)": "not measured", "95 % interval": ""}
        if variant in measured.index:
            found = measured.loc[variant]
            row["worth (points)"] = _signed(-found.difference)
            row["95 % interval"] = f"{_signed(-found.high)} to {_signed(-found.low)}"
        rows.append(row)
    if BASELINE not in measured.index:
        return pd.DataFrame(rows), "no run is published"
    base = measured.loc[BASELINE]
    units = "voices" if protocol == "actors" else "clips"
    return pd.DataFrame(rows), (f"{base.clips} validation clips of the protocol {protocol}, profile {base.profile}, "
                                f"one training each, intervals over {units}; the tailored network reaches "
                                f"{base.accuracy:.1f} %")


def growth(results: Path | dict[str, dict[str, Path]] = RESULTS) -> pd.DataFrame:
    """What more recordings bring, by the study ``clips``: the validation accuracy by the number of training clips.

    ``results`` are those of :func:`table`.

    Returns
    -------
    A row a protocol, network and number of clips, ascending: protocol, model, clips (in training), folds, accuracy
    (per cent), low and high (the 95 % interval of the difference from all clips, put around the accuracy; NaN for
    all clips themselves), gain (points more than with half as many clips; NaN where these were not tried).
    """
    changes, own, found = study("clips"), ["protocol", "model"], table("clips", results)
    rows = found.assign(share=[1.0 if row.variant == BASELINE else changes[row.model][row.variant].settings["share"]
                               for row in found.itertuples()], line=found.groupby(own, sort=False).ngroup())
    rows = rows.sort_values(["line", "share"], ignore_index=True)
    rows = rows[rows.folds == rows.groupby(own).folds.transform("max")]  # on the same folds as all clips
    rows = rows[rows.groupby(own).share.transform("size") > 1]
    halves = rows.assign(share=2 * rows.share).set_index([*own, "share"]).accuracy
    before = halves.reindex(pd.MultiIndex.from_frame(rows[[*own, "share"]])).to_numpy()
    all_clips = rows.accuracy - rows.difference
    return pd.DataFrame({
        "protocol": rows.protocol, "model": rows.model, "clips": (TABLE1["train"] * rows.share).round().astype(int),
        "folds": rows.folds, "accuracy": rows.accuracy, "low": all_clips + rows.low, "high": all_clips + rows.high,
        "gain": rows.accuracy - before}).reset_index(drop=True)


def describe_growth(grown: pd.DataFrame) -> list[str]:
    """What :func:`growth` says, in sentences (Markdown): one paragraph a protocol and network."""
    said = []
    for (protocol, model), line in grown.dropna(subset=["gain"]).groupby(["protocol", "model"], sort=False):
        steps = "; ".join(f"from {row.clips // 2} to {row.clips} clips {_signed(row.gain)} points"
                          for row in line.itertuples())
        last = line.iloc[-1]
        twice, ten, less = f"{2 * last.clips:,}", "", ""
        if protocol == "random":
            reached = last.accuracy + last.gain * np.log2(TEN_FOLDS / last.clips)
            ten = f" and {reached:.1f} % with {TEN_FOLDS:,}, as many as ten folds train on"
        if len(line) > 1 and 0 < last.gain < (before := line.gain.iloc[-2]):
            less = ("; if it fell short of the last as that did of the one before, "
                    f"{last.accuracy + last.gain ** 2 / before:.1f} % with {twice}")
        said.append(f"**{evaluation.PROTOCOL_TITLES[protocol]}, {MODEL_NAMES[model]}**, {last.folds} of {FOLDS} folds: "
                    f"{steps}. With {last.clips} clips {last.accuracy:.1f} % of the validation clips are recognised; "
                    f"if the next doubling brought as much as the last, it would be {last.accuracy + last.gain:.1f} % "
                    f"with {twice}{ten}{less}.")
    return said


def points(row) -> str:
    """What a choice is worth, in words: network, protocol and points, from a row of :func:`table` as a named tuple."""
    return (f"({MODEL_NAMES[row.model]}, *{row.protocol}*) {_signed(-row.difference)} ({_signed(-row.high)} to "
            f"{_signed(-row.low)})")


def describe_worth(found: pd.DataFrame) -> list[str]:
    """What the :func:`table` of the study ``recipe`` says of the recipe's choices, in sentences (Markdown).

    The worth of a choice is the accuracy with it less that with its alternative. It is beyond chance where the 95 %
    interval leaves out zero and McNemar's p is below 0.05. A part of the channels (*wide*) is always said. The
    variants of ``CHANCE`` are no choices, and not counted: what they changed is said at the end, for scale.
    """
    measured = found.dropna(subset=["difference"]).sort_values("difference")
    tried = measured[~measured.variant.isin(CHANCE)]
    if tried.empty:
        return []
    surely = tried.p < 0.05
    worth, harm = tried[surely & (tried.high < 0)], tried[surely & (tried.low > 0)][::-1]
    perhaps = tried[(tried.difference > 0) & ~tried.index.isin(harm.index)][::-1]
    changes = study("recipe")
    wide = tried[tried.variant == "wide"]
    alike = (tried.same_device == tried.folds).sum()

    def listed(rows):
        return "; ".join(f"{changes[row.model][row.variant].what} {points(row)}" for row in rows.itertuples()) or "none"

    said = [f"**Worth something beyond chance**, {len(worth)} of {len(tried)} choices measured, in points of "
            f"validation accuracy: {listed(worth)}.",
            f"**Worse than the alternative beyond chance**: {listed(harm)}.",
            f"**Worse, but perhaps by chance**, {len(perhaps)}, the three largest: {listed(perhaps[:3])}."]
    if len(wide):
        said.append("**A part of the published channels**, not all of them: "
                    f"{'; '.join(map(points, wide.itertuples()))}.")
    for variant, words in CHANCE.items():
        scale = measured[measured.variant == variant]
        if len(scale):
            said.append(f"**For scale**, by how much the recipe's training is above one with {words}: "
                        f"{'; '.join(map(points, scale.itertuples()))}. A choice worth no more may owe it to that.")
    said.append(f"**Processors** round differently: {alike} of the {len(tried)} comparisons are between trainings on "
                "one kind of processor.")
    return said


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def publish(name: str, configs: dict[str, list[RunConfig]], runs: Path = RUNS, results: Path = RESULTS) -> list[str]:
    """Copy a study's finished runs to ``results/studies/<study>/<variant>/``; returns the names of new ones.

    A variant counts only beside its baseline, finished here or published. A published run of a variant that was
    trained with other settings than the baseline beside it is removed.

    Raises
    ------
    PublishError
        The runs are of the synthetic corpus or of the profile ``smoke``.
    ResultsError
        A run's files contradict each other.
    """
    from ser_utils.report import publish as publishing

    found = finished(name, configs, runs, results)
    new = []
    for variant, wanted in configs.items():
        for c in wanted:
            if c.corpus != "ravdess" or c.profile == "smoke":
                raise publishing.PublishError(f"{c.name} is a {c.profile} run on {c.corpus}: a study is published "
                                              "from quick or full runs on ravdess.")
            if c.place not in found.get(BASELINE, ()):
                continue
            target = published(name, results)[variant] / c.place
            source = found.get(variant, {}).get(c.place)
            if source:
                runs.check(source)
                if runs.copy(source, target):
                    new.append(f"{variant}/{c.place}")
            elif target.exists() and _info(target)["config_hash"] != c.hash:
                shutil.rmtree(target)
    return new


def text(found: pd.DataFrame) -> str:
    """A study's :func:`table`, ready to print; what was trained in reduced size says so."""
    if found.empty:
        return "No run of this study is finished."
    shown = found.assign(model=found.model.map(MODEL_NAMES))
    for column in ("accuracy", "uar"):
        shown[column] = shown[column].map("{:.1f}".format)
    for column in ("difference", "low", "high"):
        shown[column] = shown[column].map(lambda value: "" if np.isnan(value) else _signed(value))
    for column, form in (("p", "{:.3f}"), ("same_device", "{:.0f}")):
        shown[column] = shown[column].map(lambda value, form=form: "" if np.isnan(value) else form.format(value))
    return shown.to_string(index=False) + (
        "\nValidation clips, per cent; differences from the baseline in points, in so many folds from one trained on "
        "the same processor.")


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.studies.ablation STUDY``: train what is missing of a study and print its table.

    What is published is not trained again, but for a baseline of which a variant needs the weights.
    """
    parser = argparse.ArgumentParser(prog="ser_utils.studies.ablation", description=main.__doc__)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--profile", default="quick", choices=list(configuration.PROFILES))
    parser.add_argument("--models", nargs="*", help="only these networks")
    parser.add_argument("--variants", nargs="*", help="only these variants")
    parser.add_argument("--protocols", nargs="*", default=PROTOCOL, help="default: actors")
    parser.add_argument("--folds", nargs="*", type=int, default=FOLD, help="default: 0")
    parser.add_argument("--budget", type=float, help="train no longer than this many seconds")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core)")
    parser.add_argument("--publish", action="store_true", help="afterwards copy finished runs to results/studies/")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where they are published (default: results/)")
    options = parser.parse_args(arguments)

    from ser_utils.data import corpus
    from ser_utils.features import spectral as features
    from ser_utils.training import fit as training

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trainings are stopped, too
    failed = False
    try:
        found = corpus.for_profile(options.profile)
        configs = run_configs(options.study, options.profile, found.kind, options.models, options.variants,
                              options.protocols, options.folds)
        base = {c.place: c for c in configs[BASELINE]}
        there = finished(options.study, configs, options.runs, options.results)
        missing = [c for variant, wanted in configs.items() for c in wanted if c.place not in there.get(variant, ())]
        judged = [c for c in missing if c.variant and _weights_serve(base[c.place], c, options.runs)]
        wanted = {base[c.place].name for c in judged} | {c.name for c in missing if c not in judged}
        for settings in dict.fromkeys(c.features for c in missing):
            features.extract(found, settings)
        try:
            grid.train([c for variant in configs.values() for c in variant if c.name in wanted], found, options.runs,
                       options.jobs, options.budget)
        except grid.GridError as error:  # what is finished is shown all the same
            print(error, file=sys.stderr)
            failed = True
        for c in judged:
            if runs.is_finished(base[c.place], options.runs) and not runs.is_finished(c, options.runs):
                training.judge_anew(runs.Run(base[c.place].run_directory(options.runs)), c, found,
                                    features.extract(found, c.features), options.runs)
        print(text(table(options.study, finished(options.study, configs, options.runs, options.results))))
        if options.publish:
            new = publish(options.study, configs, options.runs, options.results)
            place = options.results / "studies" / options.study
            print(f"{len(new)} runs are new in {place}: {', '.join(new) or 'none'}.")
    except KeyboardInterrupt:
        print("\nStopped. Finished runs are kept; a run that was under way goes on from its last epoch.")
        return 130
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
