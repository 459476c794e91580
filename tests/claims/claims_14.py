"""Numbers in the prose of notebooks/14_recipe.ipynb."""

import functools

import facts
import pandas as pd

from ser_utils.data import folds
from ser_utils.evaluation import statistics
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.paths import RESULTS
from ser_utils.studies import ablation
from ser_utils.training import runs

FILE = "notebooks/14_recipe.ipynb"
TWO = ("alexnet", "transformer")


@functools.cache
def table(subset="val"):
    return ablation.table("recipe", subset).set_index(["protocol", "model", "variant"])


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


def beyond_doubt(model, variant):
    """What a choice is worth whose interval leaves out zero, with a p of 0.05 or hardly more."""
    row = table().loc["random", model, variant]
    assert row.high < 0 and row.p < 0.055
    return worth(variant, model)


def on_test(*choices):
    """What choices (network, variant) are worth on test clips, each with its interval, in one list."""
    rows = -table("test").loc[[("random", *choice) for choice in choices], ["difference", "high", "low"]]
    return list(rows.to_numpy().flat)


def clear_on_test():
    """Choices whose interval on test clips leaves out zero, and all; what four of the five are worth."""
    rows = table("test").dropna(subset="low").drop("again", level="variant")
    kept, others = ("transformer", "centred"), [("alexnet", "wide"), ("resnet", "wide"), ("alexnet", "decay")]
    clear = rows[(rows.low > 0) | (rows.high < 0)]
    assert set(clear.index) == {("random", *one) for one in (("transformer", "plain"), kept, *others)}
    return facts.WORDS[len(clear)], len(rows), *on_test(kept), *on_test(*others)


def chance_on_test(*choices):
    """What choices (network, variant) are worth on test clips: within chance."""
    rows = table("test").loc[[("random", *choice) for choice in choices]]
    assert ((rows.low <= 0) & (rows.high >= 0)).all()
    return -rows.difference


def with_zero(model, variant):
    """What a choice is worth whose interval includes zero, or ends there."""
    assert table().high["random", model, variant] >= 0
    return worth(variant, model)


def within_chance():
    """The largest difference of equal trainings on a fold; choices that make no larger one, and all."""
    choices, most = table().difference.dropna().drop("again", level="variant"), by_fold().max()
    return most, (choices.abs() < most + 1e-9).sum(), len(choices)


def level():
    """A level varied at random with unseen voices, and what it lost AlexNet with known ones; all within chance."""
    rows = [table().loc[which] for which in (("actors", "alexnet", "level"), ("actors", "resnet", "level"),
                                             ("random", "alexnet", "level"))]
    assert all(row.low < 0 < row.high for row in rows)
    return rows[0].difference, rows[1].difference, -rows[2].difference


def mean_of_new_voices():
    row = table().loc["actors", "alexnet", "centred"]
    assert row.low < 0 < row.high
    return -row.difference, -row.high, -row.low


@functools.cache
def three(subset="val"):
    """Validation clips, or test clips, of three trainings of the recipe on every fold of ``random``."""
    own = facts.predictions("random", subset=subset, seeds=True).query("seed <= 1")
    again = pd.concat(runs.read_predictions(path).loc[lambda table: table.subset == subset].assign(
        model=path.parts[-2], fold=int(path.name[4:]), seed=-1)
        for place, path in ablation.published("recipe")["again"].items() if place.startswith("random"))
    found = pd.concat([own[own.model.isin(TWO)], again])
    return found.assign(right=100 * (found.prediction == found.label))


def trainings(subset="val"):
    found = three(subset).groupby(["model", "seed"]).right.mean()
    return tuple(found[model, seed] for model in TWO for seed in (0, -1, 1))


def by_fold():
    """Between the best and the worst of three equal trainings, points of validation accuracy by network and fold."""
    found = three().groupby(["model", "fold", "seed"]).right.mean().unstack()
    return found.max(axis=1) - found.min(axis=1)


def averaged():
    mean = three().groupby(["model", "clip", "label"])[PROBABILITIES].mean().reset_index("label")
    right = (100 * (mean[PROBABILITIES].to_numpy().argmax(axis=1) == mean.label)).groupby("model").mean()
    return tuple((right - three().groupby("model").right.mean())[list(TWO)])


def doublings(protocol):
    """What a doubling of the clips brings."""
    grown = ablation.growth().query("protocol == @protocol and model == 'alexnet'").set_index("clips")
    return grown.gain[480], grown.gain[960]


def on_fold_0():
    found = three().query("fold == 0").groupby(["model", "seed"]).right.mean()
    return tuple(found[model, 0] - found[model, -1] for model in TWO)


def refits():
    """What a refit gains, points: clips whose twin comes in, least and most; whose twin was in before; whose twin is
    never trained on, with the interval."""
    tests = runs.predictions(RESULTS, "random", references=True, seeds=True)
    tests["right"] = 100.0 * (tests.label == tests.prediction)
    tests["twin"] = folds.twin_part(tests["clip"], tests.fold)
    right = tests.pivot_table("right", ["twin", "clip"], "model")
    gain = right[facts.refits().model]
    gain = gain - right[gain.columns.str.removesuffix("_refit")].to_numpy()
    new, apart = gain.loc["val"].mean(), gain.loc["test"].mean(axis=1)
    low, high = statistics.bootstrap_difference(apart, 0 * apart, statistics.units(apart.index.to_series(), "random"))
    assert low < 0 < high
    return (len(gain.loc["val"]), new.min(), new.max(), len(gain.loc["train"]), gain.loc["train"].mean(axis=None),
            len(apart), apart.mean(), low, high)


