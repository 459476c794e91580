"""Numbers in the prose of notebooks/14_recipe.ipynb."""

import functools

import facts
import pandas as pd

from ser_utils import paper
from ser_utils.data import folds
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.paths import RESULTS
from ser_utils.studies import ablation
from ser_utils.training import runs

FILE = "notebooks/14_recipe.ipynb"
TWO = ("alexnet", "transformer")


@functools.cache
def table():
    return ablation.table("recipe").set_index(["protocol", "model", "variant"])


def worth(variant, model, protocol="random"):
    return -table().difference[protocol, model, variant]


def searched():
    trials = pd.read_csv(RESULTS / "search" / "resnet-full-60.csv")
    values = 100 * trials.value[trials.state == "complete"]
    assert values.nlargest(5).max() - values.nlargest(5).min() < 3
    return len(trials), len(values), values.min(), values.max()


def at_full_length():
    assert (table().xs("searched", level="variant").p > 0.05).all()
    return worth("searched", "resnet"), -worth("searched", "resnet", "actors")


def beyond_doubt(*places):
    """What choices are worth whose interval leaves out zero, with a p of 0.05 or hardly more."""
    for place in places:
        row = table().loc[("random", *place)]
        assert row.high < 0 and row.p < 0.055
    return tuple(worth(variant, model) for model, variant in places)


def level():
    rows = [table().loc["actors", model, "level"] for model in ("alexnet", "resnet")]
    assert all(row.low < 0 < row.high for row in rows)
    return tuple(row.difference for row in rows)


@functools.cache
def three():
    """Validation clips of three trainings of the recipe on every fold of ``random``."""
    own = facts.predictions("random", subset="val", seeds=True).query("seed <= 1")
    again = pd.concat(runs.read_predictions(path).query("subset == 'val'").assign(
        model=path.parts[-2], fold=int(path.name[4:]), seed=-1)
        for place, path in ablation.published("recipe")["again"].items() if place.startswith("random"))
    found = pd.concat([own[own.model.isin(TWO)], again])
    return found.assign(right=100 * (found.prediction == found.label))


def trainings():
    return tuple(three().groupby(["model", "seed"]).right.mean()[model, seed] for model in TWO for seed in (0, -1, 1))


def largest_on_a_fold():
    by_fold = three().groupby(["model", "fold", "seed"]).right.mean().unstack().T
    return facts.WORDS[round((by_fold.max() - by_fold.min()).max())]


def averaged():
    mean = three().groupby(["model", "clip", "label"])[PROBABILITIES].mean().reset_index("label")
    right = (100 * (mean[PROBABILITIES].to_numpy().argmax(axis=1) == mean.label)).groupby("model").mean()
    return tuple((right - three().groupby("model").right.mean())[list(TWO)])


def doublings(protocol):
    """What a doubling of the clips brings; with new voices, more than any setting that was tried there."""
    grown = ablation.growth().query("protocol == @protocol and model == 'alexnet'").set_index("clips")
    assert protocol == "random" or grown.gain.min() > table().loc["actors"].difference.abs().max()
    return grown.gain[480], grown.gain[960]


def on_fold_0():
    found = three().query("fold == 0").groupby(["model", "seed"]).right.mean()
    return tuple(found[model, 0] - found[model, -1] for model in TWO)


def refits():
    """What a refit gains: clips whose twin comes in, least and most points; other clips, least and most of all networks
    but one, that one, and its points."""
    tests = runs.predictions(RESULTS, "random", references=True, seeds=True)
    comes = pd.Series(folds.twin_part(tests["clip"], tests.fold) == "val", tests.index).map({True: "new", False: "old"})
    right = (100 * (tests.label == tests.prediction)).groupby([tests.model, comes]).mean().unstack()
    gain = right.loc[facts.refits().model]
    gain = gain - right.loc[gain.index.str.removesuffix("_refit")].to_numpy()
    clips, old = tests.groupby(comes)["clip"].nunique(), gain.old.sort_values()
    return (clips.new, gain.new.min(), gain.new.max(), clips.old, facts.WORDS[len(old) - 1], old.iloc[0], old.iloc[-2],
            paper.MODEL_NAMES[old.index[-1].removesuffix("_refit")], old.iloc[-1])


