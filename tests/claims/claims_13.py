"""Numbers in the prose of notebooks/13_multimodal.ipynb."""

import functools
import json

import numpy as np
import pandas as pd

from ser_utils import EMOTIONS, fusion
from ser_utils.evaluation import metrics, statistics
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import RESULTS
from ser_utils.training import runs

FILE = "notebooks/13_multimodal.ipynb"


@functools.cache
def right():
    """Right or wrong by clip (rows), of the voice, the face and the fusions (columns)."""
    networks = runs.predictions(RESULTS, "actors")
    voice = metrics.ensemble(networks[networks.model.isin(list(MODEL_NAMES))], "voice")
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
    return right()[model].groupby(right().index.str[6:8]).mean().set_axis(list(EMOTIONS))


def one_of_them():
    return 100 * (right().voice | right().face).mean()


def without_face():
    infos = [json.loads((path / "run.json").read_text()) for path in runs.find(RESULTS)
             if path.parts[-3:-1] == ("actors", "fusion_feature")]
    found = 100 * np.mean([info["missing"]["face"]["accuracy"] for info in infos])
    assert abs(found - accuracy("voice")) < 1
    return found, accuracy("voice")


def wins():
    """Nothing to fill in: who finds which emotions more often, and that sadness stays the hardest."""
    ahead = recall("face") - recall("voice")
    assert (ahead[["neutral", "happy"]] > 0.15).all() and 0 < ahead.disgust < 0.1, ahead
    assert (ahead[["surprised", "fearful", "angry", "sad"]] < 0).all(), ahead
    assert recall("fusion_late").idxmin() == "sad"
    return ()


def from_intensity():
    """Points that strong intensity adds, without neutral: voice and face; what the face adds at normal, and strong."""
    found = right()[right().index.str[6:8] != "01"].astype(float)
    means = 100 * found.groupby(found.index.str[9:11]).mean()
    return *means.diff().loc["02", ["voice", "face"]], *(means.fusion_late - means.voice)


CLAIMS = [(FILE, *claim) for claim in (
    ("Together they recognise {:.1f} % of the clips, {:.1f} points more than the voice alone",
     lambda: (accuracy("fusion_late"), gain("fusion_late", "voice"))),
    ("The face alone recognises {:.1f} %, which is less than the voice's {:.1f} %.",
     lambda: (accuracy("face"), accuracy("voice"))),
    ("Joined they reach {:.1f} % by late and {:.1f} % by feature fusion.",
     lambda: (accuracy("fusion_late"), gain("fusion_feature", "voice") + accuracy("voice"))),
    ("The face tells happiness and neutral from the rest far better than the voice, and disgust a little better.",
     wins),
    ("One of the two is right on {:.1f} % of the clips", one_of_them),
    ("The feature network then reaches {:.1f} %, about as much as the voice ({:.1f} %)", without_face),
    ("Strong intensity adds {:.1f} points to the voice and {:.1f} to the face. The face adds {:.1f} points to the "
     "voice at normal intensity and {:.1f} at strong.", from_intensity))]
