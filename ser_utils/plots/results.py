"""Figures of training and results. One function a figure; each returns a finished matplotlib Figure.

``predictions`` are tables of :func:`ser_utils.evaluation.metrics.load_predictions`, ``runs`` of
:func:`ser_utils.evaluation.metrics.load_runs`, ``table`` of :func:`ser_utils.evaluation.tables.table2`.
"""

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import statistics
from ser_utils.evaluation.metrics import EMOTIONS, PROTOCOL_TITLES
from ser_utils.paper import HUMAN, MODEL_NAMES, TABLE2
from ser_utils.plots.style import GREY, INK, finish, model_color, text_color

TRAIN_COLOR, VAL_COLOR = "#56B4E9", "#882255"
CHANCE = 100 / len(EMOTIONS)
LABEL_WIDTH = 15  # points of accuracy: the room that a number needs at the left end of its bar


def _name(model: str) -> str:
    names = MODEL_NAMES | evaluation.ENSEMBLE_NAMES | evaluation.REFERENCE_NAMES
    return names.get(model, model.replace("_", " ").capitalize())


def _models(predictions: pd.DataFrame) -> list[str]:
    """Models present, in the order of the tables.

    Raises
    ------
    ValueError
        If there are none.
    """
    present = list(dict.fromkeys(predictions.model))
    if not present:
        raise ValueError("There are no predictions to draw: no run is finished.")
    return [m for m in MODEL_NAMES if m in present] + [m for m in present if m not in MODEL_NAMES]


def _labels(predictions: pd.DataFrame) -> dict[str, str]:
    """model -> its name, with the number of its folds where the models do not have equally many."""
    folds = predictions.groupby("model").fold.nunique()
    return {model: _name(model) if folds.nunique() == 1 else f"{_name(model)}, {folds[model]}/{evaluation.FOLDS} folds"
            for model in _models(predictions)}


def learning_curves(
    histories: pd.DataFrame | Mapping[int, pd.DataFrame],
    best_epochs: int | Mapping[int, int] | None = None,
    title: str | None = None,
) -> Figure:
    """Loss and accuracy by epoch, training and validation; the best epoch of each fold is marked.

    ``histories`` is one history (columns of ``history.csv``) or one a fold. ``best_epochs`` are the epochs
    whose weights were kept, given like the histories; without them the epoch of highest validation accuracy
    is marked. With several folds each is a thin line and their mean (over the folds still training) a thick
    one.

    Raises
    ------
    ValueError
        If there is no history.
    """
    folds = {0: histories} if isinstance(histories, pd.DataFrame) else dict(histories)
    if not folds or any(history.empty for history in folds.values()):
        raise ValueError("There is no history to draw: the run has not finished an epoch.")
    best = best_epochs if isinstance(best_epochs, Mapping) else dict.fromkeys(folds, best_epochs)
    several = len(folds) > 1
    fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, quantity, scale in zip(axes, ("loss", "accuracy"), (1, 100), strict=True):
        for column, color in ((quantity, TRAIN_COLOR), (f"val_{quantity}", VAL_COLOR)):
            lines = pd.DataFrame({fold: h.set_index("epoch")[column] * scale for fold, h in folds.items()})
            if several:
                axis.plot(lines, color=color, linewidth=0.8, alpha=0.35)
            axis.plot(lines.mean(axis=1), color=color, marker="o" if len(lines) == 1 else None)
        for fold, history in folds.items():
            rows = history.set_index("epoch")
            epoch = best.get(fold) if best.get(fold) is not None else rows.val_accuracy.idxmax()
            if epoch in rows.index:
                axis.plot(
                    epoch,
                    rows.loc[epoch, f"val_{quantity}"] * scale,
                    "o",
                    color=VAL_COLOR,
                    markeredgecolor="white",
                    markersize=8,
                    zorder=5,
                )
        axis.set(xlabel="Epoch", title="Loss" if quantity == "loss" else "Accuracy (%)")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[1].axhline(CHANCE, color=GREY, linewidth=1, linestyle=":")
    axes[1].set_ylim(0, 102)
    handles = [
        Line2D([], [], color=TRAIN_COLOR, label="training (augmented clips)"),
        Line2D([], [], color=VAL_COLOR, label="validation"),
        Line2D(
            [],
            [],
            color=VAL_COLOR,
            marker="o",
            linestyle="",
            markersize=8,
            markeredgecolor="white",
            label="epoch kept",
        ),
        Line2D([], [], color=GREY, linestyle=":", label="chance"),
    ]
    if several:
        handles.append(
            Line2D([], [], color=GREY, linewidth=0.8, alpha=0.5, label=f"single folds ({len(folds)})")
        )
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    if title:
        fig.suptitle(title)
    return finish(fig)


