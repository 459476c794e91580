"""Numbers in the prose of 10_comparison."""

import functools

import facts
import numpy as np
import pandas as pd
from facts import WORDS
from scipy import stats

from ser_utils import EMOTIONS, paper
from ser_utils.config import run_configs
from ser_utils.data import folds
from ser_utils.evaluation import metrics, statistics, tables
from ser_utils.paths import RESULTS
from ser_utils.studies.aligned import SEGMENTS
from ser_utils.training import runs

FILE = "notebooks/10_comparison.ipynb"
table, twins, test = facts.table2, facts.twins, functools.partial(facts.predictions, seeds=True)
seven = functools.cache(lambda protocol: metrics.ensembles(facts.predictions(protocol))[0])
pairs = functools.cache(lambda protocol: statistics.compare_all(facts.predictions(protocol)))


def networks(protocol):
    return table().query("protocol == @protocol and group == 'network'").set_index("model")


def figure(protocol, model, column="accuracy"):
    return table().query("protocol == @protocol and model == @model")[column].item()


def apart():
    """Points from the best network on `random` to the worst: the paper's, ours; the least and most on a fold."""
    part = facts.predictions("random")
    ranges = np.ptp(100 * (part.label == part.prediction).groupby([part.fold, part.model]).mean().unstack(), axis=1)
    return *np.ptp(networks("random")[["paper_accuracy", "accuracy"]], axis=0), ranges.min(), ranges.max()


def within():
    """The least and the most points from the best to the worst network of a protocol."""
    ranges = [np.ptp(networks(protocol).accuracy) for protocol in metrics.PROTOCOL_TITLES]
    return min(ranges), max(ranges)


def met():
    random = networks("random")
    short = random.difference[random.difference < 0]
    return " and ".join(random.name[random.difference >= 0]), WORDS[len(short)], -short.max(), -short.min()


def against_paper():
    """The smallest Holm p of z tests of each network's difference from its figure in the paper, of 240 clips."""
    rows = networks("random")
    ours, theirs = (rows.accuracy_high - rows.accuracy_low) / (2 * 1.96), rows.paper_accuracy
    z = rows.difference / np.sqrt(ours**2 + theirs * (100 - theirs) / paper.TABLE1["test"])
    least = statistics.holm(2 * stats.norm.sf(z.abs())).min()
    assert least > 0.05
    return least


def ensembles_lead():
    above = all(figure(protocol, model) > networks(protocol).accuracy.max()
                for protocol in metrics.PROTOCOL_TITLES for model in metrics.ENSEMBLE_NAMES)
    return "above" if above else "not always above"


def averaged():
    (row,) = table()[table().model.str.startswith("transformer_x")].query("protocol == 'random'").itertuples()
    return WORDS[int(row.model.split("_x")[1])], row.accuracy


def refit():
    """How many networks learned from validation clips, too; points gained; accuracy; who reaches the paper; misses."""
    rows, reach = facts.refits(), facts.refits().query("difference >= 0").name.str.removesuffix(", refit")
    return (WORDS[len(rows)], rows.gain.min(), rows.gain.max(), rows.accuracy.min(), rows.accuracy.max(),
            " and ".join(", ".join(reach).rsplit(", ", 1)), *-rows.difference[rows.difference < 0].agg(["max", "min"]))


def refit_unseen():
    """Unseen actors: networks refit, all but one; accuracy, ends; points gained on average, interval over actors."""
    rows = facts.refits("actors").set_index("model")
    refits, models = list(rows.index), list(rows.index.str.removesuffix("_refit"))
    assert set(networks("actors").index) - set(models) == {"inceptionnet"}
    found = runs.predictions(RESULTS, "actors", references=True).set_index(["clip", "model"])
    right = (found.label == found.prediction).unstack().astype(float)
    gain = right[refits].mean(axis=1) - right[models].mean(axis=1)
    low, high = statistics.bootstrap_difference(gain, 0 * gain, gain.index.str[-2:])
    assert low > 0
    return WORDS[len(rows)], *rows.accuracy.agg(["min", "max"]), 100 * gain.mean(), 100 * low, 100 * high


def mistake():
    part = test("random")
    shares = pd.crosstab(part.label, part.prediction, normalize="index").mul(100).stack()
    true, taken = (wrong := shares[[a != b for a, b in shares.index]]).idxmax()
    return EMOTIONS[true], EMOTIONS[taken], wrong.max(), EMOTIONS[true]


def recalls(of=lambda part: part):
    part = of(test("actors"))
    return pd.Series(100 * metrics.per_class_recall(part.label, part.prediction), EMOTIONS)


