"""ser_utils.plots.style: every figure looks the same, whatever its user has set."""

import matplotlib as mpl
import pytest

from ser_utils.paths import FIGURES
from ser_utils.plots import style

OWN = {"figure.figsize": (2, 2), "savefig.dpi": 20, "savefig.transparent": True, "savefig.bbox": "tight",
       "axes.facecolor": "black", "axes.grid": False, "lines.linewidth": 9, "font.size": 30, "image.origin": "lower",
       "xtick.direction": "in", "text.usetex": True}


def drawn(folder) -> bytes:
    style.use_style()
    figure, axis = style.plt.subplots()
    axis.plot([0, 1], [0, 1], label="a line")
    axis.legend()
    return style.save_fig(figure, "line", folder).read_bytes()


def test_the_users_own_settings_change_no_figure(tmp_path):
    with mpl.rc_context():
        expected = drawn(tmp_path / "none")
        mpl.rcParams.update(OWN)
        assert drawn(tmp_path / "own") == expected
        assert mpl.get_backend().lower() == "agg"


@pytest.mark.usefixtures("clean_style")
def test_a_figure_of_the_synthetic_corpus_is_not_saved_among_the_published_ones():
    with style.corpus_shown("synthetic"), pytest.raises(ValueError, match="shows the synthetic corpus"):
        style.save_fig(style.plt.figure(), "line", FIGURES)