def _draw_confusion(axis, matrix: np.ndarray, counts: bool, fontsize: float, names=EMOTIONS):
    """One row-normalised confusion matrix in per cent on an axis; the image, for a colour bar."""
    total = matrix.sum(axis=1, keepdims=True)
    share = 100 * np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    image = axis.imshow(share, vmin=0, vmax=100, cmap="Blues")
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column] == 0:
            continue
        text = f"{share[row, column]:.0f}"
        if counts:
            text += f"\n({matrix[row, column]})"
        axis.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=fontsize,
            color=text_color(image.cmap(share[row, column] / 100)),
        )
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return image


def confusion_matrix(labels, predictions, title: str | None = None) -> Figure:
    """Which emotion is taken for which: per cent of each true emotion's clips, with the count below it.

    ``labels`` are 0-7, shape (n,); ``predictions`` 0-7 or probabilities (n, 8).
    """
    matrix = evaluation.confusion(labels, predictions)
    scores = evaluation.metrics_from_confusion(matrix)
    fig, axis = plt.subplots(figsize=(6.9, 6.2), layout="constrained")
    image = _draw_confusion(axis, matrix, counts=True, fontsize=8.5)
    axis.set(xlabel="Recognised as", ylabel="True emotion")
    heading = f"accuracy {100 * scores['accuracy']:.1f} %, recall (UAR) {100 * scores['recall']:.1f} %"
    axis.set_title(f"{title}\n{heading}" if title else heading)
    bar = fig.colorbar(image, ax=axis, shrink=0.75, label="% of the true emotion's clips")
    bar.outline.set_visible(False)
    return finish(fig)


def _small_multiples(panels: int, width: float, height: float, sharex: bool) -> tuple[Figure, np.ndarray]:
    """A grid of up to four panels a row, each ``width`` by ``height`` inches; places left over stay empty."""
    columns = min(4, panels)
    rows = -(-panels // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(width * columns + 0.7, height * rows + 0.4), squeeze=False,
                             layout="constrained", sharex=sharex, sharey=True)
    for axis in axes.flat[panels:]:
        axis.axis("off")
    return fig, axes


def confusion_grid(predictions: pd.DataFrame, title: str | None = None) -> Figure:
    """The confusion matrices of all models as small multiples, in per cent of each true emotion's clips.

    Where the models do not have equally many folds, each title says how many.
    """
    labels = _labels(predictions)
    fig, axes = _small_multiples(len(labels), 3.1, 3.5, sharex=False)
    for number, (axis, model) in enumerate(zip(axes.flat, labels, strict=False)):
        part = predictions[predictions.model == model]
        matrix = evaluation.confusion(part.label, part.prediction)
        image = _draw_confusion(axis, matrix, counts=False, fontsize=6.5)
        axis.tick_params(labelsize=8)
        axis.set_title(f"{labels[model]}: {100 * matrix.trace() / matrix.sum():.1f} %", fontsize=10)
        if number + axes.shape[1] < len(labels):
            axis.set_xticklabels([])
    fig.supxlabel("Recognised as", fontsize=10)
    fig.supylabel("True emotion", fontsize=10)
    fig.colorbar(image, ax=axes, shrink=0.5, label="% of the true emotion's clips").outline.set_visible(False)
    if title:
        fig.suptitle(title)
    return finish(fig)