def ten_folds():
    """Test clips whose twin trains (%), the others (clips), networks; least and most on either."""
    tests = facts.predictions("random10").groupby("model").filter(lambda part: part.fold.nunique() == 10)
    tests = tests.assign(right=lambda table: 100.0 * (table.label == table.prediction))
    where = pd.Series(folds.twin_part(tests["clip"], tests.fold, "random10"), tests.index)
    right = tests.pivot_table("right", "model", where)[["train", "test"]]
    return (100 * (where == "train").mean(), tests["clip"][where == "test"].nunique(), facts.WORDS[len(right)],
            *right.agg(["min", "max"]).unstack())


CLAIMS = [(FILE, *claim) for claim in (
    ("The {} test clips whose twin comes in gain {:.1f} to {:.1f} points. The {} whose twin was in training before "
     "gain {:.1f} points on average, the {} whose twin is never trained on {:.1f} ({:.1f} to {:.1f}).", refits),
    ("{:.0f} % of the test clips have their twin in training there, {} have not. The {} networks trained so recognise "
     "{:.1f} to {:.1f} % of the former and {:.1f} to {:.1f} % of the latter.", ten_folds),
    ("Of {} recipes {} ran to the end, from {:.1f} to {:.1f} % of the validation clips.", searched),
    ("On fold 0 of `random` it was {:.1f} points below the recipe in use, on fold 0 of `actors` {:.1f} points above",
     at_full_length),
    ("the published training is {:.1f} points (AlexNet) and {:.1f} points (Transformer) above its own repetition",
     lambda: (worth("again", "alexnet"), worth("again", "transformer"))),
    ("on one fold equal trainings differ by up to {:.1f} points. "
     "{} of the {} other dots, here and below, lie within that.", within_chance),
    ("are worth {:.1f} points to AlexNet and {:.1f} to the Transformer; on test clips {:.1f} ({:z.1f} to {:.1f}) and "
     "{:.1f} ({:.1f} to {:.1f}).",
     lambda: (*(beyond_doubt(model, "plain") for model in TWO), *on_test(*((model, "plain") for model in TWO)))),
    ("**240 epochs, not 80**: {:.1f} points for AlexNet, and {:.1f} for the Transformer, whose interval includes zero; "
     "on test clips {:.1f} and {:.1f}, within chance.",
     lambda: (beyond_doubt("alexnet", "epochs"), with_zero("transformer", "epochs"),
              *chance_on_test(*((model, "epochs") for model in TWO)))),
    ("taking off each clip's mean spectrum costs AlexNet {:.1f} points, on test clips {:.1f}, within chance.",
     lambda: (beyond_doubt("alexnet", "centred"), *chance_on_test(("alexnet", "centred")))),
    ("With new voices it costs nothing that can be seen ({:.1f} points, {:.1f} to {:.1f}, on six folds)",
     mean_of_new_voices),
    ("of the Transformer: {:.1f} points on two folds, on test clips {:.1f}, within chance.",
     lambda: (beyond_doubt("transformer", "front"), *chance_on_test(("transformer", "front")))),
    ("test-time augmentation is worth {:.1f} points to ResNet, with an interval clear of zero, and the front {:.1f} "
     "points to the LSTM, with one that ends at zero; on test clips {:.1f} and {:.1f}, within chance.",
     lambda: (beyond_doubt("resnet", "single"), with_zero("lstm", "front"),
              *chance_on_test(("resnet", "single"), ("lstm", "front")))),
    ("On test clips the intervals of {} of the {} choices leave out zero, where chance alone would bring about two: "
     "for the Transformer augmentation and the clip's mean (worth {:.1f}, {:.1f} to {:.1f}), and against the recipe "
     "its reduced width for AlexNet ({:.1f}, {:.1f} to {:.1f}) and ResNet ({:.1f}, {:.1f} to {:.1f}) and its weight "
     "decay for AlexNet ({:.1f}, {:.1f} to {:.1f}).", clear_on_test),
    ("AlexNet gains {:.1f} and ResNet {:.1f} points, with intervals that include zero; with known voices AlexNet had "
     "lost {:.1f}, within chance, too.", level),
    ("On the test clips of the same trainings there is no such lead: AlexNet {:.1f}, {:.1f} and {:.1f} %, the "
     "Transformer {:.1f}, {:.1f} and {:.1f} %.", lambda: trainings("test")),
    ("AlexNet reaches {:.1f} % in place of {:.1f} and {:.1f}, the Transformer {:.1f} % in place of {:.1f} and {:.1f}.",
     trainings),
    ("Averaging gains {:.1f} points for AlexNet and {:.1f} for the Transformer", averaged),
    ("With known voices the first doubling brings {:.1f} points and the second {:.1f}", lambda: doublings("random")),
    ("both bring about the same, {:.1f} and {:.1f} points, and no end is in sight at 16 voices, as far as two folds "
     "can tell.", lambda: doublings("actors")),
    ("a doubling of voices and clips together brought some {:.0f} points", lambda: sum(doublings("actors")) / 2),
    ("on that fold the recipe trained once more loses {:.1f} points (AlexNet) and {:.1f} points (Transformer)",
     on_fold_0))]
