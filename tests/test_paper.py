"""ser_utils.paper: the facts agree with one another and with the design's audit."""

import pytest

from ser_utils import paper
from ser_utils.evaluation import metrics as evaluation


def test_the_facts_of_the_paper_and_of_people():
    assert list(paper.TABLE2) == list(paper.MODEL_NAMES) and len(paper.MODEL_NAMES) == 7
    assert [row[0] for row in paper.TABLE2.values()] == [78.4, 83.6, 81.2, 85.0, 85.5, 79.8, 87.3]
    assert sum(paper.TABLE1.values()) == 1440
    assert tuple(paper.HUMAN["emotion"]) == evaluation.EMOTIONS
    assert paper.HUMAN["emotion"]["neutral"] == paper.HUMAN["emotion"]["calm"]
    assert paper.HUMAN["overall"] == 62.4


@pytest.mark.parametrize("model", paper.TABLE2)
def test_rows_are_percentages_f1_follows_the_right_formula_and_two_accuracies_are_possible(model):
    accuracy, precision, recall, f1 = paper.TABLE2[model]
    assert all(50 < value < 100 for value in (accuracy, precision, recall, f1))
    assert abs(f1 - 2 * precision * recall / (precision + recall)) <= 0.11
    possible = any(round(100 * hits / 240, 1) == accuracy for hits in range(241))  # with 240 test clips
    assert possible == (model in ("inceptionnet", "vgg16"))
