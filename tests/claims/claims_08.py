"""Numbers in the prose of notebook 08."""

import facts
from claims_06 import shares, taken_for

from ser_utils.evaluation import tables

PAGE = "notebooks/08_lstm.ipynb"


def neutral_rarely() -> tuple:
    """Nothing to fill in."""
    assert shares("lstm", "actors")[0, 0] < 1 / 3
    assert taken_for("lstm", "neutral", 3) == {"sad", "calm", "happy"}
    return ()


CLAIMS = [
    (PAGE, "On the paper's split the LSTM recognises {:.1f} % of the clips; the paper reports {:.1f} %.",
     lambda: facts.ours_and_the_papers("lstm")),
    (PAGE, "With unseen actors it is {:.1f} %.",
     lambda: tables.network("lstm").set_index("protocol").accuracy["actors"]),
    (PAGE, "Of new voices' neutral clips it recognises fewer than one in three and takes most of the others for sad, "
     "calm or happy.", neutral_rarely),
]
