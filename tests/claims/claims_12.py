"""Numbers in the prose of notebooks/12_robustness.ipynb."""

import functools
import warnings

import facts
import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from facts import WORDS
from scipy import stats
from scipy.special import softmax

from ser_utils import EMOTIONS
from ser_utils.evaluation import metrics, statistics, tables
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.paper import HUMAN, MODEL_NAMES
from ser_utils.paths import RESULTS
from ser_utils.studies import robustness

FILE = "notebooks/12_robustness.ipynb"


@functools.cache
def told(protocol):
    """First trainings' test clips with facts of the clip, right and confidence."""
    table = facts.predictions(protocol)
    table = table.join(metrics.clip_facts(table["clip"]))
    return table.assign(right=table.label == table.prediction, confidence=table[PROBABILITIES].max(axis=1))


def beside(part):
    words = (part["clip"].str[:9] + part["clip"].str[11:]).rename("words")
    return 100 * part.pivot_table(["right", "confidence"], ["actor", words], "intensity")


@functools.cache
def means(protocol):
    """Normal and strong, per cent: mean of the seven; gain, low, high; a gain for each network."""
    part = told(protocol).query("label > 0")
    right = beside(part).right
    low, high = statistics.bootstrap_difference(right.strong, right.normal, right.index.get_level_values("actor"))
    gains = [(found.strong - found.normal).mean() for found in (beside(own).right for _, own in part.groupby("model"))]
    assert min(gains) > 0 and low > 0
    return right.normal.mean(), right.strong.mean(), (right.strong - right.normal).mean(), low, high, gains


def surer():
    found = beside(told("actors").query("label > 0")).confidence
    return (found.strong - found.normal).mean(), means("actors")[2]


def by_emotion():
    """Gain, low, high of anger, fear and calm, which survive Holm's correction; ends of the others' intervals."""
    rows = {}
    for label, part in told("actors").query("label > 0").groupby("label"):
        strong, normal = (beside(part).right[how] for how in ("strong", "normal"))
        actors = strong.index.get_level_values("actor")
        rows[EMOTIONS[label]] = ((strong - normal).mean(), *statistics.bootstrap_difference(strong, normal, actors),
                                 statistics.wilcoxon_actors(strong, normal, actors)["p"])
    found = pd.DataFrame(rows, ["gain", "low", "high", "p"]).T
    clear, rest = found.loc[["angry", "fearful", "calm"]], found.loc[["happy", "sad", "disgust", "surprised"]]
    assert set(found.index[statistics.holm(found.p) < 0.05]) == set(clear.index) and (rest.low < 0).all()
    return (*clear[["gain", "low", "high"]].to_numpy().ravel(), rest.low.min(), rest.high.max())


@functools.cache
def mistakes():
    rows = []
    for true, part in told("actors").query("label > 0").groupby("label"):
        for taken in sorted(set(range(8)) - {true}):
            found = beside(part.assign(right=part.prediction == taken)).right
            p = statistics.wilcoxon_actors(found.strong, found.normal, found.index.get_level_values("actor"))["p"]
            rows.append((EMOTIONS[true], EMOTIONS[taken], found.normal.mean(), found.strong.mean(), p))
    table = pd.DataFrame(rows, columns=["emotion", "taken", "normal", "strong", "p"]).set_index(["emotion", "taken"])
    return table.assign(p=statistics.holm(table.p))


def vanish():
    """Sad for calm: the only change that survives Holm's correction; calm for neutral comes next."""
    table = mistakes().sort_values("p")
    assert list(table.index[:2]) == [("sad", "calm"), ("calm", "neutral")] and (table.p < 0.05).sum() == 1
    return (*table.loc[("sad", "calm"), ["normal", "strong"]], len(table),
            *table.loc[("calm", "neutral"), ["normal", "strong", "p"]])


def appear():
    """The two mistakes that strong clips add most to, within chance."""
    table = mistakes()
    most = [("sad", "fearful"), ("happy", "fearful")]
    assert list((table.strong - table.normal).nlargest(2).index) == most and table.p[most].min() > 0.05
    return (*table.loc[most[0], ["strong", "normal"]], *table.loc[most[1], ["strong", "normal"]])


