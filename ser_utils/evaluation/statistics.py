"""Intervals and tests: bootstrap over recordings, voices, seeds; McNemar, Wilcoxon, Friedman and Nemenyi, Holm."""

import itertools

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ser_utils import EMOTIONS
from ser_utils.data.folds import twin_key
from ser_utils.evaluation.metrics import ResultsError, clip_facts, confusion, in_order, metrics_from_confusion

RESAMPLES = 2000  # of each bootstrap
FEW = 10  # groups; an interval over fewer is never narrower than one over clips, for so few may agree by luck


def units(clips: pd.Series, protocol: str) -> pd.Series:
    """The groups that a bootstrap draws: voices under ``actors``, else the two takes of a recording, near-copies."""
    return clips.str[-2:] if protocol.startswith("actors") else clips.map(twin_key)


def bootstrap_metrics(labels, predictions, groups=None, folds=None, seeds=None) -> dict[str, np.ndarray]:
    """All four metrics of ``RESAMPLES`` bootstrap corpora, a dict of arrays (RESAMPLES,).

    Clips are drawn with replacement or, given ``groups`` (actors, or names), whole groups, as matrices of confusion.
    Where ``seeds`` of one network answered, these are drawn, too, in each of the ``folds``: one less than were trained,
    for the variance of their mean without bias. ValueError as of `confusion`.
    """
    rng, classes = np.random.default_rng(0), len(EMOTIONS)
    confusion(labels, predictions)
    names, group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES).astype(float)
    cell = np.asarray(labels) * classes + np.asarray(predictions)
    folds, seeds = (np.zeros(len(cell), int) if given is None else np.asarray(given) for given in (folds, seeds))
    drawn = np.zeros((RESAMPLES, classes * classes))
    for fold in np.unique(folds):
        trained = np.unique(seeds[folds == fold])
        draws = max(len(trained) - 1, 1)
        shares = rng.multinomial(draws, np.full(len(trained), 1 / len(trained)), size=RESAMPLES) / draws
        for training, share in zip(trained, shares.T, strict=True):
            mine = (folds == fold) & (seeds == training)
            own, at = np.unique(group[mine], return_inverse=True)
            matrices = np.bincount(at * classes**2 + cell[mine], minlength=len(own) * classes**2)
            drawn += share[:, None] * (weights[:, own] @ matrices.reshape(len(own), -1))
    return metrics_from_confusion(drawn.reshape(-1, classes, classes))


def bootstrap_intervals(labels, predictions, groups=None, clips=None, folds=None, seeds=None
                        ) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) of accuracy and recall, 0-1: over ``groups`` (see `units` and ``FEW``), or clips.

    With ``seeds`` the ``clips`` are named, since each has several rows.
    """
    clips = np.arange(len(labels)) if clips is None else clips
    count = 0 if groups is None else len(np.unique(groups))
    ways = [groups] * (count > 1) + [clips] * (count < FEW)  # a toy corpus has one voice
    drawn = [(bootstrap_metrics(labels, predictions, way, folds, seeds), len(np.unique(way))) for way in ways]
    ends = {name: np.array([expanded_percentiles(samples[name], size) for samples, size in drawn])
            for name in ("accuracy", "recall")}
    return {name: (found[:, 0].min(), found[:, 1].max()) for name, found in ends.items()}


def bootstrap_difference(correct_a, correct_b, groups=None) -> tuple[float, float]:
    """95 % bootstrap interval (low, high) of the difference of two networks' accuracies (a - b) on the same clips.

    ``correct_a`` and ``correct_b`` (n,) say who was right, ``groups`` (n,) what is drawn in the place of clips (see
    :func:`units` and ``FEW``). Raises ValueError if the lengths differ.
    """
    difference = np.subtract(correct_a, correct_b, dtype=float)
    _, unit = np.unique(np.arange(len(difference)) if groups is None else groups, return_inverse=True)
    clips, sums = np.bincount(unit), np.bincount(unit, weights=difference)
    count = len(clips)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = expanded_percentiles((drawn @ sums) / (drawn @ clips), count)
    if groups is not None and count < FEW:
        over_clips = bootstrap_difference(difference, 0 * difference)
        return min(low, over_clips[0]), max(high, over_clips[1])
    return low, high


def in_points(a, b, groups=None) -> tuple[float, str]:
    """The mean of a - b (fractions, one a clip) in points, and its interval of :func:`bootstrap_difference` as text."""
    low, high = bootstrap_difference(a, b, groups)
    return 100 * float(np.mean(np.subtract(a, b))), f"{100 * low:+.1f} to {100 * high:+.1f}"


def expanded_percentiles(samples, units: int) -> tuple[float, float]:
    """95 % interval of bootstrap samples with tails widened for the number of drawn ``units`` (Hesterberg 2015)."""
    tail = 0.025
    if units > 1:
        tail = stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf(tail, units - 1))
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def mcnemar(correct_a, correct_b) -> dict:
    """Exact McNemar test of who was right by clip (n,): only_a, only_b (clips one alone got right), two-sided p."""
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": float(p)}


def wilcoxon_actors(correct_a, correct_b, actors) -> dict:
    """Wilcoxon's signed-rank test of two networks' accuracies by actor: difference (mean), actors, two-sided p."""
    frame = pd.DataFrame({"a": np.asarray(correct_a, float), "b": np.asarray(correct_b, float), "actor": actors})
    means = frame.groupby("actor")[["a", "b"]].mean()
    difference = (means.a - means.b).round(12)  # equal shares must be exact ties
    p = stats.wilcoxon(difference).pvalue if (difference != 0).any() else 1.0
    return {"difference": float(difference.mean()), "actors": len(difference), "p": float(p)}


def shown_p(p: float) -> str:
    """A p value as the tables show it: three decimals, or that it is smaller."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def holm(pvalues) -> np.ndarray:
    """Holm's (1979) step-down correction: adjusted p values in the given order, at most 1."""
    pvalues = np.asarray(pvalues, dtype=float)
    return multipletests(pvalues, method="holm")[1] if len(pvalues) else pvalues


