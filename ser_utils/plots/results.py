"""Figures of finished runs. One function a figure; each returns a finished matplotlib Figure.

``predictions`` are tables of :func:`ser_utils.training.runs.predictions`, ``table`` of
:func:`ser_utils.evaluation.tables.table2`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ser_utils import EMOTIONS, FOLDS
from ser_utils.evaluation.metrics import PROTOCOL_TITLES, model_name
from ser_utils.paper import HUMAN
from ser_utils.plots.style import GREY, INK, finish, model_color, text_color

CHANCE = 100 / len(EMOTIONS)
LABEL_WIDTH = 15  # points of accuracy: the room that a number needs at the left end of its bar
PEOPLE = {"color": INK, "linewidth": 1, "linestyle": "--"}
PEOPLE_LABEL = f"people, {HUMAN['overall']} % of {HUMAN['options']} options"


def table2_bars(table: pd.DataFrame) -> Figure:
    """Table 2 as a picture: our accuracy by protocol with its interval, beside the paper's.

    Diamonds are the paper's figures, bars ours with 95 % intervals; a model without a finished run says so. The title
    of a panel says how many folds are finished, or a note beside each bar where they differ. Lines part the networks
    from the ensembles and references below them.
    """
    protocols = list(dict.fromkeys(table.protocol))
    groups = dict(zip(table.model, table.group, strict=True))
    names = table.groupby("model").name.first()
    order = {group: place for place, group in enumerate(("network", "averaged", "ensemble", "reference"))}
    models = sorted(groups, key=lambda model: order[groups[model]])[::-1]
    places = {model: place for place, model in enumerate(models)}
    wide = len(protocols) > 1
    size = (3.1 * len(protocols) + 1 if wide else 6.5, 0.4 * len(models) + (1.4 if wide else 1.9))
    fig, axes = plt.subplots(1, len(protocols), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axis, protocol in zip(axes[0], protocols, strict=True):
        rows = table[table.protocol == protocol]
        finished = rows.folds[rows.folds > 0].unique()
        title = PROTOCOL_TITLES.get(protocol, protocol)
        if len(finished) == 1 and finished[0] < FOLDS:
            title += f", {finished[0]} of {FOLDS} folds"
        axis.axvline(CHANCE, color=GREY, linewidth=1, linestyle=":", zorder=1)
        axis.axvline(HUMAN["overall"], zorder=1, **PEOPLE)
        for place in range(1, len(models)):
            if groups[models[place]] != groups[models[place - 1]]:
                axis.axhline(place - 0.5, color=GREY, linewidth=0.8)
        for row in rows.itertuples():
            place = places[row.model]
            if row.folds == 0:
                axis.text(CHANCE + 2, place, "not run", va="center", color=GREY, fontstyle="italic", fontsize=9)
            else:
                _draw_accuracy(axis, place, row, "" if row.name == names[row.model] else f" ({row.name})")
                if len(finished) > 1:
                    axis.annotate(f"{row.folds}/{FOLDS} folds", (1, place), xycoords=("axes fraction", "data"),
                                  xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5, color=GREY)
            if not np.isnan(row.paper_accuracy):
                axis.plot(row.paper_accuracy, place, "D", color="white", markeredgecolor=INK, markersize=7, zorder=6)
        axis.set(title=title, xlim=(0, 100), ylim=(-0.6, len(models) - 0.4), xlabel="Test accuracy (%)")
        axis.set_yticks(range(len(models)), [names[model] for model in models])
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
    handles = [Patch(color=GREY, label="ours"),
               Line2D([], [], color=INK, marker="|", markersize=8, label="95 % interval"),
               Line2D([], [], color="white", marker="D", markeredgecolor=INK, linestyle="", label="paper, Table 2"),
               Line2D([], [], label=PEOPLE_LABEL, **PEOPLE),
               Line2D([], [], color=GREY, linestyle=":", linewidth=1, label="chance")]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles) if wide else 3)
    return finish(fig)


def _draw_accuracy(axis, place: int, row, note: str) -> None:
    """A bar of :func:`table2_bars` with its interval, its number, which keeps clear of the interval, and a note."""
    color = model_color(row.model.rsplit("_x", 1)[0])  # the seeds averaged have the colour of their network
    axis.barh(place, row.accuracy, color=color, height=0.68)
    reach = [[max(0, row.accuracy - row.accuracy_low)], [max(0, row.accuracy_high - row.accuracy)]]
    axis.errorbar(row.accuracy, place, xerr=reach, color="white", linewidth=3)  # a rim, for dark bars
    axis.errorbar(row.accuracy, place, xerr=reach, color=INK, capsize=3, linewidth=1.2)
    inside = min(row.accuracy_low, row.accuracy) > LABEL_WIDTH
    axis.text(2 if inside else max(row.accuracy, row.accuracy_high) + 2, place, f"{row.accuracy:.1f}{note}",
              va="center", fontsize=8.5, fontweight="bold", color=text_color(color) if inside else INK,
              bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.6})


SYSTEM_GROUPS = {
    "ours": "from scratch, here",
    "scratch": "from scratch, elsewhere",
    "features": "features made by hand",
    "pretrained": "pretrained on other speech",
}


def unseen_speakers(systems: pd.DataFrame) -> Figure:
    """UAR on unseen speakers, ours beside other studies' (:func:`ser_utils.evaluation.tables.unseen_speakers`).

    A filled point was measured on the six folds of the protocol ``actors``, a hollow one on others; lines are 95 %
    intervals where there are any. The dashed line is what people recognise.

    Raises ValueError if there is no system to draw.
    """
    if systems.empty:
        raise ValueError("There is nothing to draw: no network is finished under the protocol actors.")
    rows = pd.concat([systems[systems.group == group].sort_values("uar", ascending=False)
                      for group in SYSTEM_GROUPS], ignore_index=True)
    most = rows.folds[rows.group == "ours"].max()
    heads = rows.index[rows.group != rows.group.shift()]
    places = -(np.arange(len(rows)) + np.cumsum(np.isin(rows.index, heads)))  # a free line above each group
    fig, axis = plt.subplots(figsize=(8.5, 0.27 * (len(rows) + len(heads)) + 1.4), layout="constrained")
    axis.axvline(HUMAN["overall"], zorder=1, **PEOPLE)
    for row, place in zip(rows.itertuples(), places, strict=True):
        color = model_color(row.model) if row.group == "ours" else INK
        if not np.isnan(row.low):
            axis.hlines(place, row.low, row.high, color=color, linewidth=1.6)
        axis.plot(row.uar, place, "o", color=color if row.same_folds else "white", markeredgecolor=color,
                  markersize=7, zorder=3)
        axis.annotate(f"{row.uar:.1f}", (1, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8.5, fontweight="bold")
        source = row.source if row.group != "ours" else "" if row.folds == most else f"{row.folds} folds"
        axis.annotate(source, (1, place), xycoords=("axes fraction", "data"), xytext=(34, 0),
                      textcoords="offset points", va="center", fontsize=8.5, color=GREY)
    axis.set_yticks(places, rows.name)
    for head in heads:
        axis.annotate(SYSTEM_GROUPS[rows.group[head]], (0, places[head] + 1), xycoords=("axes fraction", "data"),
                      xytext=(-4, 0), textcoords="offset points", ha="right", va="center", fontweight="bold")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    reach = rows[["uar", "low", "high"]].stack()
    axis.set(xlabel="Unweighted average recall on unseen speakers (%)", ylim=(places.min() - 0.7, places.max() + 1.6),
             xlim=(10 * np.floor(reach.min() / 10), 10 * np.ceil(reach.max() / 10)))
    handles = [
        Line2D([], [], color=INK, marker="o", linestyle="", label="the six folds used here"),
        Line2D([], [], color="white", marker="o", markeredgecolor=INK, linestyle="", label="other folds"),
        Line2D([], [], color=INK, linewidth=1.6, label="95 % interval over speakers"),
        Line2D([], [], label=PEOPLE_LABEL, **PEOPLE),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return finish(fig)


def critical_difference(comparison: dict, title: str | None = None) -> Figure:
    """Mean ranks of the models over actors (1 is best); a bar joins models that cannot be told apart.

    ``comparison`` is the result of :func:`ser_utils.evaluation.statistics.critical_difference`. Drawing after Demsar
    (2006).
    """
    ranks, width = comparison["ranks"], comparison["difference"]
    count = len(ranks)
    values = ranks.to_numpy()
    groups = _indistinguishable(values, width)
    left = (count + 1) // 2
    bottom = -0.55 - 0.28 * len(groups) - 0.42 * max(left, count - left)
    fig, axis = plt.subplots(figsize=(9, 1.2 - 0.85 * bottom), layout="constrained")
    axis.hlines(0, 1, count, color=INK, linewidth=1.4)
    for rank in range(1, count + 1):
        axis.vlines(rank, 0, 0.12, color=INK, linewidth=1.4)
        axis.text(rank, 0.2, str(rank), ha="center", va="bottom")
    for place, (model, rank) in enumerate(ranks.items()):
        first = place < left
        step = place if first else count - 1 - place
        y = -0.55 - 0.28 * len(groups) - 0.42 * step
        edge = 1 - 0.25 if first else count + 0.25
        axis.plot([rank, rank, edge], [0, y, y], color=model_color(model), linewidth=1.8, solid_joinstyle="round")
        text = f"{model_name(model)}  {rank:.2f}" if first else f"{rank:.2f}  {model_name(model)}"
        axis.text(edge + (-0.08 if first else 0.08), y, text, ha="right" if first else "left", va="center")
    for number, (start, end) in enumerate(groups):
        axis.hlines(-0.3 - 0.28 * number, values[start] - 0.06, values[end] + 0.06, color=INK, linewidth=4.5)
    axis.hlines(0.85, 1, 1 + width, color=INK, linewidth=1.4)
    axis.vlines([1, 1 + width], 0.78, 0.92, color=INK, linewidth=1.4)
    axis.text(1 + width + 0.12, 0.85, f"critical difference {width:.2f}", va="center")
    axis.set(xlim=(-1.0, count + 2.0), ylim=(bottom - 0.1, 1.15))
    axis.axis("off")
    p = comparison["p"]
    note = f"Friedman p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}, {comparison['blocks']} actors"
    axis.set_title(f"{title or 'Mean rank over actors'} ({note})")
    return finish(fig)


def _indistinguishable(ranks: np.ndarray, width: float) -> list[tuple[int, int]]:
    """Longest stretches (first, last) of two and more sorted ranks that span less than ``width``."""
    stretches = []
    for start in range(len(ranks)):
        end = int(np.flatnonzero(ranks - ranks[start] < width).max())
        if end > start and (not stretches or end > stretches[-1][1]):
            stretches.append((start, end))
    return stretches
