import numpy as np
import pandas as pd
import pytest

from ser_utils import search
from ser_utils.plots import search as plots


def made_up(n=20):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "state": ["complete"] * n + ["pruned"], "learning_rate": 10 ** rng.uniform(-3.5, -2.6, n + 1),
        "weight_decay": 10 ** rng.uniform(-3, -0.8, n + 1), "batch_size": rng.choice([16, 32, 64], n + 1),
        "label_smoothing": rng.choice([0, 0.1], n + 1), "dropout": rng.choice([0.1, 0.3], n + 1),
        "ema": rng.choice([0.0, 0.99], n + 1), "variation": rng.choice([0.5, 1.0], n + 1),
        "masks": rng.choice([0, 1, 2], n + 1)})
    table["value"] = np.where(table.state == "complete", 0.5 + 0.1 * table.masks, np.nan)
    return table


def test_trials_draws_every_setting_the_important_ones_first(clean_style):
    fig = plots.trials(made_up())
    drawn = [ax for ax in fig.axes if ax.get_visible()]
    assert len(drawn) == len(search.SPACE) == len(plots.TITLES)
    assert drawn[0].get_title(loc="left").startswith(plots.TITLES["masks"])
    assert len(drawn[0].lines[0].get_xdata()) == 20 and "20 recipes" in fig.get_suptitle()


def test_trials_needs_finished_trials(clean_style):
    with pytest.raises(ValueError, match="too few"):
        plots.trials(made_up(2))