def beside_people():
    """Rank correlation over the seven options; happiness and disgust alone differ (t over actors, Holm)."""
    ours, people = recalls(tables.on_seven_options)[1:], pd.Series(paper.HUMAN["emotion"])[1:]
    part = tables.on_seven_options(test("actors"))
    by_voice = (100.0 * (part.label == part.prediction)).groupby([part["clip"].str[-2:], part.label]).mean().unstack()
    p = statistics.holm(stats.ttest_1samp(by_voice, people.to_numpy()).pvalue)
    assert set(people.index[p < 0.05]) == {"happy", "disgust"} and (by_voice.mean().to_numpy() > people)[p < 0.05].all()
    return ours.corr(people, method="spearman")


def extremes():
    """The emotion recognised most on unseen actors, with capital; neutral and sad are those recognised least."""
    recall = recalls()
    assert set(recall.nsmallest(2).index) == {"neutral", "sad"}
    return recall.idxmax().replace("angry", "Anger")


def paper_with_our_gap():
    row, accuracy = twins().loc["transformer"], paper.TABLE2["transformer"][0]
    alone = row.alone_clips / (row.alone_clips + row.twin_clips)
    return accuracy, accuracy + alone * row.difference, accuracy - (1 - alone) * row.difference


def shown():
    """The smallest difference that survives, points; the largest on unseen actors, where none does."""
    known = pd.concat([pairs("random"), pairs("twins")]).query("significant").difference.abs().min()
    assert not pairs("actors").significant.any()
    return 100 * known, 100 * pairs("actors").difference.abs().max()


def fallen():
    """From random to actors, mean of the seven, points: accuracy and confidence; on actors all seven are too sure."""
    means = []
    for protocol in ("random", "actors"):
        part = facts.predictions(protocol)
        sure, right = part[metrics.PROBABILITIES].max(axis=1), part.label == part.prediction
        means.append((100 * right.mean(), 100 * sure.mean()))
    assert ((sure - right).groupby(part.model).mean() > 0).sum() == 7
    return tuple(np.subtract(*means))


def survivors(protocol):
    found = pairs(protocol)
    beaten = {row.model_b if row.difference > 0 else row.model_a for row in found[found.significant].itertuples()}
    return found.significant.sum(), len(found), " or ".join(metrics.model_name(m) for m in sorted(beaten)[::-1])


def behind(protocol):
    """The network of the best mean rank, and whom it leaves behind by more than Nemenyi's critical difference."""
    tests = facts.predictions(protocol)
    right = (tests.label == tests.prediction).groupby([tests["clip"].str[-2:], tests.model]).mean().unstack()
    found = statistics.critical_difference(right)
    apart = found["ranks"] - found["ranks"].min()
    return [metrics.model_name(model) for model in apart.index[(apart == 0) | (apart > found["difference"])]]


def calibration(protocol, of=test):
    return [100 * metrics.calibration_error(answers.label, answers[metrics.PROBABILITIES].to_numpy())
            for _, answers in of(protocol).groupby("model")]


def averaged_confidence():
    """Calibration error of the seven averaged: on unseen actors below each; on random, where they are too modest."""
    [new], [known] = calibration("actors", seven), calibration("random", seven)
    assert new < min(calibration("actors")) and known > max(calibration("random"))
    part = seven("random")
    assert part[metrics.PROBABILITIES].max(axis=1).mean() < (part.label == part.prediction).mean()
    return new, known


def worth(protocol):
    """Points that the aligned view adds to the seven networks, and their interval."""
    alone = seven(protocol).query("model == 'ensemble'")
    both = metrics.ensemble(pd.concat([alone, runs.predictions(RESULTS, protocol, "aligned_dense")]), "both")
    right = {name: (part.label == part.prediction).set_axis(part["clip"]).sort_index()
             for name, part in (("alone", alone), ("both", both))}
    units = statistics.units(right["both"].index.to_series(), protocol)
    ends = statistics.bootstrap_difference(right["both"], right["alone"], units)
    return 100 * (right["both"].mean() - right["alone"].mean()), *(100 * end for end in ends)


def level_with_the_seven():
    """Accuracy of the dense networks on unseen actors, which lies between the least and the most of the seven."""
    ours, seven = figure("actors", "aligned_dense"), networks("actors").accuracy
    assert seven.min() < ours < seven.max()
    return ours


def heard():
    """Per cent of the clips whose sentence is named rightly, by the templates of the 18 folds."""
    infos = [runs.Run(RESULTS / protocol / "aligned_svm" / f"fold{fold}").info
             for protocol in metrics.PROTOCOL_TITLES for fold in range(6)]
    return 100 * sum(info["sentences_right"] for info in infos) / len(infos)


