"""ser_utils.paper: the facts agree with one another and with the design's audit."""

import pytest

from ser_utils import paper
from ser_utils.evaluation import metrics as evaluation


def test_every_network_has_a_row_and_the_order_is_the_same():
    assert list(paper.TABLE2) == list(paper.MODEL_NAMES)
    assert len(paper.MODEL_NAMES) == 7


def test_accuracies_are_the_printed_ones():
    printed = [row[0] for row in paper.TABLE2.values()]
    assert printed == [78.4, 83.6, 81.2, 85.0, 85.5, 79.8, 87.3]


def test_only_two_accuracies_are_possible_with_240_clips():
    def possible(percent):
        return any(round(100 * hits / 240, 1) == percent for hits in range(241))

    assert {model for model, row in paper.TABLE2.items() if possible(row[0])} == {"inceptionnet", "vgg16"}


@pytest.mark.parametrize("model", paper.TABLE2)
def test_rows_are_percentages_and_f1_follows_the_right_formula(model):
    accuracy, precision, recall, f1 = paper.TABLE2[model]
    assert 50 < accuracy < 100
    for value in (precision, recall, f1):
        assert 50 < value < 100
    assert abs(f1 - 2 * precision * recall / (precision + recall)) <= 0.11


def test_table1_adds_up_to_the_corpus():
    assert sum(paper.TABLE1.values()) == 1440


def test_human_figures():
    assert tuple(paper.HUMAN["emotion"]) == evaluation.EMOTIONS
    assert paper.HUMAN["emotion"]["neutral"] == paper.HUMAN["emotion"]["calm"]
    assert paper.HUMAN["overall"] == 62.4
