"""One look for every figure: colours, matplotlib settings, the synthetic corpus's banner, saving.

A figure function ends with ``return finish(fig)``: a notebook then shows the figure once and not twice.
"""

import contextlib
import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure

from ser_utils.data.corpus import BANNER
from ser_utils.paths import FIGURES, atomic_write

EMOTION_COLORS = {  # Okabe and Ito's palette for colour-blind readers, with wine for their yellow
    "neutral": "#000000", "calm": "#56B4E9", "happy": "#E69F00", "sad": "#0072B2",
    "angry": "#D55E00", "fearful": "#882255", "disgust": "#009E73", "surprised": "#CC79A7"}
MODEL_COLORS = {  # Paul Tol's "muted" palette
    "alexnet": "#88CCEE", "resnet": "#332288", "inceptionnet": "#44AA99", "vgg16": "#DDCC77", "vgg19": "#999933",
    "lstm": "#CC6677", "transformer": "#882255"}
PART_COLORS = {"train": "#0072B2", "val": "#E69F00", "test": "#882255"}
GENDER_COLORS = {"female": "#CC79A7", "male": "#0072B2"}
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
    "axes.prop_cycle": cycler(color=[*PART_COLORS.values(), "#009E73", "#CC79A7", "#56B4E9"]),
    "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.8,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": False, "legend.fontsize": 9, "lines.linewidth": 1.8, "image.cmap": "magma"}


def use_style() -> None:
    """Set matplotlib's defaults for all figures that follow, whatever the user's own matplotlibrc says."""
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)


def set_corpus(kind: str) -> None:
    """Say which corpus the figures from now on show: "ravdess" or "synthetic" (these carry the banner)."""
    global _corpus
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

    The figure must have no title above its panels and a constrained layout. Calling it again changes nothing.
    """
    if _corpus == "synthetic" and not is_synthetic(fig):
        width, height = fig.get_size_inches()
        lines = textwrap.wrap(BANNER, max(20, int(width * 12.8)))
        strip = 0.19 * len(lines) + 0.12  # inches added on top
        share = strip / (height + strip)
        fig.set_size_inches(width, height + strip)
        fig.get_layout_engine().set(rect=(0, 0, 1, 1 - share))
        fig.text(0.5, 1 - share / 2, "\n".join(lines), ha="center", va="center", fontsize=9, fontweight="bold",
                 color="white", gid="banner", in_layout=False,
                 bbox={"facecolor": BANNER_COLOR, "edgecolor": "none", "boxstyle": "square,pad=0.3"})
    plt.close(fig)
    return fig


def is_synthetic(fig: Figure) -> bool:
    """Whether a figure carries the synthetic corpus's banner."""
    return any(text.get_gid() == "banner" for text in fig.texts)


def described(fig: Figure) -> str:
    """What a figure shows, for those who don't see it: its titles, and "y by x" of its panels, each once."""
    said = [fig.get_suptitle(), *(axis.get_title("left") for axis in fig.axes)]
    labels = [(fig.get_supylabel(), fig.get_supxlabel()), *((a.get_ylabel(), a.get_xlabel()) for a in fig.axes)]
    said += [" by ".join(filter(None, pair)) for pair in labels]
    return "; ".join(dict.fromkeys(" ".join(text.split()) for text in said if text))


def save_fig(fig: Figure, fig_id: str, folder: str | Path) -> Path:
    """Finish a figure, write it whole or not at all as ``<folder>/<fig_id>.png`` (150 dpi); its path.

    Raises ValueError if a figure of the synthetic corpus is to go among the published ones.
    """
    finish(fig)
    path = Path(folder) / f"{fig_id}.png"
    if is_synthetic(fig) and path.resolve().is_relative_to(FIGURES.resolve()):
        raise ValueError(f"{fig_id} shows the synthetic corpus and may not go into {FIGURES}; choose another folder.")
    with atomic_write(path) as temporary:
        fig.savefig(temporary, dpi=150, metadata={"Software": None})
    return path


def model_color(model: str) -> str:
    """The colour of a model; one grey for those without their own (ensembles, references)."""
    return MODEL_COLORS.get(model, "#7A7A7A")