def _correct(predictions: pd.DataFrame) -> pd.DataFrame:
    """Right (True) or wrong by clip (rows) and model (columns); only clips that every model has."""
    protocols = predictions.protocol.unique()
    if len(protocols) != 1 or predictions.duplicated(["model", "clip"]).any():
        raise ResultsError(f"Networks are compared within one protocol, each clip once; got protocols "
                           f"{list(protocols)}. Choose one with runs.predictions(root, protocol=...).")
    right = predictions.assign(right=(predictions.label == predictions.prediction).astype(float))
    table = right.pivot(index="clip", columns="model", values="right").dropna()
    if table.empty:
        raise ResultsError("The models have no clip in common; finish the same folds for each.")
    return table[in_order(table.columns)].astype(bool)


def compare_all(predictions: pd.DataFrame, against: str | None = None) -> pd.DataFrame:
    """Every pair of models on the clips both have: exact McNemar and Wilcoxon over actors, Holm-corrected.

    ``predictions`` as from ``runs.predictions``, one protocol, one seed; ``against``: only the pairs of this model.
    Columns: model_a, model_b, clips, accuracy_a, accuracy_b, difference (a - b), only_a, only_b, p_mcnemar, p_wilcoxon,
    holm_mcnemar, holm_wilcoxon and significant (both corrected p values below 0.05). Raises ResultsError if protocols
    are mixed, or the models have no clip in common.
    """
    rows, models = [], in_order(predictions.model)
    pairs = [(against, model) for model in models if model != against] if against else itertools.combinations(models, 2)
    for a, b in pairs:
        right = _correct(predictions[predictions.model.isin([a, b])])
        clips, voices = mcnemar(right[a], right[b]), wilcoxon_actors(right[a], right[b], clip_facts(right.index).actor)
        rows.append({"model_a": a, "model_b": b, "clips": len(right), "accuracy_a": right[a].mean(),
                     "accuracy_b": right[b].mean(), "difference": right[a].mean() - right[b].mean(),
                     "only_a": clips["only_a"], "only_b": clips["only_b"], "p_mcnemar": clips["p"],
                     "p_wilcoxon": voices["p"]})
    table = pd.DataFrame(rows)
    for test in ("mcnemar", "wilcoxon"):
        table[f"holm_{test}"] = holm(table[f"p_{test}"])
    return table.assign(significant=(table.holm_mcnemar < 0.05) & (table.holm_wilcoxon < 0.05))


def critical_difference(scores: pd.DataFrame) -> dict:
    """Friedman's test and Nemenyi's critical difference at 0.05 (Demsar 2006) of models over blocks.

    ``scores`` has a row a block (an actor) and a column a model; higher is better. Returns ranks (mean ranks, best
    first), difference (the critical one), pairs (Nemenyi's p values), statistic and p of Friedman's test, blocks.
    ValueError below three models.
    """
    scores = scores.astype(float).round(12)  # equal shares must be exact ties
    blocks, models = scores.shape
    tied = scores.eq(scores.iloc[:, 0], axis=0).all(axis=None)  # everywhere: nothing to test
    statistic, p = (0.0, 1.0) if tied else stats.friedmanchisquare(*scores.to_numpy().T)
    quantile = stats.studentized_range.ppf(0.95, models, np.inf) / np.sqrt(2)
    return {"ranks": scores.rank(axis=1, ascending=False).mean().sort_values(),
            "difference": float(quantile * np.sqrt(models * (models + 1) / (6 * blocks))),
            "pairs": scikit_posthocs.posthoc_nemenyi_friedman(scores),
            "statistic": float(statistic), "p": float(p), "blocks": blocks}
