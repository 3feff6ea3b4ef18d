"""Length-controlled selection (METHODS 2.4, T11)."""

from fractions import Fraction

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.data.samples import is_first_occurrence
from rmkit.meta_rewarding.actor_selection import choose_rho, select_pair, select_pairs

SCORES, LENGTHS = (4.5, 4.4, 4.2, 3.0, 2.0), (2000, 1500, 900, 1200, 2600)
NAN = np.nan


@pytest.mark.parametrize(("rho", "pair"), [(0, (0, 4)), (0.1, (1, 4)), (0.3, (2, 4)), (0.4, (2, 4))])
def test_the_papers_rule(rho, pair):
    assert select_pair(SCORES, LENGTHS, rho=rho) == pair


def select_slowly(scores, lengths, rho):
    """The rule in exact arithmetic, a response at a time."""
    known = [place for place, score in enumerate(scores) if score is not None]
    if len(known) < 2 or len({scores[place] for place in known}) == 1:
        return None
    high, low = max(scores[place] for place in known), min(scores[place] for place in known)
    good = [place for place in known if scores[place] >= (1 - rho) * high + rho * low]
    bad = [place for place in known if scores[place] <= (1 - rho) * low + rho * high]
    return (min(good, key=lambda place: (lengths[place], -scores[place], place)),
            min(bad, key=lambda place: (-lengths[place], scores[place], place)))


def test_ten_thousand_cases_agree_with_the_slow_rule():
    """Scores are means of 11 on a coarse scale, so that many stand on the edge of a range, where floats waver."""
    generator = np.random.default_rng(0)
    skipped = on_edge = 0
    for rho in [Fraction(part, 100) for part in (0, 10, 25, 32, 40)]:
        elevenths = generator.integers(0, 23, (2000, 7)) * 5
        gaps, lengths = generator.random((2000, 7)) < 0.25, generator.integers(1, 6, (2000, 7))
        gaps[:40] |= np.arange(7) > 0
        scores = np.where(gaps, NAN, elevenths / 11)
        found = select_pairs(scores, lengths, rho=float(rho))
        for row in range(2000):
            exact = [None if gap else Fraction(int(number), 11) for gap, number in zip(gaps[row], elevenths[row],
                                                                                       strict=True)]
            pair = select_slowly(exact, lengths[row].tolist(), rho)
            assert tuple(found[row]) == (pair or (-1, -1)), (exact, lengths[row], rho)
            skipped += pair is None
            given = [score for score in exact if score is not None]
            edge = given and (1 - rho) * max(given) + rho * min(given)
            on_edge += any(score == edge != max(given) for score in given)
            assert row % 20 or select_pair(scores[row], lengths[row], rho=float(rho)) == pair
    assert skipped >= 200 and on_edge >= 100


def test_a_mean_on_the_edge_belongs_to_the_range():
    scores = [0.1 + 0.2, 0.3 - 0.1 / 1e16, 0.0]  # 0.30000000000000004 and 0.3
    assert scores[0] > scores[1]
    assert select_pair(scores, [20, 10, 5], rho=0.0) == (1, 2)


@pytest.mark.parametrize(
    "scores", [[3.0, 3.0, 3.0], [3.0, NAN, NAN], [NAN, NAN, NAN], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0, NAN]]
)
def test_nothing_to_tell_apart_is_skipped(scores):
    assert select_pair(scores, [1, 2, 3], rho=0.2) is None
    assert select_pairs([scores, [1, 2, NAN]], [[1, 2, 3], [1, 2, NAN]], rho=0.0).tolist() == [[-1, -1], [1, 0]]


def test_ties_of_scores_and_lengths():
    assert select_pair([5, 5, 5, 1, 1, 1], [3, 2, 2, 1, 4, 4], rho=0) == (1, 4)
    assert select_pair([5, 4.8, 4.9, 1, 1.1, 0.9], [2, 2, 2, 4, 4, 4], rho=0.1) == (0, 5)
    assert select_pair([4.8, 5, 1, 0.9], [2, 2, 4, 4], rho=0.1) == (1, 3)


