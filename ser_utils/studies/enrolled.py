"""Enrolled voices: the networks of unseen actors, each fitted to a test voice by unlabelled clips of it.

The clips are those of ``folds.enrolled``, the method is ``frontend.enrol``; nothing is trained.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_utils import EMOTIONS
from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.data import corpus
from ser_utils.data.folds import ENROLLED, enrolled, judged
from ser_utils.evaluation.metrics import PROBABILITIES, metrics
from ser_utils.features import spectral
from ser_utils.paths import RUNS
from ser_utils.training import fit, frontend, grid, runs


def run_configs(profile: str = "full", models: list[str] | None = None) -> list[RunConfig]:
    """The networks of unseen actors that judge enrolled voices, in the protocols ``actors_enrolled<n>``."""
    trained = configuration.run_configs(profile, "ravdess", models, ["actors"])
    return [dataclasses.replace(config, protocol=f"actors_enrolled{count}") for config in trained for count in ENROLLED]


def judge(config: RunConfig, store: spectral.FeatureStore, root: Path) -> None:
    """Write the run of an enrolled voice, by the weights of the run in ``root`` that does not know the voice.

    Its history and its cost are those of that run. FileNotFoundError where that has no weights.
    """
    trained = runs.Run(dataclasses.replace(config, protocol="actors").run_directory(root))
    index, rows = store.index, judged(store.index, config.protocol, config.fold)
    model, logmel = frontend.load(trained.dir), spectral.fit_length(store.logmel, store.lengths, config.frames)
    known, usual = enrolled(int(config.protocol.partition("_enrolled")[2]), index), model.get_weights()
    tables = {}
    for part in ("val", "test"):
        clips, told = rows[part], np.zeros((len(rows[part]), len(EMOTIONS)))
        for voice, mine in index.iloc[clips].groupby("actor").indices.items():
            model.set_weights(usual)
            frontend.enrol(model, logmel[known & (index.actor == voice)])
            told[mine] = fit.predict(model, logmel[clips[mine]], config.versions)
        tables[part] = runs.prediction_table(store.clips[clips], index.label.to_numpy()[clips], told, part)
    scores = {part: metrics(table.label, table[PROBABILITIES]) for part, table in tables.items()}
    runs.write(config.run_directory(root), trained.info | runs.provenance(config) | {"metrics": scores},
               trained.history, pd.concat(tables.values()))


@grid.command
def main(arguments: list[str] | None = None) -> None:
    """``python -m ser_utils.studies.enrolled``: judge enrolled voices by the networks of ``runs/``."""
    parser = argparse.ArgumentParser(prog="ser_utils.studies.enrolled", description=main.__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the trained runs lie (default: runs/)")
    options = parser.parse_args(arguments)
    waiting = [config for profile in ("full", "robust") for config in run_configs(profile)
               if runs.is_finished(dataclasses.replace(config, protocol="actors"), options.runs)
               and not runs.is_finished(config, options.runs)]
    store = spectral.extract(corpus.find("ravdess"), configuration.FeatureConfig())
    for config in tqdm(waiting, desc="Enrolled voices", unit="run"):
        judge(config, store, options.runs)


if __name__ == "__main__":
    sys.exit(main())
