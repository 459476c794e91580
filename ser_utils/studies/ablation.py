"""Named studies: what one change of the settings is worth, measured on validation clips; no test clip is read."""

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.data import corpus as corpora
from ser_utils.evaluation import metrics, statistics
from ser_utils.features import spectral
from ser_utils.paper import MODEL_NAMES, TABLE1
from ser_utils.paths import RESULTS
from ser_utils.training import grid, runs

BASELINE, PROFILE = "baseline", "full"
SHARES = {"half": 0.5, "quarter": 0.25}  # of the training clips, in the study ``clips``
CHANCE = ("again",)  # variants that choose nothing: they show how far two trainings of one recipe differ


class Change(NamedTuple):
    """What the baseline has in a variant's place, and the settings that the variant changes, see :func:`changed`."""

    what: str
    settings: dict


_RECIPE = {  # minus one ingredient, then with something else in its place
    "smoothing": Change("smoothed labels (0.1), not plain ones", {"label_smoothing": 0.0}),
    "plain": Change("augmentation in training and at test time, not the clips as they are",
                    {"augment": None, "versions": 1}),
    "speed": Change("clips sped up and slowed down", {"augment": {"stretch": 0.0}}),
    "warp": Change("a warped frequency axis", {"augment": {"warp": 0.0}}),
    "noise": Change("noise in a quarter of the clips", {"augment": {"noise_probability": 0.0}}),
    "stripes": Change("blanked stripes (SpecAugment)", {"augment": {"frequency_masks": 0, "time_masks": 0}}),
    "single": Change("test-time augmentation (mean over 27 variants)", {"versions": 1}),
    "mels": Change("80 mel bands of 50 ms windows, not 128 of 100 ms", {"features": {"n_fft": 1600, "n_mels": 128}}),
    "level": Change("every clip as loud and as bright as recorded, not at random",
                    {"augment": {"gain_db": 6.0, "tilt_db": 6.0}}),
    "treble": Change("sound up to 8 kHz, not up to 16 kHz", {"features": {
        "sample_rate": 32_000, "n_fft": 1600, "hop_length": 640, "n_mels": 96, "fmax": 16_000.0}}),
    "deltas": Change("the spectrogram alone, without its deltas", {"channels": ("static", "delta", "delta2")}),
    "centred": Change("the spectrogram with its clip's mean, not without", {"channels": ("centred",)}),
    "epochs": Change("240 epochs, not 80", {"epochs": 80, "patience": 80}),
    "batch": Change("32 clips to a batch, not 16", {"batch_size": 16}),
    "rate": Change("a learning rate of 0.001, not half of it", {"learning_rate": 5e-4}),
    "decay": Change("a weight decay of 0.02, not 1", {"weight_decay": 1.0}),
    "average": Change("the weights themselves, not their running average", {"ema": 0.995}),
    "mixup": Change("each clip alone, not mixed with another", {"mixup": 0.2}),
    "strong": Change("mild augmentation, not twice as much", {"augment": {
        "stretch": 0.2, "warp": 0.08, "noise_probability": 0.5, "frequency_masks": 2, "time_masks": 2}}),
    "again": Change("for scale: nothing changed, trained once more", {})}
_OF_CONVOLUTIONS = _RECIPE | {
    "wide": Change("a part of the published channels, not all of them", {"options": {"width": 1.0}})}
_OF_RESNET = _OF_CONVOLUTIONS | {
    "searched": Change("the recipe of all networks, not the best of the search for ResNet", {
        "learning_rate": 8.07e-4, "weight_decay": 0.107, "batch_size": 16, "label_smoothing": 0.2, "ema": 0.99,
        "options": {"dropout": 0.0}, "augment": {"stretch": 0.125, "shift": 10, "warp": 0.05, "time_masks": 2,
                                                 "noise_probability": 0.3125, "frequency_masks": 2}})}
_OF_LSTM = _RECIPE | {"front": Change("two convolutions over frames and bands in front, not along time alone",
                                      {"options": {"front_2d": 0}})}