@functools.cache
def voices(protocol="actors"):
    return 100 * told(protocol).pivot_table("right", "actor", "model")


@functools.cache
def components(protocol):
    scores = 100 * facts.predictions(protocol, seeds=True).pipe(lambda table: table.assign(
        right=table.label == table.prediction, actor=table["clip"].str[-2:])).groupby(
        ["actor", "model", "seed"]).right.mean()
    scores = scores.reset_index().assign(everything=1)
    parts = {"voices": "0 + C(actor)", "networks": "0 + C(model)"}
    if scores.seed.nunique() > 1:
        parts["seeds"] = "0 + C(model):C(seed)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of 0 lies on the edge of what it can be
        fit = smf.mixedlm("right ~ 1", scores, groups="everything", re_formula="0", vc_formula=parts).fit()
    return dict(zip(fit.model.exog_vc.names, np.sqrt(fit.vcomp), strict=True))


def spread():
    mean = voices().mean(axis=1)
    low, high = np.sqrt(23 * mean.var() / stats.chi2.ppf([0.975, 0.025], 23))
    return components("actors")["voices"], low, high, components("actors")["networks"]


def agreement(protocol):
    return stats.friedmanchisquare(*voices(protocol).to_numpy()).statistic / 23 / voices(protocol).shape[1]


def ends():
    mean = voices().mean(axis=1)
    return mean.idxmin(), mean.min(), mean.idxmax(), mean.max()


def genders():
    scores = voices()
    women, men = (scores[scores.index % 2 == odd].mean(axis=1) for odd in (0, 1))
    assert all(scores[m][scores.index % 2 == 0].mean() > scores[m][scores.index % 2 == 1].mean() for m in scores)
    interval = stats.ttest_ind(women, men, equal_var=False).confidence_interval()
    return women.mean(), men.mean(), women.mean() - men.mean(), interval.low, interval.high


def as_people(by):
    """Accuracy on unseen actors, neutral and calm accepted for each other, by gender or intensity."""
    part = tables.on_seven_options(told("actors"))
    return 100 * (part.label == part.prediction).groupby(part[by]).mean()


def hard():
    """Correlations of pitch and distance with accuracy, over all and within a gender, and p of the last."""
    table = pd.read_csv(RESULTS / "robustness" / "actors.csv").set_index("actor").assign(right=voices().mean(axis=1))
    within = table - table.groupby(table.index % 2).transform("mean")
    names = ["f0_median", "f0_spread", "level_db", "speech_seconds", "distance"]
    tests = [stats.spearmanr(part[name], part.right) for part in (table, within) for name in names]
    p, found = statistics.holm([test.pvalue for test in tests]), [test.statistic for test in tests]
    assert np.flatnonzero(p < 0.05).tolist() == [0, 4] and p[9] < 0.06  # nothing else survives the correction
    return found[0], found[5], found[4], found[9], p[9]


@functools.cache
def answers():
    return robustness.load().assign(right=lambda table: table.label == table.prediction)


@functools.cache
def heard():
    """Right or wrong, mean of the networks: clips by condition."""
    usual = answers().query("training == 'usual' and subset == 'test'")
    return usual.pivot_table("right", "clip", "condition", sort=False)


def loss(condition):
    return 100 * (heard().clean - heard()[condition]).mean()


def lost(condition):
    low, high = statistics.bootstrap_difference(heard().clean, heard()[condition])
    return loss(condition), 100 * low, 100 * high


def strange():
    """VGG19's loss over a telephone with the robust and the usual training; their difference, within chance."""
    table = answers().query("subset == 'test' and model == 'vgg19'")
    right = table.pivot_table("right", "clip", ["training", "condition"])
    robust, usual = (100 * (right[how, "clean"] - right[how, "band 3400"]) for how in ("robust", "usual"))
    low, high = (100 * end for end in statistics.bootstrap_difference(usual / 100, robust / 100))
    assert low < 0 < high
    return robust.mean(), usual.mean(), (usual - robust).mean(), low, high


def by_voice(condition):
    """The least and the most points that one of the four voices loses."""
    right, voice = 100 * heard()[["clean", condition]], heard().index.str[-2:]
    found, there = (right.clean - right[condition]).groupby(voice).mean(), right[condition].groupby(voice).mean()
    assert 1 < np.ptp(found) / np.ptp(there) < 1.5
    return found.min(), found.max()


