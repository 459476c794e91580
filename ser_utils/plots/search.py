"""The figure of the search for a recipe: which settings mattered, and every trial."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ser_utils import search
from ser_utils.plots.style import GREY, finish

TITLES = {"learning_rate": "learning rate", "weight_decay": "weight decay", "batch_size": "batch size",
          "label_smoothing": "label smoothing", "dropout": "dropout", "ema": "weight average (decay)",
          "variation": "augmentation (factor)", "masks": "SpecAugment stripes"}


def trials(table: pd.DataFrame, columns: int = 4) -> Figure:
    """Validation accuracy of every finished trial against each setting; the best trial is filled.

    The settings come in the order of their importance, the share of the variance of the accuracy that each
    explains. ``table`` is that of :func:`ser_utils.search.table`.

    Raises
    ------
    ValueError
        Too few finished trials, see :func:`ser_utils.search.importances`.
    """
    importance = search.importances(table)
    finished = table[table.state == "complete"]
    best = finished.loc[finished.value.idxmax()]
    rows = -(-len(importance) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.5 * rows), sharey=True, squeeze=False,
                             layout="constrained")
    for ax, (name, share) in zip(axes.flat, importance.items(), strict=False):
        known = search.SPACE[name]
        position = {value: place for place, value in enumerate(known.choices)} if isinstance(
            known, CategoricalDistribution) else None
        x = finished[name].map(position) if position else finished[name]
        ax.plot(x, 100 * finished.value, "o", mfc="none", mec=GREY, ms=5)
        ax.plot(position[best[name]] if position else best[name], 100 * best.value, "o", color="#D55E00", ms=8)
        if position:
            ax.set_xticks(list(position.values()), [f"{value:g}" for value in position])
            ax.margins(x=0.2)
        elif isinstance(known, FloatDistribution) and known.log:
            ax.set_xscale("log")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_formatter("{x:g}")
        elif isinstance(known, IntDistribution):
            ax.set_xticks(range(known.low, known.high + 1))
        ax.set_title(f"{TITLES[name]}: {100 * share:.0f} %", fontsize=10)
    for ax in axes.flat[len(importance):]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("validation accuracy (%)")
    fig.suptitle(f"{len(finished)} recipes tried to the end; share of the variance each setting explains")
    return finish(fig)
