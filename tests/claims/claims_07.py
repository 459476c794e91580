"""Numbers in the prose of notebook 07."""

import facts
from claims_06 import by_loss
from scipy.stats import binomtest

from ser_utils.evaluation import tables
from ser_utils.paper import TABLE2
from ser_utils.paths import RESULTS
from ser_utils.training import runs

PAGE = "notebooks/07_vgg19.ipynb"


def smallest_p():
    """McNemar's exact test between VGG16 and VGG19, the smallest p-value of the protocols."""
    right = [runs.predictions(RESULTS, model=model).set_index(["protocol", "clip"]).eval("prediction == label")
             for model in ("vgg16", "vgg19")]
    only = (right[0] & ~right[1]).groupby("protocol").sum(), (~right[0] & right[1]).groupby("protocol").sum()
    return min(binomtest(a, a + b).pvalue for a, b in zip(*only, strict=True))


def extra_parameters():
    """By how many per cent VGG19 has more parameters than VGG16."""
    sizes = runs.table(RESULTS).groupby("model").parameters.first()
    return 100 * (sizes.vgg19 / sizes.vgg16 - 1)


def quiet_most_angry_least() -> tuple:
    """Nothing to fill in."""
    order = by_loss("vgg19")
    assert set(order[:4]) == {"calm", "fearful", "neutral", "sad"} and order[-1] == "angry", order
    return ()


CLAIMS = [
    (PAGE, "The paper reproduced here reports {:.1f} % for VGG16 and {:.1f} % for VGG19",
     lambda: (TABLE2["vgg16"][0], TABLE2["vgg19"][0])),
    (PAGE, "On the paper's split VGG19 recognises {:.1f} % of the clips; the paper reports {:.1f} %.",
     lambda: facts.ours_and_the_papers("vgg19")),
    (PAGE, "With unseen actors it is {:.1f} %.",
     lambda: tables.network("vgg19").set_index("protocol").accuracy["actors"]),
    (PAGE, "training accuracy ends above 95 % under every protocol.",
     lambda: facts.training_ends_above_95("vgg16") + facts.training_ends_above_95("vgg19")),
    (PAGE, "New voices cost calm, fearful, neutral and sad most, angry least.", quiet_most_angry_least),
    (PAGE, "The smallest of the three p-values is {:.2f}, so no difference stands out from chance.", smallest_p),
    (PAGE, "The price of the three layers is {:.0f} % more parameters.", extra_parameters),
]