def test_what_repeats_another_is_left_out():
    texts = ["yes", " yes\n", "no", "yes", "maybe", "no"]
    first = is_first_occurrence(texts)
    assert first.tolist() == [True, False, True, False, True, False]
    scores = np.array([5.0, 5.5, 1.0, 0.0, 3.0, 0.5])  # the judge's noise tells a response from itself
    lengths = np.array([len(text) for text in texts])
    chosen, rejected = select_pair(np.where(first, scores, NAN), lengths, rho=0.0)
    assert texts[chosen].strip() != texts[rejected].strip()
    assert select_pair(scores, lengths, rho=0.0) == (1, 3)  # without it, the same words on both sides


def test_more_rho_makes_the_chosen_shorter_and_the_rejected_longer():
    generator = np.random.default_rng(1)
    scores, lengths = generator.normal(size=(500, 7)), generator.integers(50, 3000, (500, 7))
    rows = np.arange(500)
    ends = [[lengths[rows, side] for side in select_pairs(scores, lengths, rho=rho).T]
            for rho in (0, 0.1, 0.2, 0.3, 0.4, 0.49)]
    for (chosen, rejected), (next_chosen, next_rejected) in zip(ends, ends[1:], strict=False):
        assert (next_chosen <= chosen).all() and (next_rejected >= rejected).all()
        assert next_chosen.mean() < chosen.mean()


def test_scale_and_shift_of_scores_change_nothing():
    generator = np.random.default_rng(2)
    scores, lengths = generator.normal(size=(200, 5)), generator.integers(1, 9, (200, 5))
    there, back = (select_pairs(values, lengths, rho=0.3) for values in (scores, 7 * scores - 40))
    np.testing.assert_array_equal(there, back)


def test_rho_holds_the_length():
    generator = np.random.default_rng(3)
    lengths = generator.integers(200, 3000, (400, 7))
    scores = lengths / 1000 + generator.normal(size=lengths.shape)  # a judge that likes length
    grid = [0.4, 0.0, 0.1, 0.2, 0.3]
    means = {}
    for rho in grid:
        chosen = select_pairs(scores, lengths, rho=rho)[:, 0]
        means[rho] = np.mean([lengths[row, place] for row, place in enumerate(chosen)])
    for rho in grid:
        assert choose_rho(scores, lengths, target=means[rho], grid=grid) == rho
    assert choose_rho(scores, lengths, target=5000, grid=grid) == 0.0
    assert choose_rho(scores, lengths, target=10, grid=grid) == 0.4
    assert choose_rho([[2, 1]], [[5, 9]], target=5, grid=[0.3, 0.1]) == 0.1  # both the same: the smaller


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"rho": 0.5}, "rho"), ({"rho": -0.1}, "rho"), ({"rho": NAN}, "rho"),
        ({"scores": [[1.0, np.inf]]}, "scores"), ({"scores": [1.0, 2.0]}, "scores"),
        ({"lengths": [[1, NAN]]}, "lengths"), ({"lengths": [[1, 2, 3]]}, "lengths"),
        ({"lengths": [[1, -2]]}, "lengths"),
    ],
)
def test_selection_refuses(changes, names):
    with pytest.raises(InputError, match=names):
        select_pairs(**({"scores": [[1.0, 2.0]], "lengths": [[1, 2]], "rho": 0.1} | changes))


def test_choice_of_rho_refuses():
    for scores, target, grid in (([[1, 2]], 5, []), ([[1, 2]], 0, [0.1]), ([[1, 1]], 5, [0.1]), ([[1, 2]], 5, [0.7])):
        with pytest.raises(InputError):
            choose_rho(scores, [[1, 2]], target=target, grid=grid)
