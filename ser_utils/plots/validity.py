"""Figures of the audit, of the ladder of shortcuts and of the negative controls. One function a figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ser_utils import EMOTIONS
from ser_utils.paper import MODEL_NAMES, TABLE2
from ser_utils.plots.style import BANNER_COLOR, GREY, INK, finish, model_color
from ser_utils.studies.audit import CLIPS, ROUNDING, TEST_SIZES, recall_pairs

POSSIBLE_COLOR, IMPOSSIBLE_COLOR = "#00735C", BANNER_COLOR
PROTOCOL_COLORS = {"random": "#E69F00", "actors": "#0072B2"}
CHANCE = 100 / len(EMOTIONS)
REACH = 0.7  # points either side of a printed figure that are drawn


def grim(table: pd.DataFrame) -> Figure:
    """Which figures of Table 2 can come from 240 clips: the printed figure in the middle, what is possible around.

    ``table`` is that of :func:`ser_utils.studies.audit.grim`. Strokes are attainable values, the band is what rounds to
    the printed figure: a stroke must lie in it.
    """
    pairs, denominator = recall_pairs(TEST_SIZES)
    values = {"accuracy": np.arange(CLIPS + 1) * 100 / CLIPS,
              "recall": np.array(sorted({total for _, total in pairs})) * 100 / denominator}
    units = {"accuracy": CLIPS, "recall": denominator}
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.3), layout="constrained", sharey=True)
    for axis, (metric, attainable) in zip(axes, values.items(), strict=True):
        rows = table[table.metric == metric]
        axis.axvspan(-ROUNDING, ROUNDING, color="#E4E4E4", linewidth=0)
        for place, row in enumerate(rows.itertuples()):
            color = POSSIBLE_COLOR if row.verdict == "possible" else IMPOSSIBLE_COLOR
            near = attainable[np.abs(attainable - row.printed) <= REACH]
            axis.vlines(near - row.printed, place - 0.28, place + 0.28, color=color, linewidth=2.5)
            axis.text(REACH + 0.05, place, f"{row.printed:.1f}: {row.verdict}", va="center", color=color)
        axis.set(xlim=(-REACH, REACH), xlabel="Points from the printed figure")
        unit = common_unit(attainable, units[metric])
        axis.set_title(f"{metric.capitalize()}: multiples of 1/{unit}")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(TABLE2)), [MODEL_NAMES[model] for model in TABLE2])
    axes[0].invert_yaxis()
    handles = [Line2D([], [], color=color, linewidth=2.5, label=f"attainable values, printed figure {what}")
               for color, what in ((POSSIBLE_COLOR, "among them"), (IMPOSSIBLE_COLOR, "not among them"))]
    handles.append(Patch(color="#E4E4E4", label="rounds to the printed figure"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return finish(fig)


def common_unit(percentages: np.ndarray, denominator: int) -> int:
    """The n for which the percentages, shares of ``denominator``, are multiples of 1/n."""
    whole = np.round(percentages * denominator / 100).astype(int)
    return denominator // int(np.gcd.reduce(np.append(whole, denominator)))


def paper_intervals(table: pd.DataFrame) -> Figure:
    """Table 2's accuracies with their intervals: ``table`` is that of :func:`ser_utils.studies.audit.intervals`."""
    fig, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
    for place, row in enumerate(table.itertuples()):
        axis.hlines(place, row.low, row.high, color=model_color(row.model), linewidth=3)
        axis.plot(row.accuracy, place, "o", color=model_color(row.model), markersize=9, markeredgecolor="white")
        axis.text(row.high + 0.3, place, f"{row.accuracy:.1f}", va="center")
    axis.set_yticks(range(len(table)), [MODEL_NAMES[model] for model in table.model])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.08)
    axis.set(xlabel=f"Accuracy in the paper (%), Wilson's 95 % interval for {CLIPS} clips")
    return finish(fig)