_OF_TRANSFORMER = _OF_LSTM | {  # where its recipe is another
    "rate": Change("a learning rate of 0.002, not half of it", {"learning_rate": 1e-3}),
    "average": Change("the running average of the weights, not the weights themselves", {"ema": 0.0}),
    "dropout": Change("dropout of 0.1, not 0.2 and layers skipped now and then",
                      {"options": {"dropout": 0.2, "stochastic_depth": 0.1}})}

STUDIES: dict[str, dict[str, dict[str, Change]]] = {  # study -> network -> variant -> change
    "recipe": dict.fromkeys(MODEL_NAMES, _OF_CONVOLUTIONS) | {  # one ingredient at a time
        "resnet": _OF_RESNET, "lstm": _OF_LSTM, "transformer": _OF_TRANSFORMER},
    "clips": dict.fromkeys(MODEL_NAMES, {  # fewer of them in as many more epochs, so as many steps
        variant: Change(f"all training clips, not a {variant} of them", {
            "share": share, "epochs": round(240 / share), "patience": round(240 / share),
            "warmup_epochs": round(5 / share)}) for variant, share in SHARES.items()})}
START = {"actors": {"augment": {"warp": 0.04, "gain_db": 0.0, "tilt_db": 0.0}}}  # since then changed, partly by them


def variants_of(name: str) -> list[str]:
    """The variants of a study, the baseline first."""
    return [BASELINE, *dict.fromkeys(variant for changes in STUDIES[name].values() for variant in changes)]


def changed(config: RunConfig, settings: dict) -> RunConfig:
    """A configuration with some settings changed; within options, augmentation and features the others are kept."""
    def new(old, value):
        if not isinstance(value, dict):
            return value
        return old | value if isinstance(old, dict) else dataclasses.replace(old, **value)

    return dataclasses.replace(config, **{name: new(getattr(config, name), value) for name, value in settings.items()})


def run_configs(name: str, models=None, variants=None, protocols=("actors",), folds=(0,)) -> dict[str, list[RunConfig]]:
    """The runs of a study on RAVDESS: variant -> configurations, the baseline first; lists narrow it down.

    The baseline is the profile's own run unless ``START`` says otherwise. Raises ValueError for what is unknown.
    """
    changes, (_, *known), base = STUDIES[name], variants_of(name), []
    if unknown := set(variants or ()).difference(known):
        raise ValueError(f"The study {name} has no variant {min(unknown)!r}; it has {', '.join(known)}.")
    for c in configuration.run_configs(PROFILE, "ravdess", models, protocols, folds):
        start = changed(c, START.get(c.protocol, {}))
        base.append(c if start.hash == c.hash else changed(start, {"variant": f"studies/{name}/{BASELINE}"}))
    configs = {variant: [changed(c, changes[c.model][variant].settings | {"variant": f"studies/{name}/{variant}"})
                         for c in base if variant in changes[c.model]] for variant in variants or known}
    return {BASELINE: base} | {variant: own for variant, own in configs.items() if own}


def place(name: str, config: RunConfig) -> str:
    """Where in ``results/`` a run of a study lies: ``studies/<study>/<variant>/<protocol>/<model>/fold<k>``."""
    return f"{config.variant or f'studies/{name}/{BASELINE}'}/{config.place}"


def published(name: str) -> dict[str, dict[str, Path]]:
    """The published runs of a study: variant -> ``<protocol>/<model>/fold<k>`` -> folder."""
    return {variant: {"/".join(path.parts[-3:]): path for path in found} for variant in variants_of(name)
            if (found := runs.find(RESULTS / "studies" / name / variant))}


def publish(name: str, configs: dict[str, list[RunConfig]], root: Path) -> list[str]:
    """Copy a study's finished runs to their :func:`place` in the results; returns the places of new ones.

    A baseline that is a published run of the profile is copied from there. Raises as ``runs.publish``.
    """
    for c in configs[BASELINE]:
        if not c.variant and runs.holds(RESULTS / c.place, c):
            runs.copy(RESULTS / c.place, RESULTS / place(name, c))
    return runs.publish(itertools.chain(*configs.values()), root, RESULTS, lambda c: place(name, c))


