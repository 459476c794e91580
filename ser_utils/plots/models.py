"""Block diagrams of the networks, drawn from the networks themselves."""

import keras
import matplotlib.pyplot as plt
from keras import layers
from matplotlib.figure import Figure

from ser_utils import models
from ser_utils.paper import MODEL_NAMES
from ser_utils.plots.style import GREY, INK, finish

KINDS = {  # kind of stage -> (colour, label of the legend)
    "input": ("#EEEEEE", "input and reshaping"),
    "convolution": ("#CFE3F5", "convolution"),
    "recurrent": ("#F6D5D8", "recurrent"),
    "attention": ("#E3D5EE", "attention"),
    "dense": ("#F8E8C0", "dense"),
}
PLAIN = {  # what a stage without trainable layers does
    layers.InputLayer: "spectrogram: frames × bins × channels",
    layers.GlobalAveragePooling2D: "mean over frames and bins",
    layers.Flatten: "all values in one row",
    layers.LayerNormalization: "layer normalisation",
    models.FrameStack: "consecutive frames side by side",
    models.PositionalEncoding: "sine and cosine of the frame number",
}


def stages(model: keras.Model) -> list[dict]:
    """The stages of a network: its layers grouped by the part of their name before the first underscore.

    Each stage is a dict of ``name``, ``kind`` (see ``KINDS``), ``summary`` (words), ``shape`` (of its
    output, without the batch) and ``parameters`` (all, running averages included). The padding mask and the
    empty layer ``last_conv`` are left out; they hold no parameters.
    """
    groups: dict[str, list] = {}
    for layer in model.layers:
        stage = layer.name.split("_")[0]
        if stage not in ("mask", "last"):
            groups.setdefault(stage, []).append(layer)
    return [_stage(name, members) for name, members in groups.items()]


def _stage(name: str, members: list) -> dict:
    output = members[-1].output
    kind, summary = _describe(members)
    return {
        "name": name,
        "kind": kind,
        "summary": summary,
        "shape": tuple((output[0] if isinstance(output, (list, tuple)) else output).shape[1:]),
        "parameters": sum(layer.count_params() for layer in members),
    }


def _describe(members: list) -> tuple[str, str]:
    """Kind and summary of a stage."""
    def of(*classes):
        return [layer for layer in members if isinstance(layer, classes)]

    words, kind = [], "input"
    if dense := of(layers.Dense):
        kind = "dense"
        activation = ", softmax" if dense[-1].activation is keras.activations.softmax else ""
        words.append(f"{' and '.join(str(layer.units) for layer in dense)} units{activation}")
    if convolutions := of(layers.Conv1D, layers.Conv2D):
        kind = "convolution"
        words.append(_convolutions(convolutions))
    if recurrent := of(layers.Bidirectional):
        kind = "recurrent"
        words.append(f"LSTM, {recurrent[0].forward_layer.units} units in each direction")
    if heads := of(layers.MultiHeadAttention):
        kind = "attention"
        words = [f"attention with {heads[0].num_heads} heads, then {words[0]}"]
    elif blocks := of(layers.Add):
        words.append(f"{len(blocks)} skip connection{'s' * (len(blocks) > 1)}")
    if joins := of(layers.Concatenate):
        words.append(f"{len(joins[-1].input)} branches")
    if pooling := of(models.AttentionPooling):
        kind = "attention"
        words.append(f"weighted mean {'and deviation ' * pooling[0].statistics}over time")
    elif of(layers.MaxPooling2D) and not joins:
        words.append("max pooling")
    elif of(layers.AveragePooling2D) and not joins:
        words.append("mean over each frequency band")
    return kind, ", ".join(words) or PLAIN.get(type(members[0]), type(members[0]).__name__)


def _convolutions(convolutions: list) -> str:
    """For example "4 convolutions 3×3", "7 convolutions 1×1 to 5×5" or "2 convolutions 5 frames"."""
    sizes = sorted({layer.kernel_size for layer in convolutions}, key=lambda size: (max(size), size))
    kernels = ["×".join(map(str, size)) for size in sizes]
    kernels = f"{kernels[0]} to {kernels[-1]}" if len(kernels) > 2 else " and ".join(kernels)
    kernels += " frames" * isinstance(convolutions[0], layers.Conv1D)
    plural = "s" * (len(convolutions) > 1)
    return f"{len(convolutions)} convolution{plural} {kernels}"


def block_diagram(model: keras.Model | str, input_shape=(160, 80, 1), **options) -> Figure:
    """The stages of a network from input to output, with output shapes and parameter counts.

    Parameters
    ----------
    model : a network of ``models.build``, or the name of one, which is then built.
    input_shape, **options : with a name, passed to ``models.build``.

    Returns
    -------
    A figure: one box a stage (name, what it does, output shape), and beside it a bar for its parameters.

    Raises
    ------
    ValueError
        As ``models.build`` does, for an unknown name or option.
    """
    if isinstance(model, str):
        model = models.build(model, input_shape, **options)
    rows = stages(model)
    fig, ax = plt.subplots(figsize=(9, 1.3 + 0.5 * len(rows)))
    largest = max(row["parameters"] for row in rows) or 1
    for y, row in enumerate(rows):
        colour = KINDS[row["kind"]][0]
        ax.add_patch(plt.Rectangle((0, y - 0.36), 6.4, 0.72, facecolor=colour, edgecolor=GREY, linewidth=0.8))
        ax.text(0.12, y, row["name"], va="center", weight="bold", color=INK)
        ax.text(1.5, y, row["summary"], va="center", fontsize=9, color=INK)
        ax.text(6.28, y, " × ".join(map(str, row["shape"])), va="center", ha="right", fontsize=9, color=INK)
        if y:
            ax.annotate("", (3.2, y - 0.36), (3.2, y - 0.64), arrowprops={"arrowstyle": "-|>", "color": GREY})
        if row["parameters"]:
            bar = 1.5 * row["parameters"] / largest
            ax.add_patch(plt.Rectangle((6.6, y - 0.2), bar, 0.4, facecolor=GREY, alpha=0.6, linewidth=0))
            ax.text(6.68 + bar, y, f"{row['parameters']:,}", va="center", fontsize=9, color=INK)
    ax.text(6.28, -0.6, "output shape", ha="right", fontsize=8, color=GREY)
    ax.text(6.6, -0.6, "parameters", fontsize=8, color=GREY)
    used = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=KINDS[kind][0], edgecolor=GREY) for kind in used]
    ax.legend(handles, [KINDS[kind][1] for kind in used], loc="upper left", bbox_to_anchor=(0, 0),
              ncols=len(used), frameon=False, fontsize=8)
    ax.set(xlim=(-0.05, 9.1), ylim=(len(rows) - 0.5, -0.9))
    ax.axis("off")
    total = sum(row["parameters"] for row in rows)
    ax.set_title(f"{MODEL_NAMES.get(model.name, model.name)}: {total:,} parameters", loc="left")
    return finish(fig)
