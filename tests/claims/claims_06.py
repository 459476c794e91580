"""Numbers in the prose of notebook 06, and what new voices cost a network, emotion by emotion."""

import facts
import numpy as np

from ser_utils import EMOTIONS
from ser_utils.evaluation import metrics, tables
from ser_utils.paths import RESULTS
from ser_utils.training import runs

PAGE = "notebooks/06_vgg16.ipynb"


def shares(model: str, protocol: str) -> np.ndarray:
    """What the test clips of each emotion (rows) are taken for."""
    test = runs.predictions(RESULTS, protocol, model)
    counts = metrics.confusion(test.label, test.prediction)
    return counts / counts.sum(axis=1, keepdims=True)


def by_loss(model: str) -> list[str]:
    """The emotions by what recall they lose from known to new voices, the most first."""
    lost = shares(model, "random").diagonal() - shares(model, "actors").diagonal()
    return [EMOTIONS[label] for label in np.argsort(-lost)]


def taken_for(model: str, emotion: str, count: int) -> set[str]:
    """The emotions that clips of new voices are taken for most, by mistake."""
    row = shares(model, "actors")[EMOTIONS.index(emotion)]
    order = [EMOTIONS[label] for label in np.argsort(-row)]
    return set([other for other in order if other != emotion][:count])


def neutral_most_angry_least() -> tuple:
    """Nothing to fill in."""
    order = by_loss("vgg16")
    assert (order[0], order[-1]) == ("neutral", "angry"), order
    assert taken_for("vgg16", "neutral", 3) == {"sad", "happy", "calm"}
    return ()


CLAIMS = [
    (PAGE, "On the paper's split VGG16 recognises {:.1f} % of the clips; the paper reports {:.1f} %.",
     lambda: facts.ours_and_the_papers("vgg16")),
    (PAGE, "With twins kept together it is {:.1f} %, with unseen actors {:.1f} %:",
     lambda: tuple(tables.network("vgg16").set_index("protocol").accuracy[["twins", "actors"]])),
    (PAGE, "suffers most from new voices and is taken for sad, happy or calm; angry suffers least.",
     neutral_most_angry_least),
]
