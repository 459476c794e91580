"""Numbers in README.md."""

import facts
import pandas as pd

from ser_utils import PROTOCOLS
from ser_utils.evaluation import tables
from ser_utils.paper import HUMAN, MODEL_NAMES, TABLE2

README = "README.md"
table = facts.table2


def enrolled():
    """The seven averaged on the 40 clips of a voice whose others are enrolled, and without; with the aligned view."""
    rows = table()[table().protocol == "actors_enrolled20"].set_index("model").accuracy
    before, after = facts.enrolment()
    return 100 * after.ensemble.mean(), 100 * before.ensemble.mean(), rows["aligned_ensemble"]


def beside_people():
    """The best network on unseen actors, its accuracy and that of the seven averaged; on people's options, interval."""
    tests = facts.predictions("actors")
    best, scored = facts.best("actors"), tables.against_people(tests).set_index("name")
    return *best, best[0], *scored.loc[best[0], ["accuracy", "low", "high"]]


def half_width(protocol):
    """Half the mean width of the networks' 95 % intervals, rounded."""
    part = table()[(table().group == "network") & (table().protocol == protocol)]
    return round((part.accuracy_high - part.accuracy_low).mean() / 2)


def row(name, paper="–"):
    """A row of the table: accuracies, and "–" where none was measured."""
    def values():
        scores = table().pivot(index="name", columns="protocol", values="accuracy")
        divided = facts.twins().set_index("name").reindex([name])[["twin", "alone"]].iloc[0]
        shown = (scores["random"][name], scores["random"].get(f"{name}, refit"), *divided,
                 *scores.loc[name, ["twins", "actors"]])
        return tuple("–" if pd.isna(score) else f"{score:.1f}" for score in shown)

    return (README, f"| {name} | {paper} | " + " | ".join(["{}"] * 6) + " |", values)


CLAIMS = [
    (README, "On the paper's random split the most accurate network is the {}, with {:.1f} %, and all seven averaged "
             "reach {:.1f} %.", lambda: facts.best("random")),
    (README, "On voices never heard before the best is {}, with {:.1f} %, the average of the seven {:.1f} %. Scored as "
             "people were, with neutral and calm as one, {} reaches {:.1f} % (95 % interval {:.1f} to {:.1f}); a "
             f"listener, on average, {HUMAN['overall']} %.", beside_people),
    (README, "From the random split to new voices the networks lose {:.0f} points on average ({:.0f} to {:.0f}): "
             "no test clip has its voice or second take in training, and {} voices train in place of {}.",
     lambda: (*facts.lost("random", "actors"), *facts.voices("actors", "random"))),
    (README, "The 95 % intervals are about ±{} points for `random`, ±{} for `twins`, ±{} for `actors`;",
     lambda: tuple(map(half_width, PROTOCOLS))), *(row(MODEL_NAMES[model], said[0]) for model, said in TABLE2.items()),
    *map(row, ("Ensemble, mean", "Ensemble with the aligned view", "SVM (RBF kernel)")),
    (README, "With 20 unlabelled clips of the new voice enrolled, in mixed emotions, the seven averaged recognise "
             "{:.1f} % of its other clips in place of {:.1f} %, with the aligned view {:.1f} %.", enrolled)]