def harmless(*conditions):
    """Nothing to fill in: the interval of the change holds 0, or the loss is under 3 points."""
    for name in conditions:
        change, low, _ = lost(name)
        assert low <= 0 or change < 3, (name, change)
    return ()


def seconds(*conditions):
    return tuple(pd.read_csv(RESULTS / "robustness" / "seconds.csv").set_index("condition").seconds[list(conditions)])


@functools.cache
def sure():
    """Points of confidence above accuracy by condition, as it is and with temperature, mean of the networks."""
    parts = []
    for model, own in answers().query("training == 'usual'").groupby("model"):
        logs, val = np.log(own[PROBABILITIES].clip(lower=5e-5)), own.subset == "val"
        warmth = metrics.temperature(logs[val].to_numpy(), own.label[val].to_numpy())
        for how, power in (("as it is", 1), ("warm", 1 / warmth)):
            p = np.exp(power * logs[~val])
            part = own.loc[~val, ["condition", "right"]].assign(how=how, model=model)
            parts.append(part.assign(confidence=p.max(axis=1) / p.sum(axis=1)))
    return pd.concat(parts, ignore_index=True)


@functools.cache
def by_fold():
    """Points of confidence above accuracy of the published networks; with temperature; that of the folds, ends."""
    table = facts.everything().query("protocol == 'actors' and seed == 0")
    rows = []
    for (_, fold), own in table[table.model.isin(list(MODEL_NAMES))].groupby(["model", "fold"]):
        logs, val = np.log(own[PROBABILITIES].clip(lower=5e-6)).to_numpy(), (own.subset == "val").to_numpy()
        warm = softmax(logs[~val] / metrics.temperature(logs[val], own.label[val].to_numpy()), axis=1)
        right = (own.label == own.prediction)[~val].mean()
        rows.append((fold, *(100 * (p.max(axis=1).mean() - right) for p in (np.exp(logs[~val]), warm))))
    folds = pd.DataFrame(rows, columns=["fold", "plain", "warm"]).groupby("fold").mean()
    return folds.plain.mean(), folds.warm.mean(), folds.warm.min(), folds.warm.max()


def excess(how):
    part = sure()[sure().how == how]
    return 100 * (part.confidence - part.right).groupby(part.condition).mean()


def paired(model, sound, one, other):
    """What one training is worth to a network over another on one kind of sound: points with their interval."""
    table = answers().query("subset == 'test' and model == @model and condition.str.startswith(@sound)")
    table = table.pivot_table("right", "clip", "training").astype(float)
    low, high = statistics.bootstrap_difference(table[one], table[other])
    assert (low <= 0 <= high) == (sound in ("babble", "music"))
    return 100 * (table[one] - table[other]).mean(), 100 * low, 100 * high


bought = functools.partial(paired, "alexnet", one="usual", other="quiet")


def robust():
    """Level and band: the kinds of sound on which VGG19 differs after Holm's correction; two more; how many kinds."""
    table = answers().query("subset == 'test' and model == 'vgg19' and training != 'quiet'").assign(
        sound=lambda t: t.condition.str.split().str[0])
    right = table.pivot_table("right", ["sound", "clip"], "training").astype(float)
    gain = (right.robust - right.usual).unstack("sound")
    p = pd.Series(statistics.holm(stats.ttest_1samp(gain, 0).pvalue), gain.columns)
    assert set(p.index[p < 0.05]) == {"level", "band"}
    return (*paired("vgg19", "level", "robust", "usual"), *paired("vgg19", "band", "robust", "usual"),
            *(100 * gain[["cut", "room"]].mean()), WORDS[len(p)])


def halves():
    """Accuracy of the surer half and of all: clean, in the hall, over a telephone; where the gain is large or small."""
    plain = sure()[sure().how == "as it is"]
    top = plain.groupby(["condition", "model"]).apply(lambda own: own.nlargest(120, "confidence").right.mean())
    found = 100 * pd.concat([top.groupby("condition").mean(), plain.groupby("condition").right.mean()], axis=1)
    gain = found[0] - found.right
    assert gain[gain.index.str.startswith(("white", "room"))].min() > 0.7 * gain.clean
    assert gain[["band 3400", "babble 5", "babble 0", "level -30", "cut 1"]].max() < 7 < gain["babble 10"] < 8
    return tuple(found.loc[["clean", "room 1.2", "band 3400"]].to_numpy().ravel())


