"""Figures of finished runs, one function each; ``table`` is that of ``evaluation.tables.table2``."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ser_utils import EMOTIONS, FOLDS
from ser_utils.evaluation.metrics import PROTOCOL_TITLES, model_name
from ser_utils.evaluation.statistics import shown_p
from ser_utils.paper import HUMAN
from ser_utils.plots.style import GREY, INK, finish, model_color

CHANCE = 100 / len(EMOTIONS)
AT_EDGE = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
PEOPLE = {"color": INK, "linewidth": 1, "linestyle": "--",
          "label": f"people, {HUMAN['overall']} % (neutral and calm as one)"}


def table2_bars(table: pd.DataFrame) -> Figure:
    """Table 2 as a picture: our accuracy by protocol with its interval, beside the paper's.

    Diamonds are the paper's figures, bars ours with 95 % intervals. What was not run says so; missing folds, too.
    """
    panels = dict(list(table.groupby("protocol", sort=False)))
    order = pd.Categorical(table.group, ("network", "averaged", "taught", "ensemble", "reference"), ordered=True)
    shown = table.assign(group=order).sort_values("group", kind="stable").drop_duplicates("model")[::-1]
    groups, names = shown.group.tolist(), shown.set_index("model").name
    size = (max(3.1 * len(panels) + 1, 6.5), 0.4 * len(names) + 1.4)
    fig, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axis, (protocol, rows) in zip(axes[0], panels.items(), strict=True):
        axis.axvline(CHANCE, color=GREY, linewidth=1, linestyle=":", zorder=1)
        if protocol == "actors":  # people did not know the voices either
            axis.axvline(HUMAN["overall"], zorder=1, **PEOPLE)
        for place in range(1, len(groups)):
            if groups[place] != groups[place - 1]:
                axis.axhline(place - 0.5, color=GREY, linewidth=0.8)
        for place in np.flatnonzero(~names.index.isin(rows.model[rows.folds > 0])):
            axis.text(CHANCE + 2, place, "not run", va="center", color=GREY, fontstyle="italic", fontsize=9)
        for row in rows.itertuples():
            place = names.index.get_loc(row.model)
            if row.folds > 0:
                _draw_accuracy(axis, place, row, "" if row.name == names[row.model] else f" ({row.name})")
                if row.folds < FOLDS:
                    axis.annotate(f"{row.folds}/{FOLDS} folds", (1, place), (3, 0), fontsize=7.5, color=GREY, **AT_EDGE)
            if not np.isnan(row.paper_accuracy):
                axis.plot(row.paper_accuracy, place - 0.22, "D", color="white", markeredgecolor=INK, markersize=5)
        axis.set(title=PROTOCOL_TITLES[protocol], xlim=(0, 100), ylim=(-0.6, len(names) - 0.4),
                 xlabel="Test accuracy (%)")
        axis.set_yticks(range(len(names)), names)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
    handles = [Patch(color=GREY, label="ours"),
               Line2D([], [], color=INK, marker="|", markersize=8, label="95 % interval"),
               Line2D([], [], color="white", marker="D", markeredgecolor=INK, markersize=5, linestyle="",
                      label="paper, Table 2"),
               *[Line2D([], [], **PEOPLE)] * ("actors" in panels),
               Line2D([], [], color=GREY, linestyle=":", linewidth=1, label="chance")]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles) if len(panels) > 1 else 3)
    return finish(fig)


def _draw_accuracy(axis, place: int, row, note: str) -> None:
    """A bar of :func:`table2_bars` with its interval, its number, which keeps clear of the interval, and a note."""
    color = model_color(row.model.split("_")[0])  # averaged or refit, a network has its colour
    axis.barh(place, row.accuracy, color=color, height=0.68)
    reach = [[max(0, row.accuracy - row.accuracy_low)], [max(0, row.accuracy_high - row.accuracy)]]
    axis.errorbar(row.accuracy, place, xerr=reach, color="white", linewidth=3)  # a rim, for dark bars
    axis.errorbar(row.accuracy, place, xerr=reach, color=INK, capsize=3, linewidth=1.2)
    inside = min(row.accuracy_low, row.accuracy) > 15  # points: the room that a number needs in its bar
    dark = np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722)) <= 0.5  # luminance
    axis.text(2 if inside else max(row.accuracy, row.accuracy_high) + 2, place, f"{row.accuracy:.1f}{note}",
              va="center", fontsize=8.5, fontweight="bold", color=INK if not inside else "white" if dark else "black",
              bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.6})


SYSTEM_GROUPS = {"ours": "from scratch, here", "scratch": "from scratch, elsewhere",
                 "features": "features made by hand", "pretrained": "pretrained on other speech"}


def unseen_speakers(systems: pd.DataFrame) -> Figure:
    """UAR on unseen speakers, ours beside other studies' (:func:`ser_utils.evaluation.tables.unseen_speakers`).

    A filled point was measured on the six test folds of ``actors``, a hollow one on others; lines are 95 % intervals.
    """
    rows = pd.concat([systems[systems.group == group].sort_values("uar", ascending=False)
                      for group in SYSTEM_GROUPS], ignore_index=True)
    most = rows.folds[rows.group == "ours"].max()
    heads = rows.index[rows.group != rows.group.shift()]
    places = -(np.arange(len(rows)) + np.cumsum(np.isin(rows.index, heads)))  # a free line above each group
    fig, axis = plt.subplots(figsize=(8.5, 0.27 * (len(rows) + len(heads)) + 1.4), layout="constrained")
    for row, place in zip(rows.itertuples(), places, strict=True):
        color = model_color(row.model.split("_")[0]) if row.group == "ours" else INK
        if not np.isnan(row.low):
            axis.hlines(place, row.low, row.high, color=INK, linewidth=1.2)
        axis.plot(row.uar, place, "o", color=color if row.same_folds else "white", markeredgecolor=INK, markersize=7,
                  zorder=3)
        axis.annotate(f"{row.uar:.1f}", (1, place), (4, 0), fontsize=8.5, fontweight="bold", **AT_EDGE)
        source = row.source if row.group != "ours" else "" if row.folds == most else f"{row.folds} folds"
        axis.annotate(source, (1, place), (34, 0), fontsize=8.5, color=GREY, **AT_EDGE)
    axis.set_yticks(places, rows.name)
    for head in heads:
        axis.annotate(SYSTEM_GROUPS[rows.group[head]], (0, places[head] + 1), (-4, 0), ha="right", fontweight="bold",
                      **AT_EDGE)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    reach = rows[["uar", "low", "high"]].stack()
    axis.set(xlabel="Unweighted average recall on unseen speakers (%)", ylim=(places.min() - 0.7, places.max() + 1.6),
             xlim=(10 * np.floor(reach.min() / 10), 10 * np.ceil(reach.max() / 10)))
    handles = [Line2D([], [], color=INK, marker="o", linestyle="", label="the six test folds used here"),
               Line2D([], [], color="white", marker="o", markeredgecolor=INK, linestyle="", label="other folds"),
               Line2D([], [], color=INK, linewidth=1.2, label="95 % interval over speakers")]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return finish(fig)


def critical_difference(comparison: dict, title: str) -> Figure:
    """Mean ranks of the models over actors (1 is best); a bar joins models that cannot be told apart.

    ``comparison`` is that of :func:`ser_utils.evaluation.statistics.critical_difference`; drawn after Demsar (2006).
    """
    ranks = comparison["ranks"].rename(model_name)
    fig, axis = plt.subplots(figsize=(9, 2.8), layout="constrained")
    drawn = scikit_posthocs.critical_difference_diagram(
        ranks, comparison["pairs"].rename(index=model_name, columns=model_name), ax=axis, text_h_margin=0.15,
        label_fmt_left="{label}  {rank:.2f} ", label_fmt_right=" {rank:.2f}  {label}",
        color_palette={model_name(model): model_color(model) for model in comparison["ranks"].index})
    for label in drawn["labels"]:
        label.set_color(INK)
    axis.grid(False)
    axis.spines["top"].set_visible(True)
    axis.set_xlabel("Mean rank (1 is best)", fontsize=9)
    axis.xaxis.set_label_position("top")
    axis.set_title(f"{title}: Friedman's p {shown_p(comparison['p'])}, {comparison['blocks']} actors, "
                   f"critical difference {comparison['difference']:.2f}")
    return finish(fig)
