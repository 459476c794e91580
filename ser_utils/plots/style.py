"""One look for every figure: colours, matplotlib settings, the synthetic corpus's banner, saving.

How a figure function ends: ``return finish(fig)``. In a notebook make the figure the last line of its cell,
or call ``display(fig)``: :func:`finish` takes it out of pyplot's list, so that it is shown once and not
twice.
"""

import contextlib
import re
import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure

from ser_utils.data.corpus import BANNER
from ser_utils.paths import FIGURES, atomic_write

# Okabe and Ito's palette for colour-blind readers; grey for their black, wine for their yellow.
EMOTION_COLORS = {
    "neutral": "#8C8C8C", "calm": "#56B4E9", "happy": "#E69F00", "sad": "#0072B2",
    "angry": "#D55E00", "fearful": "#882255", "disgust": "#009E73", "surprised": "#CC79A7",
}

# Paul Tol's "muted" palette.
MODEL_COLORS = {
    "alexnet": "#88CCEE", "resnet": "#332288", "inceptionnet": "#44AA99", "vgg16": "#DDCC77", "vgg19": "#999933",
    "lstm": "#CC6677", "transformer": "#882255",
}
OTHER_COLOR = "#7A7A7A"  # a model without a colour of its own: ensemble, baselines
INK = "#222222"
GREY = "#6B6B6B"
BANNER_COLOR = "#B00020"

_corpus = "ravdess"


STYLE = {
    "figure.figsize": (8, 4.5), "figure.dpi": 100, "figure.titlesize": 13, "figure.titleweight": "bold",
    "figure.constrained_layout.use": True, "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": INK,
    "axes.labelcolor": INK, "axes.edgecolor": GREY, "axes.titlesize": 11, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=list(MODEL_COLORS.values())),
    "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.8,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": False, "legend.fontsize": 9, "lines.linewidth": 1.8, "image.cmap": "magma",
}


def use_style() -> None:
    """Set matplotlib's defaults for all figures that follow, whatever the user's own matplotlibrc says."""
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)


def set_corpus(kind: str) -> None:
    """Say which corpus the figures from now on show: "ravdess" or "synthetic" (these carry the banner).

    Raises ValueError if ``kind`` is neither.
    """
    global _corpus
    if kind not in ("ravdess", "synthetic"):
        raise ValueError(f"Unknown corpus {kind!r}; choose 'ravdess' or 'synthetic'.")
    _corpus = kind


@contextlib.contextmanager
def corpus_shown(kind: str):
    """As :func:`set_corpus`, for the figures made within a ``with`` statement."""
    before = _corpus
    set_corpus(kind)
    try:
        yield
    finally:
        set_corpus(before)


def finish(fig: Figure) -> Figure:
    """Give a figure its banner if the corpus is synthetic, take it out of pyplot's list, and return it.

    Calling it again changes nothing.
    """
    if _corpus == "synthetic" and not is_synthetic(fig):
        width, height = fig.get_size_inches()
        lines = textwrap.wrap(BANNER, max(20, int(width * 12.8)))
        strip = 0.19 * len(lines) + 0.12  # inches added on top
        share = strip / (height + strip)
        title = 0.32 / (height + strip) if fig.get_suptitle() else 0.0  # a placed title gets no room by itself
        fig.set_size_inches(width, height + strip)
        if (engine := fig.get_layout_engine()) is not None:
            engine.set(rect=(0, 0, 1, 1 - share - title))
        else:
            pars = fig.subplotpars
            fig.subplots_adjust(top=pars.top * (1 - share), bottom=pars.bottom * (1 - share))
        if fig.get_suptitle():
            fig.suptitle(fig.get_suptitle(), y=1 - share, va="top")
        fig.text(0.5, 1 - share / 2, "\n".join(lines), ha="center", va="center", fontsize=9, fontweight="bold",
                 color="white", gid="banner", in_layout=False,
                 bbox={"facecolor": BANNER_COLOR, "edgecolor": "none", "boxstyle": "square,pad=0.3"})
    plt.close(fig)
    return fig


def is_synthetic(fig: Figure) -> bool:
    """Whether a figure carries the synthetic corpus's banner."""
    return any(text.get_gid() == "banner" for text in fig.texts)


def save_fig(fig: Figure, fig_id: str, folder: str | Path) -> Path:
    """Finish a figure, write it whole or not at all as ``<folder>/<fig_id>.png`` (150 dpi); its path.

    Raises ValueError if ``fig_id`` is not made of small letters, digits, ``_`` and ``-``, or a figure of the synthetic
    corpus is to go among the published ones.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", fig_id):
        raise ValueError(f"Figure id {fig_id!r}: use small letters, digits, '_' and '-' only.")
    finish(fig)
    folder = Path(folder)
    if is_synthetic(fig) and folder.resolve().is_relative_to(FIGURES.resolve()):
        raise ValueError(f"{fig_id} shows the synthetic corpus and may not go into {FIGURES}; choose another folder.")
    path = folder / f"{fig_id}.png"
    with atomic_write(path) as temporary:
        fig.savefig(temporary, dpi=150, metadata={"Software": None})
    return path


def model_color(model: str) -> str:
    """The colour of a model; one grey for models without their own."""
    return MODEL_COLORS.get(model, OTHER_COLOR)


def text_color(background) -> str:
    """Black or white, whichever is read better on ``background`` (any matplotlib colour)."""
    red, green, blue = mpl.colors.to_rgb(background)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "white"