def gains():
    """Points gained by 20 enrolled clips: least, whose, within chance, and most; averaged: after, before, interval."""
    before, after = facts.enrolment()
    gain = 100 * (after - before).mean().drop("ensemble")
    low, high = statistics.bootstrap_difference(after.ensemble, before.ensemble, after.index.str[-2:])
    assert low > 0 and len(gain) == 7
    for name in gain.index:
        least, _ = statistics.bootstrap_difference(after[name], before[name], after.index.str[-2:])
        assert (least <= 0) == (name == gain.idxmin())
    means = (100 * part.ensemble.mean() for part in (after, before))
    return gain.min(), metrics.model_name(gain.idxmin()), gain.max(), *means, 100 * low, 100 * high


def other_take():
    """Points that 20 enrolled clips are worth to the seven averaged: where the other take is not one of them; where."""
    index = folds.table()
    among = set(index["clip"][folds.enrolled(20, index)].map(folds.twin_key))
    before, after = facts.enrolment()
    gain = 100 * (after - before).ensemble
    where = gain.index.map(folds.twin_key).isin(among)
    assert 0.3 < where.mean() < 0.36
    return gain[~where].mean(), gain[where].mean()


def known():
    """UAR with known voices: seven averaged; in ten folds: networks, least, most, averaged, view."""
    rows = (("random", "ensemble"), ("random10", "ensemble"), ("random10", "aligned_ensemble"))
    ten, (six, *ours) = networks("random10").recall, [figure(*row, "recall") for row in rows]
    cpac, gmtcnet, timnet = (other.uar for other in paper.KNOWN)
    assert max(cpac, gmtcnet) < min(*ours, *ten) and max(*ours, *ten) < timnet
    return six, WORDS[len(ten)], ten.min(), ten.max(), *ours


def unseen():
    """UAR on unseen speakers: another network from scratch, ours, a regression, pretrained networks: least and most."""
    uar = pd.Series({(other.kind, other.system): other.uar for other in paper.UNSEEN})
    (scratch,), compare, large = uar["scratch"], uar["features", "Logistic regression on ComParE"], uar["pretrained"]
    least, most = networks("actors").recall.agg(["min", "max"])
    assert least < scratch < most
    refit = facts.refits("actors").set_index("name").recall
    best = WORDS[len(refit)], refit.idxmax().removesuffix(", refit"), refit.max()
    return scratch, least, most, *best, compare, min(large), max(large)


def spread():
    """Test-time augmentation of the runs in ten folds, and half the mean width of their intervals of UAR."""
    (versions,) = {config.versions for config in run_configs("full", "ravdess", protocols=["random10"])}
    rows = networks("random10")
    return versions**3, (rows.recall_high - rows.recall_low).mean() / 2


