"""Numbers in the prose of notebooks/11_validity.ipynb."""

import functools

import facts
import pandas as pd
from facts import WORDS

from ser_utils.paper import TABLE2
from ser_utils.paths import RESULTS
from ser_utils.studies import audit, leakage
from ser_utils.training import runs

FILE = "notebooks/11_validity.ipynb"
CONTROLS = pd.read_csv(RESULTS / "validity" / "quick" / "controls.csv").set_index(["what", "protocol"]).score


@functools.cache
def scores(profile):
    return leakage.scores(leakage.load_published()[profile]).set_index(["shortcut", "model"])


def gain(shortcut, model, profile="quick"):
    return scores(profile).gain[shortcut, model]


def verdicts(metric):
    return WORDS[len(audit.grim().query("metric == @metric and verdict == 'impossible'"))]


def gaps():
    """The least and the largest gain of the random split over unseen actors, at either size."""
    found = [-gain("actors", *run) for run in (("alexnet",), ("transformer",), ("transformer", "full"))]
    return min(found), max(found)


def climbed():
    return tuple(scores("full").accuracy[shortcut, "transformer"] for shortcut in ("actors", "random", "everything"))


def last_step():
    assert max(accuracy for accuracy, *_ in TABLE2.values()) > scores("full").accuracy.max()
    return max(accuracy for accuracy, *_ in TABLE2.values())


def chance():
    """UAR with shuffled labels, whose intervals must hold 12.5 %; the loudest cue."""
    shuffled = scores("quick").loc["permuted"]
    assert ((shuffled.uar_low < 12.5) & (shuffled.uar_high > 12.5)).all()
    return CONTROLS["loudness of the speech"].round(1).unique().item()


def named():
    return tuple(CONTROLS[what, "random"] for what in ("last features of AlexNet", "last features of Transformer",
                                                       "mean log-mel spectrum"))


def epoch_on_test():
    found = scores("quick").loc[["test_statistics", "test_epoch", "copies"]]
    assert not ((found.p < 0.05) & (found.gain > 0)).any()  # of the others none gains, after Holm
    return gain("test_epoch", "alexnet"), gain("test_epoch", "transformer")


def pays_nothing():
    assert max(gain("copies", model) for model in ("alexnet", "transformer")) < 0
    return ()


def by_speaker():
    (both,) = {round(gain("by_speaker", model)) for model in ("alexnet", "transformer")}
    return both


def twins_cost():
    assert scores("quick").p["twins", "alexnet"] > 0.05
    return -gain("twins", "alexnet"), -gain("twins", "transformer")


def published():
    """Points that the published networks lose, least and most: from random to twins, and from twins to actors."""
    table = facts.table2().query("group == 'network'").pivot(index="model", columns="protocol", values="accuracy")
    return (*(table.random - table.twins).agg(["min", "max"]), *(table.twins - table.actors).agg(["min", "max"]))


def pairs():
    table = audit.pairs()
    assert (table.holm_unpaired > 0.05).all()
    return (table.p_unpaired < 0.05).sum()


CLAIMS = [(FILE, *claim) for claim in (("{} of the paper's seven accuracies are impossible with 240 test clips.",
     lambda: verdicts("accuracy").capitalize()),
    ("the same network, as trained for this page, loses {:.0f} to {:.0f} points when the voices of the test clips, and "
     "with them their second takes, are new to it", gaps),
    ("All three shortcuts at once added {:.1f} points to a full-size Transformer on one fold, its epoch chosen on test "
     "clips.", lambda: gain("everything", "transformer", "full")),
    ("In a stratified test set {} of the seven recalls are impossible, too.", lambda: verdicts("recall")),
    ("The smallest number of test clips that allows all seven accuracies is {}", lambda: next(n for n in range(1, 1441)
     if all(audit.numerators(printed[0], n) for printed in TABLE2.values()))),
    ("From {} tests on every figure is possible",
     lambda: WORDS[audit.averaging().query("accuracies == 7 and recalls == 7").runs.min()]),
    ("All {} agree with the harmonic mean", lambda: WORDS[audit.f1_check().consistent.sum()]),
    ("{} of the 21 pairs differ at the 5 % level, and none after Holm's correction", pairs),
    ("Even in the most favourable case {} of the 21 differences do not survive",
     lambda: (audit.pairs().holm_least >= 0.05).sum()),
    ("twins kept together, AlexNet gains {:.1f} points and the Transformer {:.1f}.",
     lambda: tuple(gain("twins", model) - gain("actors", model) for model in ("alexnet", "transformer"))),
    ("**Twins cost these small networks little**: {:.1f} points, within chance, and {:.1f}.", twins_cost),
    ("They lose {:.1f} to {:.1f} points when twins are kept together, and by new voices {:.1f} to {:.1f} more",
     published),
    ("gains {:.1f} points for AlexNet and {:.1f} for the Transformer", epoch_on_test),
    ("**Copies before the split pay nothing here**", pays_nothing),
    ("both networks gain about {} points on unseen actors", by_speaker),
    ("Accuracy rises from {:.1f} % on unseen actors to {:.1f} % on the random split and {:.1f} % with all three "
     "shortcuts.", climbed),
    ("Shortcuts may explain a few points of a table like the paper's; on these runs they do not reach its best figure, "
     "{} %", last_step),
    ("With shuffled labels both networks stay at chance: the procedure itself gives nothing away. Loudness alone "
     "reaches a mean recall of {:.1f} %", chance),
    ("an actor is named in {:.1f} % (AlexNet) and {:.1f} % (Transformer) of the test clips, from the mean spectrum in "
     "{:.1f} %", named), ("two networks on all six folds: {} runs", lambda: int(scores("quick").folds.sum())),
    ("{} published runs checked, 0 refused.", lambda: len(runs.find(RESULTS, seeds=True))))]