def ten_folds():
    """Test clips whose twin trains (%), the others (clips), networks; least and most on either, there and from 960."""
    tests = facts.predictions("random10").groupby("model").filter(lambda part: part.fold.nunique() == 10)
    tests = tests.assign(right=lambda table: 100.0 * (table.label == table.prediction))
    where = pd.Series(folds.twin_part(tests["clip"], tests.fold, "random10"), tests.index)
    right = tests.pivot_table("right", "model", where)[["train", "test"]]
    right = right.join(facts.twins()[["twin", "alone"]])
    return (100 * (where == "train").mean(), tests["clip"][where == "test"].nunique(), facts.WORDS[len(right)],
            *right.agg(["min", "max"]).unstack())


CLAIMS = [(FILE, *claim) for claim in (
    ("The {} test clips whose twin comes in gain {:.1f} to {:.1f} points. On the other {:,}, {} networks change by "
     "{:+.1f} to {:+.1f} points, {} by {:+.1f}.", refits),
    ("{:.0f} % of the test clips have their twin in training there, {} have not. The {} networks trained so recognise "
     "{:.1f} to {:.1f} % of the former and {:.1f} to {:.1f} % of the latter; from 960 clips they recognise {:.1f} to "
     "{:.1f} and {:.1f} to {:.1f} %.", ten_folds),
    ("Of {} recipes {} ran to the end, from {:.1f} to {:.1f} % of the validation clips.", searched),
    ("On fold 0 of `random` it was {:.1f} points below the recipe in use, on fold 0 of `actors` {:.1f} points above",
     at_full_length),
    ("the published training is {:.1f} points (AlexNet) and {:.1f} points (Transformer) above its own repetition",
     lambda: (worth("again", "alexnet"), worth("again", "transformer"))),
    ("are worth {:.1f} points to AlexNet and {:.1f} to the Transformer",
     lambda: beyond_doubt(("alexnet", "plain"), ("transformer", "plain"))),
    ("**240 epochs, not 80**: {:.1f} and {:.1f} points",
     lambda: beyond_doubt(("alexnet", "epochs"), ("transformer", "epochs"))),
    ("mixing two voices costs AlexNet {:.1f} points, taking off each clip's mean spectrum {:.1f}",
     lambda: beyond_doubt(("alexnet", "mixup"), ("alexnet", "centred"))),
    ("of the Transformer: {:.1f} points on two folds", lambda: beyond_doubt(("transformer", "front"))),
    ("test-time augmentation is worth {:.1f} points to ResNet, and the front {:.1f} points to the LSTM",
     lambda: beyond_doubt(("resnet", "single"), ("lstm", "front"))),
    ("AlexNet gains {:.1f} and ResNet {:.1f} points, with intervals that include zero", level),
    ("On one fold, equal trainings differ by up to {} points", largest_on_a_fold),
    ("AlexNet reaches {:.1f} % in place of {:.1f} and {:.1f}, the Transformer {:.1f} % in place of {:.1f} and {:.1f}.",
     trainings),
    ("Averaging gains {:.1f} points for AlexNet and {:.1f} for the Transformer", averaged),
    ("With known voices the first doubling brings {:.1f} points and the second {:.1f}", lambda: doublings("random")),
    ("both bring about the same, {:.1f} and {:.1f} points, and no end is in sight at 16 voices. More voices would help "
     "more there than any setting tried under `actors`.", lambda: doublings("actors")),
    ("on that fold the recipe trained once more loses {:.1f} points (AlexNet) and {:.1f} points (Transformer)",
     on_fold_0))]