def table(name: str, subset: str = "val") -> pd.DataFrame:
    """What the published variants of a study reach on validation clips (or "test"), beside the baseline on the same.

    A row a protocol, network and variant, the baseline first, on the folds that some variant has finished (all its own
    while none has): protocol, model, variant, folds (of a variant: finished by both), clips, accuracy and uar (means
    over folds, per cent), difference (from the baseline's accuracy, points) with low and high (95 %, paired bootstrap
    over ``statistics.units``) and p (exact McNemar test). As processors round differently, a run is compared with
    ``again`` where this ran on its kind of processor and the baseline did not. A ResultsError names a damaged run.
    """
    rows, key = [], ["protocol", "model", "fold", "clip"]
    device = {(variant, *path.parts[-3:]): runs.read_info(path)["device"]
              for variant, found in published(name).items() for path in found.values()}
    closer = {run for run, own in device.items()
              if device.get((BASELINE, *run[1:])) != own == device.get((*CHANCE, *run[1:])) and run[0] not in CHANCE}
    answers = pd.concat([runs.predictions(RESULTS / "studies" / name / variant, subset=subset).assign(variant=variant)
                         for variant in variants_of(name)]).infer_objects()
    answers["right"] = answers.prediction == answers.label
    answers["beside"] = pd.Series([CHANCE[0] if (*run, f"fold{fold}") in closer else BASELINE for *run, fold in
                                   answers[["variant", *key[:3]]].itertuples(index=False)], answers.index, str)
    base = answers.set_index(["variant", *key]).right.rename_axis(["beside", *key]).rename("base")
    answers = answers.join(base, on=["beside", *key], how="inner", validate="many_to_one").reset_index(drop=True)
    for (protocol, model), mine in answers.groupby(["protocol", "model"], sort=False):
        tried = mine.fold[mine.variant != BASELINE]
        for variant, part in mine[mine.fold.isin(tried) | tried.empty].groupby("variant", sort=False):
            scores = pd.DataFrame([metrics.metrics(of.label, of.prediction) for _, of in part.groupby("fold")])
            row = {"protocol": protocol, "model": model, "variant": variant, "folds": len(scores), "clips": len(part),
                   "accuracy": 100 * scores.accuracy.mean(), "uar": 100 * scores.recall.mean()}
            if variant != BASELINE:
                groups = statistics.units(part["clip"], protocol)
                low, high = statistics.bootstrap_difference(part.right, part.base, groups)
                row |= {"difference": 100 * (part.right.mean() - part.base.mean()), "low": 100 * low,
                        "high": 100 * high, "p": statistics.mcnemar(part.right, part.base)["p"]}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*key[:2], "variant", "folds", "clips", "accuracy", "uar", "difference", "low",
                                       "high", "p"])


def growth() -> pd.DataFrame:
    """What more recordings bring, by the study ``clips``.

    Columns: protocol, model, clips (in training), folds, accuracy (on validation clips, per cent), low and high (the
    95 % interval of the difference from all clips, put around the accuracy), gain (points over half as many clips).
    """
    found = table("clips")
    found["clips"] = (TABLE1["train"] * found.variant.map({BASELINE: 1.0} | SHARES)).astype(int)
    same = found.folds == found.groupby(["protocol", "model"]).folds.transform("max")  # the folds of all clips
    found = found[same].sort_values("clips", kind="stable")
    networks = found.groupby(["protocol", "model"])
    whole = networks.accuracy.transform("last")
    gain = networks.accuracy.diff().where(2 * networks["clips"].shift() == found["clips"])
    found = found.assign(low=whole + found.low, high=whole + found.high, gain=gain)
    return found.loc[networks["clips"].transform("size") > 1, ["protocol", "model", "clips", "folds", "accuracy", "low",
                                                              "high", "gain"]].reset_index(drop=True)


@grid.command
def main(arguments: list[str] | None = None) -> None:
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
    stores = {configuration.PROFILES[PROFILE].features: grid.features_of(PROFILE, options.features)[1]}
    for settings in {c.features for c in missing} - set(stores):
        recordings = corpora.find("ravdess")
        spectral.extract(recordings, settings)
        stores[settings] = spectral.store_path(recordings, settings)
    grid.train(missing, stores, options.runs, options.jobs, options.budget, scheduler=options.scheduler)
    print(f"New: {', '.join(publish(options.study, configs, options.runs)) or 'none'}.")
    print(table(options.study).round(3).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