def too_sure():
    """Conditions, under all of which confidence is above accuracy, whatever the temperature."""
    assert excess("as it is").min() > 0 and excess("warm").min() > 0
    return len(excess("warm"))


CLAIMS = [(FILE, *claim) for claim in (
    ("Strong emotions are recognised {:.1f} points more often than normal ones, much as by people.",
     lambda: means("actors")[2]),
    ("The voice counts more than the network: from actor to actor accuracy runs from {:.0f} to {:.0f} %, while "
     "the seven networks lie within {:.1f} points.", lambda: (*np.array(ends())[[1, 3]], np.ptp(voices().mean()))),
    ("And the networks are at home in the studio: a telephone's band costs {:.0f} points, other voices 10 dB "
     "below the speaker {:.0f}. The networks' confidence falls far less: on the four voices tested it exceeds their "
     "accuracy by {:.0f} points on clean sound, by {:.0f} over the telephone, by {:.0f} among the other voices.",
     lambda: (loss("band 3400"), loss("babble 10"), *excess("as it is")[["clean", "band 3400", "babble 10"]])),
    ("On unseen actors the seven networks recognise {:.1f} % of normal and {:.1f} % of strong emotion, a gain of"
     " {:.1f} points ({:.1f} to {:.1f}). Scored as people were, with the neutral clips among the normal ones and "
     "neutral accepted for calm, they reach {:.1f} and {:.1f} %; people {} and {} %.",
     lambda: (*means("actors")[:5], *as_people("intensity")[["normal", "strong"]], *HUMAN["intensity"].values())),
    ("Every network gains, by {:.1f} to {:.1f} points there and {:.1f} to {:.1f} on the random split.",
     lambda: (*(end(means(protocol)[5]) for protocol in ("actors", "random") for end in (min, max)),)),
    ("On unseen actors anger gains {:.0f} points ({:.0f} to {:.0f}), fear {:.0f} ({:.0f} to {:.0f}) and calm {:.0f} "
     "({:.0f} to {:.0f}). For happiness, sadness, disgust and surprise no gain is shown; their intervals reach from "
     "{:.0f} to {:+.0f} points.", by_emotion),
    ("Sadness at normal intensity is taken for calm in {:.0f} % of the clips, strong sadness in {:.0f} %. Of the {} "
     "possible changes this alone survives Holm's correction. Calm is taken for neutral in {:.0f} and {:.0f} %, with "
     "a corrected p of {:.2f}.", vanish),
    ("In exchange strong sadness is taken for fear more often, {:.0f} % against {:.0f} %, and strong happiness, "
     "{:.0f} % against {:.0f} %, both within chance after the correction.", appear),
    ("Confidence hardly follows: it rises by {:.1f} points, accuracy by {:.1f}.", surer),
    ("On unseen actors the standard deviation between voices is {:.1f} points ({:.1f} to {:.1f}), between "
     "networks {:.1f}; on the random split, where every voice is known, that between voices is still {:.1f}.",
     lambda: (*spread(), components("random")["voices"])),
    ("*Agreement* is Kendall's W, 1 where all networks rank the voices alike: {:.2f} on unseen actors, {:.2f} on the "
     "random split.", lambda: (agreement("actors"), agreement("random"))),
    ("The hardest voice is actor {}'s, of which the networks recognise {:.0f} %, the easiest actor {}'s, with "
     "{:.0f} %.", ends),
    ("Every network recognises women better than men: {:.1f} against {:.1f} % on average, a gap of {:.1f} points"
     " ({:.1f} to {:.1f}).", genders),
    ("Scored as people were, it is {:.1f} against {:.1f} %. People find women easier, too, {} against {} %.",
     lambda: (*as_people("gender")[["female", "male"]], *HUMAN["gender"].values())),
    ("The farther, the harder: the rank correlation is {:+.2f}, within a gender {:+.2f}, which just fails after Holm's "
     "correction over all ten (p {:.3f}).", lambda: hard()[2:]),
    ("Pitch goes with accuracy over all voices ({:+.2f}) but not within a gender ({:+.2f})", lambda: hard()[:2]),
    ("With noise 20 dB below the speech, or louder, there is no silence left to cut: {:.1f} s come through in "
     "place of {:.1f}.", lambda: seconds("white 20", "clean")),
    ("Here is what {} networks lose, on average.",
     lambda: WORDS[answers().query("training == 'usual'").model.nunique()]),
    ("Six voices 10 dB below the speaker cost {:.1f} points ({:.1f} to {:.1f}), as loud as the speaker {:.1f}; "
     "music {:.1f} and {:.1f}.", lambda: (*lost("babble 10"), *map(loss, ("babble 0", "music 10", "music 0")))),
    ("a telephone costs {:.1f} points ({:.1f} to {:.1f}), sampling at 8 kHz alone {:.1f}, and MP3 at 16 kbit/s, "
     "which drops high frequencies, too, {:.1f}.", lambda: (*lost("band 3400"), loss("band 4000"), loss("mp3 16"))),
    ("trained with narrow bands, too (below), it loses {:.1f} points over a telephone, with the usual training "
     "{:.1f}; but the difference, {:.1f}, is within chance ({:.1f} to {:.1f}).", strange),
    ("over a telephone {:.0f} to {:.0f} points are lost, at 0.8 times the speed {:z.0f} to {:.0f}.",
     lambda: (*by_voice("band 3400"), *by_voice("speed 0.8"))),
    ("30 dB too quiet costs {:.1f} points, 20 dB {:.1f}; 12 dB too loud, with clipping, {:.1f}.",
     lambda: tuple(map(loss, ("level -30", "level -20", "level 12")))),
    ("20 % lower, {:.1f} points are lost; of speech broken off after 1 s {:.1f}, after 2 s {:.1f}.",
     lambda: tuple(map(loss, ("speed 0.8", "cut 1", "cut 2")))),
    ("white noise at 10 dB {:.1f} points and at 0 dB {:.1f}; a hall with 1.2 s of reverberation {:.1f}.",
     lambda: tuple(map(loss, ("white 10", "white 0", "room 1.2")))),
    ("MP3 at 64 kbit/s, Opus at 16, a level 10 dB lower or 6 dB higher, speech played 10 % faster.",
     lambda: harmless("mp3 64", "opus 16", "level -10", "level 6", "speed 1.1")),
    ("Noise in training is worth {:.1f} points to AlexNet on white noise ({:.1f} to {:.1f}), and nothing beyond chance "
     "on babble, {:.1f} ({:.1f} to {:.1f}), or on music, {:.1f} ({:.1f} to {:.1f}).",
     lambda: (*bought("white"), *bought("babble"), *bought("music"))),
    ("To VGG19 the robust training is worth {:.1f} points where the level differs ({:.1f} to {:.1f}) and {:.1f} where "
     "a band is missing ({:.1f} to {:.1f}). The other differences, {:.1f} on speech broken off and {:.1f} in rooms "
     "among them, are within chance once all {} rows are counted.", robust),
    ("On clean sound of fold 0's new voices the networks are {:.0f} points too sure as they are and {:.0f} with "
     "temperature; among voices as loud as the speaker {:.0f} and {:.0f}.",
     lambda: tuple(excess(how)[name] for name in ("clean", "babble 0") for how in ("as it is", "warm"))),
    ("The published predictions of all six folds, with test-time augmentation, are {:.1f} points too sure on clean "
     "sound, and {:.1f} with a temperature fitted to each fold's validation clips: from {:+.1f} to {:+.1f}", by_fold),
    ("Under all {} conditions they are too sure, with temperature, too.", too_sure),
    ("Of clean clips {:.0f} % of the surer half are recognised and {:.0f} % of all, in the hall {:.0f} and {:.0f} %, "
     "over a telephone {:.0f} and {:.0f} %.", halves),
    ("At 30 dB next to nothing is lost.", lambda: harmless("babble 30", "music 30", "white 30")))]
