"""Numbers in README.md."""

import functools

import facts

from ser_utils.paper import HUMAN, MODEL_NAMES, TABLE2

README = "README.md"


@functools.cache
def table():
    found = facts.table2()
    return found[found.folds > 0]


def accuracies(name):
    """Accuracy of one row of Table 2 under random, twins and actors."""
    rows = table()[table().name == name].set_index("protocol")
    return tuple(rows.accuracy[["random", "twins", "actors"]])


def best(protocol):
    """The most accurate network, its accuracy, and that of the seven averaged."""
    part = table()[table().protocol == protocol]
    networks = part[part.group == "network"]
    row = networks.loc[networks.accuracy.idxmax()]
    return row["name"], row.accuracy, part.accuracy[part.model == "ensemble"].iloc[0]


def least_loss():
    """The smallest loss of a network from random to actors, whole points, rounded down."""
    networks = table()[table().group == "network"].pivot(index="name", columns="protocol", values="accuracy")
    return (int((networks.random - networks.actors).min()),)


def half_width(*protocols):
    """Half the mean width of the networks' 95 % intervals, rounded."""
    part = table()[(table().group == "network") & table().protocol.isin(protocols)]
    return round((part.accuracy_high - part.accuracy_low).mean() / 2)


def row(name, paper):
    return (README, f"| {name} | {paper} | {{:.1f}} | {{:.1f}} | {{:.1f}} |", lambda: accuracies(name))


CLAIMS = [
    (README, "On the paper's random split the most accurate network is the {}, with {:.1f} %, and all seven averaged "
             "reach {:.1f} %.", lambda: best("random")),
    (README, "On voices never heard before the best is {}, with {:.1f} %, the average of the seven {:.1f} %; people, "
             f"who chose among {HUMAN['options']} emotions, reach {HUMAN['overall']} %.", lambda: best("actors")),
    (README, "Every network loses {} points or more from the one to the other: that much is the known voice, not the "
             "emotion.", least_loss),
    (README, "The 95 % intervals are about ±{} points for `random` and `twins`, ±{} for `actors`;",
     lambda: (half_width("random", "twins"), half_width("actors"))),
    *(row(name, TABLE2[model][0]) for model, name in MODEL_NAMES.items()),
    *(row(name, "–") for name in ("Ensemble, mean", "Logistic regression")),
]
