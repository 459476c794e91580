"""What the claims of several pages compute, each once: Table 2 and the predictions of the published runs."""

import functools

import pandas as pd

from ser_utils import FOLDS
from ser_utils.data import folds, names
from ser_utils.evaluation import metrics, statistics, tables
from ser_utils.paths import RESULTS
from ser_utils.training import runs

WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
table2 = functools.cache(lambda: tables.table2(others=True))
twins = functools.cache(lambda: tables.by_twin().set_index("model"))
everything = functools.cache(lambda: runs.predictions(RESULTS, subset=None, seeds=True))


def predictions(protocol=None, model=None, subset="test", seeds=False) -> pd.DataFrame:
    """As ``runs.predictions`` of the published results, whose files are read once."""
    found = everything()
    keep = found.subset == subset
    for name, value in (("protocol", protocol), ("model", model), ("seed", None if seeds else 0)):
        if value is not None:
            keep &= found[name] == value
    return found[keep].reset_index(drop=True)


def best(protocol: str) -> tuple[str, float, float]:
    """The most accurate network of a protocol, its accuracy, and that of the seven averaged."""
    rows = table2().query("protocol == @protocol").set_index("model")
    row = rows.loc[rows.accuracy[rows.group == "network"].idxmax()]
    return row["name"], row.accuracy, rows.accuracy["ensemble"]


@functools.cache
def lost(before: str, after: str) -> tuple[float, float, float]:
    """Points that the seven networks lose on average from one protocol to another, and the interval over actors."""
    right = [(part.label == part.prediction).groupby(part["clip"]).mean() for part in map(predictions, (before, after))]
    ends = statistics.bootstrap_difference(*right, right[0].index.str[-2:])
    return 100 * (right[0] - right[1]).mean(), *(100 * end for end in ends)


def refits(protocol: str = "random") -> pd.DataFrame:
    """The rows of networks that learned from validation clips, too; gain: points above the same network without."""
    every = table2().query("protocol == @protocol")
    alone = every[every.group == "network"].set_index("model").accuracy
    rows = every[every.model.isin(alone.index + "_refit")]
    return rows.assign(gain=rows.accuracy - rows.model.str.removesuffix("_refit").map(alone))


def network(model: str) -> pd.DataFrame:
    return table2().query("model == @model and folds > 0").set_index("protocol")


@functools.cache
def enrolment():
    """Right (1) or wrong by clip and network, and the seven averaged: without a clip of the voice, and with 20."""
    after = predictions("actors_enrolled20")
    before = predictions("actors").pipe(lambda table: table[table["clip"].isin(after["clip"])])
    return [pd.concat([part, metrics.ensemble(part)]).assign(right=lambda t: t.label == t.prediction)
            .pivot(index="clip", columns="model", values="right").astype(float) for part in (before, after)]


def voices(*protocols: str) -> tuple[int, ...]:
    """Voices in training on each fold of these protocols."""
    index = names.index_of(names.speech_names())
    found = [{index.actor.iloc[folds.split(index, protocol, fold)["train"]].nunique() for fold in range(FOLDS)}
             for protocol in protocols]
    return tuple(count for (count,) in found)
