"""Figures of the ablation: what each choice is worth, and what more clips bring."""

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from ser_utils.evaluation.metrics import PROTOCOL_TITLES
from ser_utils.paper import MODEL_NAMES
from ser_utils.plots.style import GREY, finish, model_color
from ser_utils.studies import ablation

CLIPS_OF_A_VOICE = 60


def _balanced(words: str, width: int) -> str:
    """Lines of at most ``width`` characters, as few as can be and about equally long."""
    fewest = len(textwrap.wrap(words, width))
    return next(text for n in range(len(words) // fewest, width + 1)
                if (text := textwrap.fill(words, n)).count("\n") < fewest)


def worth(table: pd.DataFrame, name: str, title: str) -> Figure:
    """What each choice of a study's baseline is worth: accuracy with it less that without, one colour a network.

    ``table`` is that of :func:`ser_utils.studies.ablation.table` for the study ``name``, one protocol; 95 % intervals.
    """
    table = table.dropna(subset=["difference"])
    table = table.sort_values("variant", key=lambda names: names.isin(ablation.CHANCE), kind="stable")  # at the end
    changes = ablation.study(name)
    what = [changes[row.model][row.variant].what for row in table.itertuples()]
    choices = [part for _, variant in table.assign(what=what).groupby("variant", sort=False)
               for _, part in variant.groupby("what", sort=False)]  # networks may have made opposite choices
    gap = 0.8  # between two choices, in rows
    height = len(table) + gap * len(choices)
    fig, axis = plt.subplots(figsize=(9.5, 1.5 + 0.22 * height), layout="constrained")
    axis.axvline(0, color=GREY, linewidth=1)
    ticks, y = {}, 0.0
    for part in choices:
        ticks[y + (len(part) - 1) / 2] = _balanced(part.what.iloc[0], 46)
        for row in part.itertuples():
            axis.hlines(y, -row.high, -row.low, color=model_color(row.model), linewidth=2)
            axis.plot(-row.difference, y, "o", color=model_color(row.model), markersize=6, markeredgecolor="white")
            y += 1
        y += gap
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set(ylim=(height - 0.9, -0.9), xlabel="Worth in points of validation accuracy, with 95 % interval")
    axis.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=model_color(model), marker="o", markersize=6, label=MODEL_NAMES[model])
               for model in table.model.unique()]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    fig.suptitle(title)
    return finish(fig)


def growth(table: pd.DataFrame) -> Figure:
    """Validation accuracy by the number of training clips, a panel for each protocol, a line for each network.

    ``table`` is that of :func:`ser_utils.studies.ablation.growth`. A whisker is the 95 % interval of the difference
    from all clips.
    """
    protocols = list(table.protocol.unique())
    fig, axes = plt.subplots(1, len(protocols), figsize=(1.5 + 4 * len(protocols), 4.2), sharey=True, squeeze=False,
                             layout="constrained")
    for axis, protocol in zip(axes.flat, protocols, strict=True):
        part = table[table.protocol == protocol]
        for model, line in part.groupby("model", sort=False):
            axis.plot(line.clips, line.accuracy, "o-", color=model_color(model), markeredgecolor="white", markersize=7)
            axis.vlines(line.clips, line.low, line.high, color=model_color(model), linewidth=1.2)
        axis.set_xscale("log", base=2)
        numbers = sorted(part.clips.unique())
        voices = protocol == "actors"
        axis.set_xticks(numbers, [f"{n}\n{n // CLIPS_OF_A_VOICE} voices" if voices else f"{n}" for n in numbers])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.margins(x=0.12)
        axis.set(title=PROTOCOL_TITLES[protocol], xlabel="training clips (each step doubles them)")
    axes[0, 0].set_ylabel("validation accuracy (%)")
    models = table.model.unique()
    fig.legend(handles=[Line2D([], [], color=model_color(model), marker="o", label=MODEL_NAMES[model])
                        for model in models], loc="outside lower center", ncols=len(models))
    fig.suptitle("What more recordings bring")
    return finish(fig)