def table2_bars(table: pd.DataFrame) -> Figure:
    """Table 2 as a picture: our accuracy by protocol with its interval, beside the paper's.

    Diamonds are the paper's figures, bars ours with 95 % intervals; a model without a finished run says so.
    The title of a panel says how many folds are finished, or a note beside each bar where they differ. Lines
    part the networks from the ensembles and references below them.
    """
    protocols = list(dict.fromkeys(table.protocol))
    groups = dict(zip(table.model, table.group, strict=True))
    models = [model for group in ("reference", "ensemble", "network")
              for model in reversed([name for name in groups if groups[name] == group])]
    places = {model: place for place, model in enumerate(models)}
    wide = len(protocols) > 1
    fig, axes = plt.subplots(
        1,
        len(protocols),
        figsize=(4.1 * len(protocols) + 1 if wide else 6.5, 0.5 * len(models) + (1.7 if wide else 2.1)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axis, protocol in zip(axes[0], protocols, strict=True):
        rows = table[table.protocol == protocol]
        finished = rows.folds[rows.folds > 0].unique()
        title = PROTOCOL_TITLES.get(protocol, protocol)
        if len(finished) == 1 and finished[0] < evaluation.FOLDS:
            title += f", {finished[0]} of {evaluation.FOLDS} folds"
        axis.axvline(CHANCE, color=GREY, linewidth=1, linestyle=":", zorder=1)
        axis.axvline(HUMAN["overall"], color=INK, linewidth=1, linestyle="--", zorder=1)
        for place in range(1, len(models)):
            if groups[models[place]] != groups[models[place - 1]]:
                axis.axhline(place - 0.5, color=GREY, linewidth=0.8)
        for row in rows.itertuples():
            place = places[row.model]
            if row.folds == 0:
                axis.text(
                    CHANCE + 2, place, "not run", va="center", color=GREY, fontstyle="italic", fontsize=9
                )
            else:
                _draw_accuracy(axis, place, row)
                if len(finished) > 1:
                    axis.annotate(
                        f"{row.folds}/{evaluation.FOLDS} folds",
                        (1, place),
                        xycoords=("axes fraction", "data"),
                        xytext=(3, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=7.5,
                        color=GREY,
                    )
            if not np.isnan(row.paper_accuracy):
                axis.plot(
                    row.paper_accuracy, place, "D", color="white", markeredgecolor=INK, markersize=7, zorder=6
                )
        axis.set(title=title, xlim=(0, 100), ylim=(-0.6, len(models) - 0.4), xlabel="Test accuracy (%)")
        axis.set_yticks(range(len(models)), [_name(model) for model in models])
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
    handles = [
        mpl.patches.Patch(color=GREY, label="ours"),
        Line2D([], [], color=INK, marker="|", markersize=8, label="95 % interval"),
        Line2D([], [], color="white", marker="D", markeredgecolor=INK, linestyle="", label="paper, Table 2"),
        Line2D(
            [],
            [],
            color=INK,
            linestyle="--",
            linewidth=1,
            label=f"people, {HUMAN['overall']} % of {HUMAN['options']} options",
        ),
        Line2D([], [], color=GREY, linestyle=":", linewidth=1, label="chance"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles) if wide else 3)
    return finish(fig)


def _draw_accuracy(axis, place: int, row) -> None:
    """A bar of :func:`table2_bars` with its interval and its number, which keeps clear of the interval."""
    axis.barh(place, row.accuracy, color=model_color(row.model), height=0.68)
    reach = [[max(0, row.accuracy - row.accuracy_low)], [max(0, row.accuracy_high - row.accuracy)]]
    axis.errorbar(row.accuracy, place, xerr=reach, color="white", linewidth=3)  # a rim, for dark bars
    axis.errorbar(row.accuracy, place, xerr=reach, color=INK, capsize=3, linewidth=1.2)
    inside = min(row.accuracy_low, row.accuracy) > LABEL_WIDTH
    axis.text(
        2 if inside else max(row.accuracy, row.accuracy_high) + 2,
        place,
        f"{row.accuracy:.1f}" + (f" ({row.name})" if row.name != _name(row.model) else ""),  # an ensemble of some
        va="center",
        fontsize=8.5,
        fontweight="bold",
        color=text_color(model_color(row.model)) if inside else INK,
        bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


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

    Raises
    ------
    ValueError
        If there is no system to draw.
    """
    if systems.empty:
        raise ValueError("There is nothing to draw: no network is finished under the protocol actors.")
    rows = pd.concat([systems[systems.group == group].sort_values("uar", ascending=False)
                      for group in SYSTEM_GROUPS], ignore_index=True)
    most = rows.folds[rows.group == "ours"].max()
    heads = rows.index[rows.group != rows.group.shift()]
    places = -(np.arange(len(rows)) + np.cumsum(np.isin(rows.index, heads)))  # a free line above each group
    fig, axis = plt.subplots(figsize=(8.5, 0.27 * (len(rows) + len(heads)) + 1.4), layout="constrained")
    axis.axvline(HUMAN["overall"], color=INK, linewidth=1, linestyle="--", zorder=1)
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
        Line2D([], [], color=INK, linestyle="--", linewidth=1,
               label=f"people, {HUMAN['overall']} % of {HUMAN['options']} options"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return finish(fig)


def accuracy_curves(runs: pd.DataFrame, title: str | None = None) -> Figure:
    """Accuracy by epoch of all networks of one protocol as small multiples, training and validation.

    ``runs`` is a table of :func:`ser_utils.evaluation.metrics.load_runs`. Each fold is a thin line, their mean (over the
    folds still training) a thick one; the diamond at the right is the paper's accuracy.
    """
    models = _models(runs)
    fig, axes = _small_multiples(len(models), 2.7, 2.2, sharex=False)
    for axis, model in zip(axes.flat, models, strict=False):
        part = runs[runs.model == model]
        histories = {run.fold: runs.read_history(run.dir).set_index("epoch") for run in part.itertuples()}
        for column, color in (("accuracy", TRAIN_COLOR), ("val_accuracy", VAL_COLOR)):
            lines = 100 * pd.DataFrame({fold: history[column] for fold, history in histories.items()})
            axis.plot(lines, color=color, linewidth=0.6, alpha=0.35)
            axis.plot(lines.mean(axis=1), color=color, linewidth=1.6)
        if model in TABLE2:
            axis.plot(part.epochs.max(), TABLE2[model][0], "D", color="white", markeredgecolor=INK,
                      markersize=6, zorder=5, clip_on=False)
        folds = f"{len(part)} fold" + "s" * (len(part) > 1)
        axis.set_title(f"{_name(model)}, {folds}", fontsize=10)
        axis.set(xlabel="Epoch", ylim=(0, 100), xlim=(0, part.epochs.max()))
        axis.xaxis.get_major_locator().set_params(integer=True)
    fig.supylabel("Accuracy (%)", fontsize=10)
    handles = [Line2D([], [], color=TRAIN_COLOR, label="training (augmented clips)"),
               Line2D([], [], color=VAL_COLOR, label="validation"),
               Line2D([], [], color="white", marker="D", markeredgecolor=INK, linestyle="", label="paper, Table 2")]
    narrow = len(models) == 1  # the legend is wider than one panel
    fig.legend(handles=handles, loc="outside lower center", ncols=1 if narrow else len(handles))
    fig.set_figheight(fig.get_figheight() + 0.5 * narrow)
    if title:
        fig.suptitle(title)
    return finish(fig)


def gaps(table: pd.DataFrame) -> Figure:
    """From training to test: each network's accuracy on training, validation and test clips, a panel a protocol.

    ``table`` is that of :func:`ser_utils.evaluation.tables.gaps`. A line joins the marks of a network: the farther apart,
    the more it knows of its training clips alone. Diamonds are the paper's figures.
    """
    protocols = list(dict.fromkeys(table.protocol))
    models = list(reversed(_models(table)))
    fig, axes = plt.subplots(1, len(protocols), figsize=(4.6 * len(protocols) + 1.4, 0.42 * len(models) + 1.9),
                             sharex=True, sharey=True, squeeze=False, layout="constrained")
    marks = {"train": ("training (augmented), last tenth of the epochs", "o", TRAIN_COLOR),
             "val_end": ("validation, last tenth of the epochs", "o", "white"),
             "val": ("validation, epoch kept", "o", VAL_COLOR),
             "test": ("test", "s", INK)}
    for axis, protocol in zip(axes[0], protocols, strict=True):
        for row in table[table.protocol == protocol].itertuples():
            place = models.index(row.model)
            values = [getattr(row, name) for name in marks]
            axis.hlines(place, min(values), max(values), color=GREY, linewidth=1.5, zorder=1)
            for name, (_, marker, color) in marks.items():
                axis.plot(getattr(row, name), place, marker, color=color, markersize=8, zorder=3,
                          markeredgecolor=VAL_COLOR if name == "val_end" else "white")
            if not np.isnan(row.paper_accuracy):
                axis.plot(row.paper_accuracy, place, "D", color="white", markeredgecolor=INK, markersize=7, zorder=2)
        axis.set(title=PROTOCOL_TITLES.get(protocol, protocol), xlabel="Accuracy (%)", ylim=(-0.6, len(models) - 0.4))
        axis.set_yticks(range(len(models)), [_name(model) for model in models])
        axis.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=color, marker=marker, linestyle="", markersize=8, label=label,
                      markeredgecolor=VAL_COLOR if name == "val_end" else "white")
               for name, (label, marker, color) in marks.items()]
    handles.append(Line2D([], [], color="white", marker="D", markeredgecolor=INK, linestyle="", label="paper, Table 2"))
    fig.legend(handles=handles, loc="outside lower center", ncols=2 if len(protocols) < 2 else 3)
    return finish(fig)


def class_recall_vs_people(predictions: pd.DataFrame, title: str | None = None) -> Figure:
    """Recall of each emotion by model, beside that of human listeners (grey blocks).

    Of listeners, neutral and calm were accepted for each other, which leaves seven options; the networks have eight.
    """
    labels = _labels(predictions)
    fig, axis = plt.subplots(figsize=(10, 5), layout="constrained")
    places = np.arange(len(EMOTIONS))
    axis.bar(
        places,
        [HUMAN["emotion"][emotion] for emotion in EMOTIONS],
        width=0.84,
        color="#DADADA",
        label=f"people ({HUMAN['options']} options)",
    )
    offsets = np.linspace(-0.33, 0.33, len(labels)) if len(labels) > 1 else [0.0]
    for model, offset in zip(labels, offsets, strict=True):
        part = predictions[predictions.model == model]
        recall = 100 * evaluation.per_class_recall(part.label, part.prediction)
        axis.plot(
            places + offset,
            recall,
            "o",
            color=model_color(model),
            markeredgecolor="white",
            markersize=8,
            clip_on=False,
            zorder=3,
            label=labels[model],
        )
        axis.vlines(places + offset, 0, recall, color=model_color(model), linewidth=1.2)
    axis.axhline(CHANCE, color=GREY, linewidth=1, linestyle=":", label="chance (8 classes)")
    axis.set_xticks(places, EMOTIONS)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="x", visible=False)
    axis.set(ylabel="Recognised (%)", ylim=(0, 102), title=title or "Recall by emotion: networks and people")
    fig.legend(loc="outside lower center", ncols=5)
    return finish(fig)


def cost_accuracy(
    runs: pd.DataFrame,
    latency_ms: Mapping[str, float] | None = None,
    title: str | None = None,
    macs: Mapping[str, float] | None = None,
) -> Figure:
    """What accuracy costs: mean test accuracy against parameters, training time and time for one clip.

    ``runs`` of one protocol; ``latency_ms`` maps models to milliseconds a clip, ``macs`` to the
    multiply-accumulates of a clip (a panel more). A cost that is not known for any model leaves its panel
    empty and says so.

    Raises
    ------
    ValueError
        If there are no runs, or several protocols are mixed.
    """
    if runs.protocol.nunique() != 1:
        raise ValueError(f"Draw the runs of one protocol; got {sorted(set(runs.protocol)) or 'none'}.")
    means = runs.groupby("model", sort=False)[["parameters", "wall_seconds", "test_accuracy"]].mean()
    given = pd.DataFrame({"macs": macs, "latency_ms": latency_ms}, index=means.index, dtype=float)
    costs = {"Parameters (millions)": means.parameters / 1e6}
    if macs is not None:
        costs["Products for one clip (millions)"] = given.macs / 1e6
    costs |= {"Training time of one fold (s)": means.wall_seconds, "Time for one clip (ms)": given.latency_ms}
    fig, axes = plt.subplots(
        1, len(costs), figsize=(3.1 * len(costs) + 1, 4), layout="constrained", sharey=True
    )
    for axis, (label, cost) in zip(axes, costs.items(), strict=True):
        axis.set_xlabel(label)
        if cost.notna().sum() == 0:
            axis.text(
                0.5,
                0.5,
                "not measured",
                transform=axis.transAxes,
                ha="center",
                color=GREY,
                fontstyle="italic",
            )
            axis.set_xticks([])
            continue
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        for model in means.index:
            axis.plot(
                cost[model],
                100 * means.test_accuracy[model],
                "o",
                color=model_color(model),
                markersize=11,
                markeredgecolor="white",
            )
        axis.margins(x=0.15, y=0.15)
    axes[0].set_ylabel("Mean test accuracy (%)")
    handles = [
        Line2D([], [], color=model_color(m), marker="o", linestyle="", markersize=9, label=_name(m))
        for m in _models(runs)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    if title:
        fig.suptitle(title)
    return finish(fig)


def critical_difference(comparison: dict, title: str | None = None) -> Figure:
    """Mean ranks of the models over actors (1 is best); a bar joins models that cannot be told apart.

    ``comparison`` is the result of :func:`ser_utils.evaluation.metrics.critical_difference`. Drawing after Demsar
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
        axis.plot(
            [rank, rank, edge], [0, y, y], color=model_color(model), linewidth=1.8, solid_joinstyle="round"
        )
        text = f"{_name(model)}  {rank:.2f}" if first else f"{rank:.2f}  {_name(model)}"
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


def reliability_diagram(predictions: pd.DataFrame, bins: int = 10, title: str | None = None) -> Figure:
    """Is a network as sure as it is right? Accuracy by confidence, a small panel a model.

    On the diagonal confidence is honest; below it the network is too sure. Bars are the share of clips in
    each bin; ECE is the expected calibration error.
    """
    models = _models(predictions)
    fig, axes = _small_multiples(len(models), 2.7, 2.9, sharex=True)
    for number, (axis, model) in enumerate(zip(axes.flat, models, strict=False)):
        part = predictions[predictions.model == model]
        probabilities = part[evaluation.PROBABILITIES].to_numpy()
        table = evaluation.calibration(part.label, probabilities, bins)
        axis.bar(
            100 * (table.low + table.high) / 2,
            100 * table.clips / table.clips.sum(),
            width=90 / bins,
            color="#DDDDDD",
        )
        axis.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
        filled = table.dropna()
        axis.plot(
            100 * filled.confidence, 100 * filled.accuracy, "o-", color=model_color(model), markersize=5
        )
        error = 100 * evaluation.calibration_error(part.label, probabilities, bins)
        axis.set_title(f"{_name(model)}: ECE {error:.1f} %", fontsize=10)
        axis.set(xlim=(0, 100), ylim=(0, 102), aspect="equal")
        axis.tick_params(labelbottom=number + axes.shape[1] >= len(models))
    fig.supxlabel("Confidence (%)", fontsize=10)
    fig.supylabel("Accuracy (%); bars: share of clips", fontsize=10)
    if title:
        fig.suptitle(title)
    return finish(fig)


def intensity_gender_bars(predictions: pd.DataFrame, title: str | None = None) -> Figure:
    """Accuracy by emotional intensity and by the actor's gender, a pair of bars a model, beside people's.

    Whiskers are 95 % Wilson intervals over clips. Neutral clips have no strong version and count as normal.
    """
    models = _models(predictions)
    facts = evaluation.clip_facts(predictions["clip"])
    right = (predictions.label == predictions.prediction).to_numpy()
    panels = {
        "intensity": ("By intensity", {"normal": "#9AD0C2", "strong": "#00735C"}),
        "gender": ("By the actor's gender", {"female": "#E6A57E", "male": "#7A3B10"}),
    }
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", sharey=True)
    for axis, (column, (heading, colors)) in zip(axes, panels.items(), strict=True):
        for side, (value, color) in zip((-0.2, 0.2), colors.items(), strict=True):
            chosen = (facts[column] == value).to_numpy()
            for place, model in enumerate(models):
                hits = right[chosen & (predictions.model == model).to_numpy()]
                if len(hits) == 0:
                    continue
                low, high = statistics.wilson_interval(hits.sum(), len(hits))
                mean = hits.mean()
                axis.bar(
                    place + side, 100 * mean, width=0.37, color=color, label=value if place == 0 else None
                )
                axis.errorbar(
                    place + side,
                    100 * mean,
                    yerr=[[100 * (mean - low)], [100 * (high - mean)]],
                    color=INK,
                    capsize=2.5,
                    linewidth=1,
                )
            axis.bar(
                len(models) + side,
                HUMAN[column][value],
                width=0.37,
                color="white",
                edgecolor=color,
                hatch="////",
                linewidth=1.4,
            )
        axis.axhline(CHANCE, color=GREY, linewidth=1, linestyle=":")
        axis.set_xticks(
            range(len(models) + 1),
            [*map(_name, models), "people"],
            rotation=30,
            ha="right",
            rotation_mode="anchor",
        )
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="x", visible=False)
        axis.set_title(heading)
        axis.set_ylim(0, 105)
        axis.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.12))
    axes[0].set_ylabel("Accuracy (%)")
    if title:
        fig.suptitle(title)
    return finish(fig)
