import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from rmkit.core.checks import InputError
from rmkit.metrics import agreement, cohen_kappa, fleiss_kappa, show_percent

NAN = np.nan
FLEISS = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
          [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # ten items, fourteen judges; 0.210


def answers(counts):
    """Answers [item, judge] with these counts [item, category]."""
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts], dtype=float)


@pytest.mark.parametrize(
    ("wins", "ties", "pairs", "shown"),
    [(87, 14, 168, "55.95/56.49"), (79, 39, 168, "58.63/61.24"), (397, 59, 640, "66.64/68.33"),
     (256, 227, 640, "57.73/61.98")],
)
def test_counts_as_the_paper_does(wins, ties, pairs, shown):
    labels = np.random.default_rng(0).choice([1.0, -1.0], pairs)
    verdicts = labels * np.repeat([1, 0, -1], [wins, ties, pairs - wins - ties])
    found = agreement(verdicts, labels)
    assert found[2:5] == (wins, ties, pairs - wins - ties)
    assert f"{show_percent(found.with_ties)}/{show_percent(found.without_ties)}" == shown
    rounded = f"{100 * found.with_ties:.2f}/{100 * found.without_ties:.2f}"
    assert (rounded == shown) == (wins != 256)  # 61.985 tells cutting from rounding


def test_display_cuts_and_does_not_lose_what_floats_lose():
    assert show_percent(0.58) == "58.00" and show_percent(0.29) == "29.00"
    assert show_percent(0.66649) == "66.64" and show_percent(1.0) == "100.00"


def test_unread_answers_are_neither_ties_nor_losses():
    found = agreement([1, NAN, 0, -1, NAN, 1], [1, 1, 1, 1, NAN, 0])
    assert found == (0.5, 0.5, 1, 1, 1, 2, 1)
    as_ties = agreement([1, 0, 0, -1, 0, 1], [1, 1, 1, 1, NAN, 0])
    assert as_ties.ties == 2 and as_ties.unjudged == 0
    assert agreement([NAN], [1]) == (None, None, 0, 0, 0, 1, 0)
    assert agreement([0], [1])[:2] == (0.5, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1.0, 0, -1, NAN]), st.sampled_from([1.0, 0, -1, NAN])), min_size=1))
def test_agreement_properties(rows):
    verdicts, labels = np.array(rows).T
    found = agreement(verdicts, labels)
    assert sum(found[2:]) == len(rows)
    assert agreement(-verdicts, -labels) == found
    if found.with_ties is not None:
        assert agreement(-verdicts, labels).with_ties == pytest.approx(1 - found.with_ties)


def test_cohens_kappa_is_scikit_learns_on_common_items():
    generator = np.random.default_rng(0)
    first = generator.integers(-1, 2, 200).astype(float)
    second = np.where(generator.random(200) < 0.6, first, generator.integers(-1, 2, 200))
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert 0.4 < cohen_kappa(first, second) < 0.7
    holes = np.where(np.arange(200) < 50, NAN, first)
    assert cohen_kappa(holes, second) == pytest.approx(cohen_kappa_score(first[50:], second[50:]))
    assert cohen_kappa([1, 2, 4.5], [1, 2, 4.5]) == 1
    assert cohen_kappa([1, 2, 3, 1], [2, 3, 3, 1], weights="quadratic") > cohen_kappa([1, 2, 3, 1], [2, 3, 3, 1])


def test_fleiss_kappa_of_the_known_table():
    assert fleiss_kappa(answers(FLEISS)) == pytest.approx(0.210, abs=5e-4)
    shuffled = np.random.default_rng(0).permuted(answers(FLEISS), axis=1)
    assert fleiss_kappa(shuffled) == pytest.approx(fleiss_kappa(answers(FLEISS)))
    generator = np.random.default_rng(0)
    assert fleiss_kappa(generator.integers(0, 3, (5000, 3))) == pytest.approx(0, abs=0.02)
    assert fleiss_kappa([[0, 0, 0], [1, 1, 1]]) == 1
    assert fleiss_kappa([[0, 1], [1, 0]]) == -1


def test_fleiss_kappa_leaves_out_what_is_missing():
    whole = answers(FLEISS)
    lonely = np.full((1, 14), NAN)
    lonely[0, 3] = 2
    assert fleiss_kappa(np.concatenate([whole, lonely])) == fleiss_kappa(whole)
    wide = np.column_stack([whole, np.full(10, NAN)])
    assert fleiss_kappa(wide) == fleiss_kappa(whole)
    counted = np.column_stack([whole, np.full(10, 9.0)])  # were NaN taken for an answer of its own
    assert fleiss_kappa(counted) != pytest.approx(fleiss_kappa(whole), abs=0.01)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: agreement([1, 1], [1]), "labels.*shape"),
        (lambda: agreement([2], [1]), "verdicts.*got 2"),
        (lambda: cohen_kappa([1, 1], [1, 1]), "two different"),
        (lambda: cohen_kappa([1, NAN], [NAN, 2]), "two different"),
        (lambda: cohen_kappa([1, 2], [1]), "second.*shape"),
        (lambda: fleiss_kappa([[1, 1], [1, 1]]), "two different"),
        (lambda: fleiss_kappa([[1, NAN], [2, NAN]]), "an item with two answers, got none"),
        (lambda: fleiss_kappa([[NAN, NAN]]), "an item with two answers, got none"),
        (lambda: fleiss_kappa([1, 2]), "answers.*shape"),
    ],
)
def test_agreement_refuses(call, names):
    with pytest.raises(InputError, match=names):
        call()
