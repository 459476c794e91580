"""ser_utils.plots.style: every figure looks the same, on whatever machine it is drawn."""

import os
import subprocess
import sys

import matplotlib as mpl
import pytest

from ser_utils.paths import ROOT
from ser_utils.plots import style

OWN = """
figure.figsize: 2, 2
savefig.dpi: 20
savefig.transparent: True
savefig.bbox: tight
axes.facecolor: black
axes.grid: False
lines.linewidth: 9
font.size: 30
image.origin: lower
xtick.direction: in
"""
DRAW = """
import sys
import matplotlib.pyplot as plt
from ser_utils.plots import style
style.use_style()
figure, axis = plt.subplots()
axis.plot([0, 1], [0, 1], label="a line")
axis.legend()
print(style.save_fig(figure, "line", sys.argv[1]))
"""


def drawn(folder, **environment):
    """The bytes of a figure drawn in a process of its own."""
    command = [sys.executable, "-c", DRAW, str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "MPLBACKEND": "Agg", **environment})
    return (folder / "line.png").read_bytes()


def test_the_users_own_matplotlibrc_changes_no_figure(tmp_path):
    settings = tmp_path / "settings" / "matplotlibrc"
    settings.parent.mkdir()
    settings.write_text(OWN)
    assert drawn(tmp_path / "own", MATPLOTLIBRC=str(settings)) == drawn(tmp_path / "none", MATPLOTLIBRC="")


@pytest.mark.parametrize("setting, value", [("axes.grid", False), ("text.usetex", True), ("savefig.dpi", 20),
                                            ("image.origin", "lower")])
def test_what_was_set_before_in_this_process_is_forgotten(setting, value):
    with mpl.rc_context():
        style.use_style()
        expected = mpl.rcParams[setting]
        mpl.rcParams[setting] = value
        style.use_style()
        assert mpl.rcParams[setting] == expected != value
        assert mpl.get_backend().lower() == "agg"
