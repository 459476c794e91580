"""Figures of studies: every trial of a search and what mattered, what each choice is worth, and more clips."""

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ser_utils.evaluation.metrics import PROTOCOL_TITLES
from ser_utils.paper import MODEL_NAMES
from ser_utils.plots.style import GREY, finish, model_color
from ser_utils.studies import ablation as studies
from ser_utils.studies import search

TITLES = {"learning_rate": "learning rate", "weight_decay": "weight decay", "batch_size": "batch size",
          "label_smoothing": "label smoothing", "dropout": "dropout", "ema": "weight average (decay)",
          "variation": "augmentation (factor)", "masks": "SpecAugment stripes"}
CLIPS_OF_A_VOICE = 60


def trials(table: pd.DataFrame, columns: int = 4) -> Figure:
    """Validation accuracy of every finished trial against each setting; the best trial is filled.

    The settings come in the order of their importance, the share of the variance of the accuracy that each
    explains. ``table`` is that of :func:`ser_utils.studies.search.table`.

    Raises
    ------
    ValueError
        Too few finished trials, see :func:`ser_utils.studies.search.importances`.
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


def _balanced(words: str, width: int) -> str:
    """Lines of at most ``width`` characters, as few as can be and about equally long."""
    fewest = len(textwrap.wrap(words, width))
    return next(text for n in range(len(words) // fewest, width + 1)
                if (text := textwrap.fill(words, n)).count("\n") < fewest)


def worth(table: pd.DataFrame, name: str, title: str) -> Figure:
    """What each choice of a study's baseline is worth: accuracy with it less that without, one colour a network.

    ``table`` is that of :func:`ser_utils.studies.ablation.table` for the study ``name``, one protocol; 95 % intervals.
    """
    table = table[table.variant != studies.BASELINE]
    table = table.sort_values("variant", key=lambda names: names.isin(studies.CHANCE), kind="stable")  # for scale: last
    changes = studies.study(name)
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

    ``table`` is that of :func:`ser_utils.studies.ablation.growth`. A whisker is the 95 % interval of the difference from all
    clips.
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
