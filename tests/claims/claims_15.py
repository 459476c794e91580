"""Numbers in the prose of notebooks/15_try_it.ipynb."""

import facts

from ser_utils.paths import RESULTS
from ser_utils.training import runs

FILE = "notebooks/15_try_it.ipynb"


def shipped():
    """Accuracy of the six networks that were trained as the one that ships was."""
    answers = runs.predictions(RESULTS / "robust", "actors", "vgg19")
    assert answers.fold.nunique() == 6
    return 100 * (answers.label == answers.prediction).mean()


CLAIMS = [(FILE, "Six networks trained alike, each tested on four voices it never heard, are right for {:.1f} % of the "
           "clips.", shipped),
          (FILE, "On voices it never heard AlexNet is right for {:.1f} % of the clips",
           lambda: facts.network("alexnet").accuracy["actors"])]
