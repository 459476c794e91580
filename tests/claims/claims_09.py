"""Numbers in the prose of notebook 09."""

import facts
from claims_06 import by_loss, taken_for

from ser_utils.evaluation import tables
from ser_utils.paper import TABLE2

PAGE = "notebooks/09_transformer.ipynb"


def its_best() -> tuple:
    """Ours, and the paper's, which is the highest of its Table 2."""
    assert max(TABLE2, key=lambda model: TABLE2[model][0]) == "transformer"
    return facts.ours_and_the_papers("transformer")


def neutral_and_fearful_most() -> tuple:
    """Nothing to fill in."""
    order = by_loss("transformer")
    assert set(order[:2]) == {"neutral", "fearful"} and order[-1] == "angry", order
    assert all(taken_for("transformer", emotion, 1) == {"sad"} for emotion in order[:2])
    return ()


CLAIMS = [
    (PAGE, "the Transformer recognises {:.1f} % of the clips; the paper reports {:.1f} %, its best.", its_best),
    (PAGE, "With unseen actors it is {:.1f} %.",
     lambda: tables.network("transformer").set_index("protocol").accuracy["actors"]),
    (PAGE, "New voices cost neutral and fearful most, which are then often taken for sad; angry they cost least.",
     neutral_and_fearful_most),
]
