"""Numbers in the prose of notebooks/13_multimodal.ipynb."""

import functools
import json

import numpy as np
import pandas as pd
from scipy import stats

from ser_utils import EMOTIONS, fusion
from ser_utils.evaluation import metrics, statistics
from ser_utils.paper import TABLE2
from ser_utils.paths import RESULTS
from ser_utils.training import runs

FILE = "notebooks/13_multimodal.ipynb"


@functools.cache
def right():
    """Right or wrong by clip (rows), of the voice, the face and the fusions (columns)."""
    networks = runs.predictions(RESULTS, "actors")
    voice = metrics.ensemble(networks[networks.model.isin(list(TABLE2))], "voice")
    test = pd.concat([voice, *(runs.predictions(RESULTS, "actors", model) for model in fusion.MODELS)])
    return test.assign(right=test.label == test.prediction).pivot(index="clip", columns="model", values="right")


def accuracy(model):
    return 100 * right()[model].mean()


def gain(a, b):
    """Points by which one is more accurate; the difference must hold over clips and over actors."""
    actors = metrics.clip_facts(right().index).actor
    one, other = right()[a], right()[b]
    p = [statistics.mcnemar(one, other)["p"], statistics.wilcoxon_actors(one, other, actors)["p"]]
    assert max(p) < 0.001, p
    return accuracy(a) - accuracy(b)


def recall(model):
    return 100 * right()[model].groupby(right().index.str[6:8]).mean().set_axis(list(EMOTIONS))


def one_of_them():
    return 100 * (right().voice | right().face).mean()


def without_face():
    infos = [json.loads((path / "run.json").read_text()) for path in runs.find(RESULTS)
             if path.parts[-3:-1] == ("actors", "fusion_feature")]
    found = 100 * np.mean([info["missing"]["face"]["accuracy"] for info in infos])
    assert abs(found - accuracy("voice")) < 1
    return found, accuracy("voice")


def wins():
    """Face less voice: happy, neutral; voice less face: surprised, angry; with intervals over actors but neutral's."""
    rows = {}
    for number, emotion in enumerate(EMOTIONS, 1):
        face, voice = (right().loc[right().index.str[6:8] == f"{number:02d}", model] for model in ("face", "voice"))
        low, high = statistics.bootstrap_difference(face, voice, face.index.str[-2:])
        rows[emotion] = 100 * (face.mean() - voice.mean()), 100 * low, 100 * high
    assert {name for name, (_, low, high) in rows.items() if low > 0 or high < 0} == {"happy", "surprised", "angry"}
    assert recall("fusion_late").idxmin() == "sad"
    return (*rows["happy"], rows["neutral"][0], *(-rows[name][place] for name in ("surprised", "angry")
                                                  for place in (0, 2, 1)))


def from_intensity():
    """Points that strong intensity adds, without neutral: voice and face; what the face adds at normal, and strong."""
    found = right()[right().index.str[6:8] != "01"].astype(float)
    means = 100 * found.groupby(found.index.str[9:11]).mean()
    pairs = found.groupby([found.index.str[-2:], found.index.str[6:8] + found.index.str[11:], found.index.str[9:11]])
    strong, normal = (pairs.mean().xs(which, level=2) for which in ("02", "01"))
    added = []
    for model in ("voice", "face"):
        ends = statistics.bootstrap_difference(strong[model], normal[model], strong.index.get_level_values(0))
        assert (ends[0] > 0) == (model == "voice")
        added += [means.diff().loc["02", model], *(100 * end for end in ends)]
    return *added, *(means.fusion_late - means.voice)


def women():
    """Points by which women are recognised better, with Welch's interval over actors: by voice, by face."""
    found = []
    for model in ("voice", "face"):
        own = 100 * right()[model].groupby(right().index.str[-2:].astype(int)).mean()
        test = stats.ttest_ind(own[own.index % 2 == 0], own[own.index % 2 == 1], equal_var=False)
        ends = test.confidence_interval()
        found += [sum(ends) / 2, *ends]
    assert found[1] > 0 > found[4]
    return tuple(found)


CLAIMS = [(FILE, *claim) for claim in (
    ("Together they recognise {:.1f} % of the clips, {:.1f} points more than the voice alone",
     lambda: (accuracy("fusion_late"), gain("fusion_late", "voice"))),
    ("The face alone recognises {:.1f} %, which is less than the voice's {:.1f} %.",
     lambda: (accuracy("face"), accuracy("voice"))),
    ("Joined they reach {:.1f} % by late and {:.1f} % by feature fusion.",
     lambda: (accuracy("fusion_late"), gain("fusion_feature", "voice") + accuracy("voice"))),
    ("Stacking, which fits {} numbers to them", lambda: len(EMOTIONS) * (2 * len(EMOTIONS) + 1)),
    ("Even sadness, hard for both, rises from {:.0f} % (voice) and {:.0f} % (face) to {:.0f} %",
     lambda: tuple(recall(model).sad for model in ("voice", "face", "fusion_late"))),
    ("The face tells happiness far better than the voice ({:+.0f} points, {:.0f} to {:.0f}), and neutral by {:.0f}, on "
     "too few clips to be sure. The voice hears surprise far better ({:+.0f}, {:.0f} to {:.0f}), which the face often "
     "takes for fear, and anger ({:+.0f}, {:.0f} to {:.0f}).", wins),
    ("Women are recognised better by voice, by {:.1f} points ({:.1f} to {:.1f} by Welch's t); by face the gap of "
     "{:.1f} is within chance ({:.1f} to {:.1f}).", women),
    ("One of the two is right on {:.1f} % of the clips", one_of_them),
    ("The feature network then reaches {:.1f} %, about as much as the voice ({:.1f} %)", without_face),
    ("Strong intensity adds {:.1f} points to the voice ({:.1f} to {:.1f}); what it adds to the face, {:.1f}, is within "
     "chance ({:.1f} to {:.1f}). The face adds {:.1f} points to the voice at normal intensity and {:.1f} at strong.",
     from_intensity))]
