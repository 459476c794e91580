"""Numbers in the prose of notebooks 03 to 09, a network each."""

import facts
import numpy as np
from scipy.stats import binomtest

from ser_utils import EMOTIONS, PROTOCOLS
from ser_utils.evaluation import metrics
from ser_utils.models import build
from ser_utils.paper import MODEL_NAMES, TABLE2
from ser_utils.paths import RESULTS
from ser_utils.training import runs

PAGES = {model: f"notebooks/{number:02d}_{model}.ipynb" for number, model in enumerate(TABLE2, 3)}


def papers_split(model: str) -> tuple[float, float]:
    """Accuracy on the random split, per cent: the published folds' and the paper's."""
    row = facts.network(model).loc["random"]
    return row.accuracy, row.paper_accuracy


def unseen(model: str) -> float:
    return facts.network(model).accuracy["actors"]


def shares(model: str, protocol: str) -> np.ndarray:
    """What the test clips of each emotion (rows) are taken for."""
    test = facts.predictions(protocol, model)
    counts = metrics.confusion(test.label, test.prediction)
    return counts / counts.sum(axis=1, keepdims=True)


def by_loss(model: str) -> list[str]:
    """The emotions by what recall they lose from known to new voices, the most first."""
    lost = shares(model, "random").diagonal() - shares(model, "actors").diagonal()
    return [EMOTIONS[label] for label in np.argsort(-lost)]


def taken_for(model: str, emotion: str, count: int) -> set[str]:
    """The emotions that clips of new voices are taken for most, by mistake."""
    order = [EMOTIONS[label] for label in np.argsort(-shares(model, "actors")[EMOTIONS.index(emotion)])]
    return set([other for other in order if other != emotion][:count])


# Claims with nothing to fill in: they hold or do not


def several_points_each(model: str) -> tuple:
    accuracy = facts.network(model).accuracy[list(PROTOCOLS)]
    assert (-accuracy.diff().dropna()).between(4, 15).all(), accuracy
    return ()


def training_ends_above_95(*models: str) -> tuple:
    for protocol in PROTOCOLS:
        for model in models:
            last = [runs.read_history(d).accuracy.iloc[-1] for d in runs.find(RESULTS)
                    if d.parts[-3:-1] == (protocol, model)]
            assert np.mean(last) > 0.95, (protocol, last)
    return ()


def neutral_and_sad_are_hard(model: str) -> tuple:
    for protocol in PROTOCOLS:
        hardest = [EMOTIONS[i] for i in np.argsort(shares(model, protocol).diagonal())[:3]]
        assert {"neutral", "sad"} <= set(hardest), (protocol, hardest)
    return ()


def least_accurate_on_the_papers_split(model: str) -> tuple:
    table = facts.table2().query("protocol == 'random'").set_index("model").accuracy[list(MODEL_NAMES)]
    assert table.idxmin() == model, table
    return ()


def new_voices_cost(model: str, most: set, least: str = "angry", taken: dict | None = None) -> tuple:
    """Which emotions suffer most and least, and what some are taken for."""
    order = by_loss(model)
    assert set(order[: len(most)]) == most and order[-1] == least, order
    assert all(taken_for(model, emotion, len(others)) == others for emotion, others in (taken or {}).items())
    return ()


def neutral_one_in_three() -> tuple:
    assert round(96 * shares("lstm", "actors")[0, 0]) == 32 and taken_for("lstm", "neutral", 3) == {
        "sad", "calm", "happy"}
    return ()


def smallest_p() -> float:
    """McNemar's exact test between VGG16 and VGG19, the smallest p-value of the protocols."""
    right = [facts.predictions(None, model).query("protocol in @PROTOCOLS").set_index(["protocol", "clip"])
             .eval("prediction == label") for model in ("vgg16", "vgg19")]
    only = (right[0] & ~right[1]).groupby("protocol").sum(), (~right[0] & right[1]).groupby("protocol").sum()
    return min(binomtest(a, a + b).pvalue for a, b in zip(*only, strict=True))


