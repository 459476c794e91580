"""Claims of the page on VGG16."""

from ser_utils.evaluation import tables
from ser_utils.paper import TABLE2

PAGE = "notebooks/06_vgg16.ipynb"


def accuracy(*protocols):
    """Accuracy of the published folds (%), one value a protocol."""
    return tuple(tables.network("vgg16").set_index("protocol").accuracy[list(protocols)])


CLAIMS = [
    (PAGE, "On the paper's split VGG16 recognises {:.1f} % of the clips; the paper reports {:.1f} %.",
     lambda: (*accuracy("random"), TABLE2["vgg16"][0])),
    (PAGE, "With twins kept together it is {:.1f} %, with unseen actors {:.1f} %:",
     lambda: accuracy("twins", "actors")),
]
