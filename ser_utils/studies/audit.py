"""An audit of the paper's Table 2 by arithmetic alone: no recording, no network.

A share of n clips is a multiple of 1/n, so that not every printed percentage can be one (the GRIM test, Brown
and Heathers 2017, doi 10.1177/1948550616673876).
"""

import itertools
import math
from statistics import harmonic_mean

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from ser_utils.evaluation import statistics
from ser_utils.evaluation.metrics import METRICS
from ser_utils.paper import TABLE1, TABLE2

CLIPS = TABLE1["test"]
TEST_SIZES = (16, 32, 32, 32, 32, 32, 32, 32)  # neutral, then the seven others, if the paper's split was stratified
WHOLE = {"accuracy": CLIPS, "recall": math.lcm(*TEST_SIZES) * len(TEST_SIZES)}  # any multiple of 1 / WHOLE can be
ROUNDING = 0.05  # points: Table 2 is printed to one decimal
HITS = {model: round(figures[0] * CLIPS / 100) for model, figures in TABLE2.items()}  # nearest to the accuracies


def numerators(printed: float, denominator: int) -> list[int]:
    """The k for which k / denominator is ``printed`` per cent to one decimal, rounded up or down from a tie."""
    tenths = round(10 * printed)  # in whole numbers, so that no binary fraction spoils a tie
    return [k for k in range(denominator + 1) if abs(2000 * k - 2 * tenths * denominator) <= denominator]


def grim() -> pd.DataFrame:
    """All 28 figures of Table 2: can they come from one test of 240 clips?

    Columns: model, metric, printed (per cent), verdict ("possible", "impossible" or "not checkable"). The denominators
    of macro precision and F1 depend on how often each emotion is answered, which the paper does not state.
    """
    rows = []
    for model, figures in TABLE2.items():
        for metric, printed in zip(METRICS, figures, strict=True):
            verdict = "not checkable"
            if metric in WHOLE:
                verdict = "possible" if numerators(printed, WHOLE[metric]) else "impossible"
            rows.append({"model": model, "metric": metric, "printed": printed, "verdict": verdict})
    return pd.DataFrame(rows)


def averaging(most: int = 6) -> pd.DataFrame:
    """What a mean over ``runs`` tests of 240 clips each (folds, repetitions) would make possible.

    Columns: runs; step (between neighbouring mean accuracies, points); accuracies, recalls (so many of seven can be).
    """
    return pd.DataFrame([{"runs": runs, "step": 100 / (runs * CLIPS)} | {
        name: sum(bool(numerators(figures[METRICS.index(metric)], runs * WHOLE[metric])) for figures in TABLE2.values())
        for name, metric in (("accuracies", "accuracy"), ("recalls", "recall"))} for runs in range(1, most + 1)])


def f1_check() -> pd.DataFrame:
    """Table 2's F1 against the harmonic mean of its precision and recall, and against equation (10) as printed.

    Columns: model, printed (per cent), harmonic, consistent (rounding explains the difference of the two), and
    as_printed_equation (precision times recall over their sum, without the factor 2).
    """
    rows = []
    for model, (_, precision, recall, f1) in TABLE2.items():
        low, middle, high = (harmonic_mean((precision + d, recall + d)) for d in (-ROUNDING, 0, ROUNDING))
        rows.append({"model": model, "printed": f1, "harmonic": middle, "as_printed_equation": middle / 2,
                     "consistent": low - ROUNDING <= f1 <= high + ROUNDING})
    return pd.DataFrame(rows)


def intervals() -> pd.DataFrame:
    """Wilson's 95 % interval of each accuracy of Table 2: model, accuracy, low, high; per cent."""
    low, high = 100 * np.array(proportion_confint(np.array(list(HITS.values())), CLIPS, method="wilson"))
    return pd.DataFrame({"model": list(TABLE2), "accuracy": [figures[0] for figures in TABLE2.values()],
                         "low": low, "high": high})


def mcnemar_bounds(hits_a: int, hits_b: int, clips: int) -> tuple[float, float]:
    """Smallest and largest p of the exact McNemar test, whatever clips the two networks share."""
    fewer, more = sorted((hits_a, hits_b))
    if more == fewer:
        return 1.0, 1.0
    most = min(fewer, clips - more)  # clips that the worse one alone may have right
    return tuple(stats.binomtest(more - fewer + alone, more - fewer + 2 * alone).pvalue for alone in (0, most))


def pairs() -> pd.DataFrame:
    """Which of the 21 pairs of Table 2 differ by more than chance?

    Columns: better, worse, points (difference); p_least and p_most (:func:`mcnemar_bounds`: the paper does not say
    which clips each got right), p_unpaired (two-proportion z test, as if each had other clips), holm_unpaired and
    holm_least (Holm's correction). Clearest difference first.
    """
    rows = []
    for pair in itertools.combinations(TABLE2, 2):
        better, worse = sorted(pair, key=lambda model: -TABLE2[model][0])
        counts = [HITS[better], HITS[worse]]
        rows.append((better, worse, TABLE2[better][0] - TABLE2[worse][0], *mcnemar_bounds(*counts, CLIPS),
                     proportions_ztest(counts, [CLIPS, CLIPS])[1]))
    table = pd.DataFrame(rows, columns=["better", "worse", "points", "p_least", "p_most", "p_unpaired"])
    for kind in ("unpaired", "least"):
        table[f"holm_{kind}"] = statistics.holm(table[f"p_{kind}"])
    return table.sort_values("points", ascending=False, kind="stable", ignore_index=True)