def extra_parameters() -> float:
    one, other = (runs.Run(RESULTS / "random" / model / "fold0").info["parameters"] for model in ("vgg16", "vgg19"))
    return 100 * (other / one - 1)


def papers_best() -> tuple[float, float]:
    assert max(TABLE2, key=lambda model: TABLE2[model][0]) == "transformer"
    return papers_split("transformer")


CLAIMS = [(PAGES[model], sentence, lambda compute=compute, model=model: compute(model))
          for model in ("alexnet", "resnet", "inceptionnet") for sentence, compute in (
    (f"On the paper's split our {MODEL_NAMES[model]} recognises {{:.1f}} % of the clips, the paper's {{:.1f}} %.",
     papers_split),
    ("Keeping twins together costs several points, keeping voices apart several more", several_points_each),
    ("Training accuracy ends above 95 % under all three protocols", training_ends_above_95),
    ("Neutral and sad are among the three emotions recognised least under each protocol.", neutral_and_sad_are_hard))
] + [(PAGES[model], f"On the paper's split {name} recognises {{:.1f}} % of the clips; the paper reports {{:.1f}} %.",
      lambda model=model: papers_split(model)) for model, name in (
    ("vgg16", "VGG16"), ("vgg19", "VGG19"), ("lstm", "the LSTM"))
] + [(PAGES[model], "With unseen actors it is {:.1f} %.", lambda model=model: unseen(model))
     for model in ("vgg19", "lstm", "transformer")
] + [(PAGES[model], sentence, compute) for model, sentence, compute in (
    ("alexnet", "Those two hold {:.0f} of the original's {:.0f} million parameters",
     lambda: (4096 * (9216 + 4098) / 1e6, build("alexnet", (227, 227, 3), canonical=True).count_params() / 1e6)),
    ("vgg16", "two dense layers of 4,096 units hold {:.0f} of the 138 million", lambda: 4096 * (25_088 + 4098) / 1e6),
    ("inceptionnet", "on the paper's split InceptionNet is the least accurate of our seven.",
     lambda: least_accurate_on_the_papers_split("inceptionnet")),
    ("vgg16", "With twins kept together it is {:.1f} %, with unseen actors {:.1f} %:",
     lambda: tuple(facts.network("vgg16").accuracy[["twins", "actors"]])),
    ("vgg16", "New voices cost sad and calm most: sad is then often taken for fearful or calm. Angry suffers least.",
     lambda: new_voices_cost("vgg16", {"sad", "calm"}, taken={"sad": {"fearful", "calm"}})),
    ("vgg19", "The paper reproduced here reports {:.1f} % for VGG16 and {:.1f} % for VGG19",
     lambda: (TABLE2["vgg16"][0], TABLE2["vgg19"][0])),
    ("vgg19", "training accuracy ends above 95 % under every protocol.",
     lambda: training_ends_above_95("vgg16", "vgg19")),
    ("vgg19", "New voices cost calm and sad most, angry least.", lambda: new_voices_cost("vgg19", {"calm", "sad"})),
    ("vgg19", "The smallest of the three p-values is {:.2f}, so no difference stands out from chance.", smallest_p),
    ("vgg19", "The price of the three layers is {:.0f} % more parameters.", extra_parameters),
    ("lstm", "Of new voices' neutral clips it recognises one in three and takes most of the others for sad, happy or "
             "calm.", neutral_one_in_three),
    ("transformer", "the Transformer recognises {:.1f} % of the clips; the paper reports {:.1f} %, its best.",
     papers_best),
    ("transformer", "New voices cost neutral and sad most: neutral is then often taken for happy, sad for fearful. "
                    "Angry they cost least.",
     lambda: new_voices_cost("transformer", {"neutral", "sad"}, taken={"neutral": {"happy"}, "sad": {"fearful"}})))]