CLAIMS = [(FILE, *claim) for claim in (("the cheaper one names the sentence, rightly in {:.1f} % of the clips", heard),
    ("Beside the seven networks the aligned view adds {:.1f} points on unseen actors (95 % interval {:.1f} to {:.1f}), "
     "and {:.1f} on the random split, within chance ({:.1f} to {:.1f}). Alone, the dense networks ({:.1f} %) are level "
     "with single networks on unseen actors, from {} numbers a clip.",
     lambda: (*worth("actors"), *worth("random"), level_with_the_seven(), 23 * SEGMENTS)),
    ("With 20 unlabelled clips of it enrolled, every network gains, by {:.1f} ({}, within chance) to {:.1f} points, "
     "and the seven averaged recognise {:.1f} % in place of {:.1f} % of its other clips (95 % interval of the gain "
     "over actors: {:.1f} to {:.1f} points); with the aligned view it is {:.1f} %, and with five clips already "
     "{:.1f} %.", lambda: (*gains(), *(figure(f"actors_enrolled{count}", "aligned_ensemble") for count in (20, 5)))),
    ("For a third of the judged clips the other take is among the 20 enrolled; the seven averaged gain as much on the "
     "others ({:.1f} points) as on these ({:.1f}).", other_take),
    ("On the paper's random split the {} is most accurate, at {:.1f} %; averaging all seven networks gives {:.1f} %.",
     lambda: facts.best("random")),
    ("the networks lose {:.0f} points on average (95 % interval {:.0f} to {:.0f})",
     lambda: facts.lost("random", "actors")),
    ("{} reach the paper's accuracy on the random split; the other {} miss it by {:.1f} to {:.1f} points.", met),
    ("The paper's accuracies lie {:.1f} points apart, ours {:.1f}; on single folds of 240 clips, as many as the paper "
     "tests on, ours lie {:.1f} to {:.1f} points apart, too.", apart),
    ("With twins kept together the seven lose {:.1f} points on average (95 % interval over actors: {:.1f} to {:.1f}), "
     "with new voices {:.1f} more ({:.1f} to {:.1f}); within a protocol the best and the worst network are {:.1f} to "
     "{:.1f} points apart.", lambda: (*facts.lost("random", "twins"), *facts.lost("twins", "actors"), *within())),
    ("With the chance of the test clips in both figures counted, no network's difference from the paper survives "
     "Holm's correction (smallest p {:.2f});", against_paper),
    ("With a quarter more clips to learn from, the {} networks gain {:.1f} to {:.1f} points and come to {:.1f} to "
     "{:.1f} %. {} reach the paper's accuracy, the others miss it by {:.1f} to {:.1f} points.", refit),
    ("On unseen actors, where a refit brings four more voices and no twin, {} networks were refit (all but "
     "InceptionNet): they come to {:.1f} to {:.1f} % and gain {:.1f} points on average "
     "({:.1f} to {:.1f}).", refit_unseen),
    ("The seven refits, averaged, reach {:.1f} %", lambda: figure("random", "ensemble_refit")),
    ("With the seven and the dense networks refit, their ensemble reaches {:.1f} % on the random split.",
     lambda: figure("random", "aligned_ensemble_refit")),
    ("The ensembles are {} each of their networks under all three protocols", ensembles_lead),
    ("Averaging {} trainings of one network can bring as much: {:.1f} % for the Transformer.", averaged),
    ("The commonest mistake on the random split is {} taken for {}: on average the seven networks make it for {:.0f} % "
     "of the {} clips.", mistake),
    ("{} of the 1,440 test clips of the random split have their other take in training.",
     lambda: twins().twin_clips.iloc[0]),
    ("The Transformer recognises {:.1f} % of these and {:.1f} % of the others, about as many as when all twins are "
     "kept together ({:.1f} %).",
     lambda: (*twins().loc["transformer", ["twin", "alone"]], figure("twins", "transformer"))),
    ("The gap is {:.1f} to {:.1f} points", lambda: (twins().difference.min(), twins().difference.max())),
    ("With our gap, the paper's Transformer at {:.1f} % would recognise {:.0f} % with a twin and {:.0f} % without.",
     paper_with_our_gap),
    ("Which of the seven emotions are hard is partly the same for both (rank correlation {:+.2f})", beside_people),
    ("under *unseen actors* it and sadness are the least recognised. {} is found most often there", extremes),
    ("With twins kept together {} of {} survive, all of them over {}.", lambda: survivors("twins")),
    ("by ranks it is ahead of {} alone. There {} of {} differences survive, all of them over {}.",
     lambda: (*behind("random")[1:], *survivors("random"))),
    ("The smallest difference that survives is {:.1f} points, and on unseen actors even {:.1f} do not:", shown),
    ("On unseen actors {} does; by ranks, {} is just ahead of {}.",
     lambda: (pairs("actors").significant.sum() or "none", *behind("actors"))),
    ("On the random split the networks are off by {:.0f} to {:.0f} points",
     lambda: (min(calibration("random")), max(calibration("random")))),
    ("On voices never heard before their accuracy falls by {:.0f} points and their confidence by {:.0f}", fallen),
    ("Averaging the seven takes that down to {:.1f} points, but makes the answers too modest on the random split, by "
     "{:.1f}.", averaged_confidence),
    ("There {} voices train in place of {}, and clips are varied further", lambda: facts.voices("actors", "random")),
    ("the residual LSTM, trained from scratch, too ({} UAR), lies among ours, at {:.1f} to {:.1f}; of {} refits, on "
     "20 voices, the best is {}'s, {:.1f}. A logistic regression on 6,373 features made by hand is level with the best "
     "that was not refit ({}). The large networks shown, pretrained on other speech, reach {:.0f} to {:.0f};", unseen),
    ("do: {} recognises {:.0f} % of the clips, {} {:.0f}.", lambda: tuple(sum(paper.SMALLER.items(), ()))),
    ("But the folds are other random ones, ours average {} variants of each clip, and their 95 % intervals are about "
     "±{:.0f} points.", spread),
    ("Our ensemble, from 960 clips, comes to {:.1f} UAR. Trained in ten folds, our {} networks come to "
     "{:.1f} to {:.1f}, averaged to {:.1f}, and with the aligned view to {:.1f}. All that lies above GM-TCNet and CPAC "
     "and below TIM-Net.", known))]
