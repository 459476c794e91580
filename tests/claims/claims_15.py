"""Numbers in the prose of notebooks/15_try_it.ipynb."""

import claims_12
import facts

from ser_utils.paths import RESULTS
from ser_utils.training import runs

FILE = "notebooks/15_try_it.ipynb"


def shipped(enrolled="", clips=()):
    """Accuracy of the six networks trained as ``ser-small`` is, on all test clips or some; of enrolled voices."""
    answers = runs.predictions(RESULTS / "robust", f"actors{enrolled}", "vgg19")
    assert answers.fold.nunique() == 6
    answers = answers[answers["clip"].isin(clips)] if len(clips) else answers
    return 100 * (answers.label == answers.prediction).mean()


def known():
    """On the clips that are never enrolled: without, with 20 and with five."""
    clips = runs.predictions(RESULTS / "robust", "actors_enrolled20", "vgg19")["clip"]
    return shipped(clips=clips), shipped("_enrolled20"), shipped("_enrolled5")


CLAIMS = [(FILE, "Six networks trained alike, each tested on four voices it never heard, are right for {:.1f} % of the "
           "clips.", shipped),
          (FILE, "over all 24 voices 20 clips take `ser-small`'s recipe from {:.1f} to {:.1f} % of the other "
           "clips, and five to {:.1f} %.", known),
          (FILE, "On clean clips of new voices the published networks are still {:.1f} points too sure, from {:+.1f} "
           "to {:+.1f} by fold", lambda: claims_12.by_fold()[1:]),
          (FILE, "On voices it never heard AlexNet is right for {:.1f} % of the clips",
           lambda: facts.network("alexnet").accuracy["actors"])]
