"""The figure of the ladder of shortcuts."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ser_utils import EMOTIONS
from ser_utils.paper import MODEL_NAMES, TABLE2
from ser_utils.plots.style import GREY, finish, model_color

CHANCE = 100 / len(EMOTIONS)


def ladder(table: pd.DataFrame, title: str | None = None) -> Figure:
    """From honest to flattering: accuracy with its interval for each shortcut, one colour a network.

    ``table`` is that of :func:`ser_utils.studies.leakage.scores`, the rungs to be drawn. The band spans the accuracies
    of the paper's Table 2.
    """
    rungs, models = list(dict.fromkeys(table.shortcut)), list(dict.fromkeys(table.model))
    titles = dict(zip(table.shortcut, table.title, strict=True))
    fig, axis = plt.subplots(figsize=(9.5, 1.5 + 0.62 * len(rungs)), layout="constrained")
    paper = [figures[0] for figures in TABLE2.values()]
    axis.axvspan(min(paper), max(paper), color="#EFE3D0", linewidth=0)
    axis.axvline(CHANCE, color=GREY, linewidth=1, linestyle=":")
    step = 0.5 / len(models)
    for row in table.itertuples():
        y = rungs.index(row.shortcut) + step * (models.index(row.model) - (len(models) - 1) / 2)
        color = model_color(row.model)
        axis.hlines(y, row.low, row.high, color=color, linewidth=2.5)
        axis.plot(row.accuracy, y, "o", color=color, markersize=8, markeredgecolor="white")
        axis.text(row.high + 0.8, y, f"{row.accuracy:.1f}", va="center", fontsize=9)
    axis.set_yticks(range(len(rungs)), [titles[rung] for rung in rungs])
    axis.set(xlim=(0, 104), ylim=(len(rungs) - 0.4, -0.6), xlabel="Test accuracy (%) with 95 % interval")
    axis.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=model_color(m), marker="o", markersize=8, label=MODEL_NAMES[m]) for m in models]
    handles += [Patch(color="#EFE3D0", label="the paper's seven accuracies"),
                Line2D([], [], color=GREY, linestyle=":", label="chance")]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    if title:
        fig.suptitle(title)
    return finish(fig)