def ladder(table: pd.DataFrame, title: str | None = None) -> Figure:
    """From honest to flattering: accuracy with its interval for each shortcut, one colour a network.

    ``table`` is that of :func:`ser_utils.studies.leakage.scores`, the rungs to be drawn. The band spans the accuracies of
    the paper's Table 2.
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


def controls(cues: pd.DataFrame, trained: pd.DataFrame) -> Figure:
    """What should stay at chance, and what doesn't: emotions from cues alone and shuffled labels; actors.

    ``cues`` is the table of :func:`ser_utils.studies.leakage.controls`, ``trained`` the rows of
    :func:`ser_utils.studies.leakage.scores` of the runs with shuffled labels (may be empty).
    """
    emotion, actor = (cues[cues.kind == kind] for kind in ("emotion", "actor"))
    rows = [(f"{row.title} ({MODEL_NAMES[row.model]})", row.uar, row.uar_low, row.uar_high, "random")
            for row in trained.itertuples()]
    rows += [(f"{row.what} alone", row.score, row.low, row.high, row.protocol) for row in emotion.itertuples()]
    labels = list(dict.fromkeys(label for label, *_ in rows))
    places = list(dict.fromkeys(actor.what))
    fig, axes = plt.subplots(2, 1, figsize=(9.5, 2.2 + 0.55 * (len(labels) + len(places))), layout="constrained",
                             height_ratios=[max(len(labels), 1) + 0.6, max(len(places), 1) + 0.6])
    for label, value, low, high, protocol in rows:
        y = labels.index(label) + (0.16 if protocol == "actors" else -0.16)
        _dot(axes[0], y, value, low, high, PROTOCOL_COLORS[protocol])
    for row in actor.itertuples():
        _dot(axes[1], places.index(row.what), row.score, row.low, row.high, PROTOCOL_COLORS["random"])
    for axis, names, chance, heading in (
            (axes[0], labels, CHANCE, "Emotion: mean recall over the eight (UAR, %)"),
            (axes[1], places, actor.chance.min() if len(actor) else np.nan, "Who is speaking: accuracy (%)")):
        axis.axvline(chance, color=GREY, linewidth=1.2, linestyle=":")
        axis.set_yticks(range(len(names)), names)
        axis.set(xlim=(0, 103), ylim=(len(names) - 0.45, -0.55), title=heading)
        axis.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=color, marker="o", markersize=8, label=label) for label, color in (
        ("random split", PROTOCOL_COLORS["random"]), ("unseen actors", PROTOCOL_COLORS["actors"]))]
    handles.append(Line2D([], [], color=GREY, linestyle=":", label="chance"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return finish(fig)


def _dot(axis, y: float, value: float, low: float, high: float, color: str) -> None:
    axis.hlines(y, low, high, color=color, linewidth=2.5)
    axis.plot(value, y, "o", color=color, markersize=8, markeredgecolor="white")
    axis.text(high + 0.8, y, f"{value:.1f}", va="center", fontsize=9, color=INK)


def surviving(pairs: dict[str, pd.DataFrame], titles: dict[str, str]) -> Figure:
    """Which network is better than which: points of accuracy, row less column; framed where it survives Holm.

    ``pairs`` maps protocols to tables of :func:`ser_utils.evaluation.metrics.compare_all`, ``titles`` to headings.
    """
    fig, axes = plt.subplots(1, len(pairs), figsize=(6.2 * len(pairs), 5.6), layout="constrained", squeeze=False)
    largest = max(100 * table.difference.abs().max() for table in pairs.values())
    for axis, (protocol, table) in zip(axes.flat, pairs.items(), strict=True):
        models = list(dict.fromkeys([*table.model_a, *table.model_b]))
        grid = np.full((len(models), len(models)), np.nan)
        for pair in table.itertuples():
            a, b = models.index(pair.model_a), models.index(pair.model_b)
            grid[a, b], grid[b, a] = 100 * pair.difference, 0 - 100 * pair.difference
        image = axis.imshow(grid, cmap="RdBu", vmin=-largest, vmax=largest)
        for pair in table.itertuples():
            a, b = models.index(pair.model_a), models.index(pair.model_b)
            for row, column in ((a, b), (b, a)):
                strong = abs(grid[row, column]) > 0.6 * largest
                axis.text(column, row, f"{grid[row, column]:+.1f}".replace("-", "−"), ha="center", va="center",
                          fontsize=8, color="white" if strong else INK,
                          fontweight="bold" if pair.significant else "normal")
                if pair.significant:
                    axis.add_patch(plt.Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False,
                                                 edgecolor=INK, linewidth=2.2))
        names = [MODEL_NAMES.get(model, model) for model in models]
        axis.set_xticks(range(len(models)), names, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(models)), names)
        axis.tick_params(length=0)
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.set_title(f"{titles[protocol]}: {int(table.significant.sum())} of {len(table)} survive", fontsize=10)
    fig.colorbar(image, ax=axes, shrink=0.6, label="Accuracy of the row less that of the column (points)"
                 ).outline.set_visible(False)
    return finish(fig)
