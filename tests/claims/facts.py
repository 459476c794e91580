"""What the claims of several pages compute: accuracies, recalls and last epochs of the published runs."""

import numpy as np

from ser_utils import EMOTIONS, PROTOCOLS
from ser_utils.evaluation import metrics, tables
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import RESULTS
from ser_utils.training import runs


def ours_and_the_papers(model: str) -> tuple[float, float]:
    """Accuracy on the random split, per cent: the published folds' and the paper's."""
    row = tables.network(model).set_index("protocol").loc["random"]
    return row.accuracy, row.paper_accuracy


def several_points_each(model: str) -> tuple:
    """Nothing to fill in: from random to twins to actors an accuracy falls by 4 to 15 points each."""
    accuracy = tables.network(model).set_index("protocol").accuracy[list(PROTOCOLS)]
    assert (-accuracy.diff().dropna()).between(4, 15).all(), accuracy
    return ()


def training_ends_above_95(model: str) -> tuple:
    """Nothing to fill in: the mean training accuracy of the last epoch, by protocol."""
    for protocol in PROTOCOLS:
        last = [runs.read_history(d).accuracy.iloc[-1] for d in runs.find(RESULTS)
                if d.parts[-3:-1] == (protocol, model)]
        assert np.mean(last) > 0.95, (protocol, last)
    return ()


def neutral_and_sad_are_hard(model: str) -> tuple:
    """Nothing to fill in: both are among the three emotions of lowest recall under each protocol."""
    for protocol in PROTOCOLS:
        test = runs.predictions(RESULTS, protocol, model)
        counts = metrics.confusion(test.label, test.prediction)
        hardest = [EMOTIONS[i] for i in np.argsort(counts.diagonal() / counts.sum(axis=1))[:3]]
        assert {"neutral", "sad"} <= set(hardest), (protocol, hardest)
    return ()


def least_accurate_on_the_papers_split(model: str) -> tuple:
    """Nothing to fill in: no other of the seven networks is less accurate."""
    table = tables.table2().query("protocol == 'random'").set_index("model").accuracy[list(MODEL_NAMES)]
    assert table.idxmin() == model, table
    return ()
