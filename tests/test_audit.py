"""The audit of the paper's table, against brute force, known answers and statsmodels."""

import itertools
from fractions import Fraction

import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from ser_utils import EMOTIONS, paper
from ser_utils.paper import TABLE2
from ser_utils.studies import audit


def test_the_facts_of_the_paper_and_of_people():
    assert list(TABLE2) == list(paper.MODEL_NAMES)[:7] and sum(paper.TABLE1.values()) == 1440
    assert [row[0] for row in TABLE2.values()] == [78.4, 83.6, 81.2, 85.0, 85.5, 79.8, 87.3]
    assert all(50 < value < 100 for row in TABLE2.values() for value in row)
    assert tuple(paper.HUMAN["emotion"]) == EMOTIONS and paper.HUMAN["overall"] == 62.4


@pytest.mark.parametrize("printed, denominator, expected", [
    (81.2, 240, [195]), (81.3, 240, [195]),  # 81.25, a tie: rounds to 81.2 or 81.3
    (78.4, 240, []),  # between 78.333 and 78.75
    (85.0, 240, [204]), (94.3, 435, [410]), (33.3, 3, [1]), (100.0, 240, [240]), (0.0, 240, [0]),
    (50.0, 4000, [1998, 1999, 2000, 2001, 2002])])
def test_numerators_known_answers(printed, denominator, expected):
    assert audit.numerators(printed, denominator) == expected


def test_in_a_stratified_test_set_recall_can_be_any_multiple_of_1_256_and_no_other_share():
    recalls = {Fraction(0)}
    for size in audit.TEST_SIZES:
        recalls = {recall + Fraction(k, 8 * size) for recall in recalls for k in range(size + 1)}
    assert recalls == {Fraction(m, audit.WHOLE["recall"]) for m in range(257)} and audit.WHOLE["recall"] == 256


def test_grim_of_the_papers_table_and_averaging_frees_every_figure_at_last():
    verdicts = audit.grim().pivot(index="model", columns="metric", values="verdict")
    assert verdicts.shape == (7, 4) and set(verdicts[["precision", "f1"]].to_numpy().ravel()) == {"not checkable"}
    assert set(verdicts.index[verdicts.accuracy == "possible"]) == {"inceptionnet", "vgg16"}
    assert set(verdicts.index[verdicts.recall == "possible"]) == {"resnet", "inceptionnet", "vgg16", "vgg19"}
    table = audit.averaging(6).set_index("runs")
    assert (table.accuracies[1], table.recalls[1], table.step[6]) == (2, 4, pytest.approx(100 / 1440))
    assert (table.loc[4:, ["accuracies", "recalls"]] == 7).all(axis=None)


def test_f1_follows_the_right_formula_and_not_the_printed_one(monkeypatch):
    table = audit.f1_check()
    assert table.consistent.all() and (table.printed - table.harmonic).abs().max() < 0.1
    monkeypatch.setattr(audit, "TABLE2", {"a": (0, 80.0, 60.0, 68.6), "b": (0, 80.0, 60.0, 70.0)})
    assert audit.f1_check().consistent.tolist() == [True, False]


def test_mcnemar_bounds_are_those_of_every_possible_overlap():
    clips = 12
    for a, b in itertools.product(range(clips + 1), repeat=2):
        pvalues = []
        for both in range(max(0, a + b - clips), min(a, b) + 1):
            table = [[both, a - both], [b - both, clips - a - b + both]]
            pvalues.append(mcnemar(table, exact=True).pvalue if a + b > 2 * both else 1.0)
        assert audit.mcnemar_bounds(a, b, clips) == (pytest.approx(min(pvalues)), pytest.approx(max(pvalues)))


def test_pairs_of_the_paper():
    table = audit.pairs()
    assert len(table) == 21 and (table.points > 0).all() and table.points.is_monotonic_decreasing
    first = table.iloc[0]
    assert (first.better, first.worse) == ("transformer", "alexnet")
    assert first.p_unpaired == pytest.approx(stats.chi2_contingency([[210, 30], [188, 52]], correction=False).pvalue)
    assert first.p_least == pytest.approx(2 * 0.5**22) and (table.holm_least >= table.p_least).all()
    row = audit.intervals().iloc[0]
    assert (row.low, row.high) == pytest.approx([72.70, 83.08], abs=0.01)
