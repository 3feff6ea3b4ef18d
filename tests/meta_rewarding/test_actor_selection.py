"""Length-controlled selection of chosen and rejected responses (METHODS 2.4, T11)."""

from fractions import Fraction

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.data.samples import is_first_occurrence
from rmkit.meta_rewarding.actor_selection import choose_rho, select_pairs

SCORES, LENGTHS = (4.5, 4.4, 4.2, 3.0, 2.0), (2000, 1500, 900, 1200, 2600)
NAN = np.nan


def select_pair(scores, lengths, rho):
    """The pair of one prompt, None if it has none."""
    pair = tuple(select_pairs([scores], [lengths], rho=rho)[0].tolist())
    return None if pair == (-1, -1) else pair


@pytest.mark.parametrize("scores, lengths, rho, pair", [
    (SCORES, LENGTHS, 0, (0, 4)), (SCORES, LENGTHS, 0.1, (1, 4)), (SCORES, LENGTHS, 0.3, (2, 4)),
    (SCORES, LENGTHS, 0.4, (2, 4)),
    ([5, 5, 5, 1, 1, 1], [3, 2, 2, 1, 4, 4], 0, (1, 4)),  # ties in score go by length
    ([5, 4.8, 4.9, 1, 1.1, 0.9], [2, 2, 2, 4, 4, 4], 0.1, (0, 5)),  # ties in length go by score
    ([4.8, 5, 1, 0.9], [2, 2, 4, 4], 0.1, (1, 3)),
    ([0.1 + 0.2, 0.3 - 0.1 / 1e16, 0.0], [20, 10, 5], 0.0, (1, 2)),  # 0.30000000000000004 and 0.3 are equal
    ([3.0, 3.0, 3.0], [1, 2, 3], 0.2, None), ([3.0, NAN, NAN], [1, 2, 3], 0.2, None),
    ([NAN, NAN, NAN], [1, 2, 3], 0.2, None), ([0.1 + 0.2, 0.3, 0.3], [1, 2, 3], 0.2, None),
])
def test_examples(scores, lengths, rho, pair):
    assert select_pair(scores, lengths, rho) == pair


def select_exactly(scores, lengths, rho):
    """The rule in exact arithmetic, a response at a time."""
    scored = [index for index, score in enumerate(scores) if score is not None]
    if len({scores[index] for index in scored}) < 2:
        return None
    high, low = max(scores[index] for index in scored), min(scores[index] for index in scored)
    good = [index for index in scored if scores[index] >= (1 - rho) * high + rho * low]
    bad = [index for index in scored if scores[index] <= (1 - rho) * low + rho * high]
    return (min(good, key=lambda index: (lengths[index], -scores[index], index)),
            min(bad, key=lambda index: (-lengths[index], scores[index], index)))


def test_random_cases_agree_with_exact_arithmetic():
    """Scores are means of 11 on a coarse scale, so that many lie on a bound, where rounding errors matter."""
    generator = np.random.default_rng(0)
    skipped = on_bound = 0
    for rho in [Fraction(part, 100) for part in (0, 10, 25, 32, 40)]:
        elevenths = generator.integers(0, 23, (2000, 7)) * 5
        missing, lengths = generator.random((2000, 7)) < 0.25, generator.integers(1, 6, (2000, 7))
        missing[:40] |= np.arange(7) > 0
        pairs = select_pairs(np.where(missing, NAN, elevenths / 11), lengths, rho=float(rho))
        for row in range(2000):
            exact = [None if gap else Fraction(int(score), 11)
                     for gap, score in zip(missing[row], elevenths[row], strict=True)]
            expected = select_exactly(exact, lengths[row].tolist(), rho)
            assert tuple(pairs[row]) == (expected or (-1, -1)), (exact, lengths[row], rho)
            skipped += expected is None
            given = [score for score in exact if score is not None]
            bound = given and (1 - rho) * max(given) + rho * min(given)
            on_bound += any(score == bound != max(given) for score in given)
    assert skipped >= 200 and on_bound >= 100


def test_repeated_responses_can_be_masked():
    texts = ["yes", " yes\n", "no", "yes", "maybe", "no"]
    first = is_first_occurrence(texts)
    assert first.tolist() == [True, False, True, False, True, False]
    scores = np.array([5.0, 5.5, 1.0, 0.0, 3.0, 0.5])  # a noisy judge scores the same text differently
    lengths = [len(text) for text in texts]
    assert select_pair(np.where(first, scores, NAN), lengths, 0.0) == (0, 2)
    assert select_pair(scores, lengths, 0.0) == (1, 3)  # without the mask, the same text on both sides


def test_larger_rho_makes_chosen_shorter_and_rejected_longer():
    generator = np.random.default_rng(1)
    scores, lengths = generator.normal(size=(500, 7)), generator.integers(50, 3000, (500, 7))
    sides = [[lengths[np.arange(500), side] for side in select_pairs(scores, lengths, rho=rho).T]
             for rho in (0, 0.1, 0.2, 0.3, 0.4, 0.49)]
    for (chosen, rejected), (next_chosen, next_rejected) in zip(sides, sides[1:], strict=False):
        assert (next_chosen <= chosen).all() and (next_rejected >= rejected).all()
        assert next_chosen.mean() < chosen.mean()


def test_scale_and_shift_of_scores_change_nothing():
    generator = np.random.default_rng(2)
    scores, lengths = generator.normal(size=(200, 5)), generator.integers(1, 9, (200, 5))
    np.testing.assert_array_equal(*(select_pairs(values, lengths, rho=0.3) for values in (scores, 7 * scores - 40)))


def test_rho_is_chosen_by_length():
    generator = np.random.default_rng(3)
    lengths = generator.integers(200, 3000, (400, 7))
    scores = lengths / 1000 + generator.normal(size=lengths.shape)  # a judge that prefers longer responses
    grid = [0.4, 0.0, 0.1, 0.2, 0.3]
    for rho in grid:
        chosen = select_pairs(scores, lengths, rho=rho)[:, 0]
        assert choose_rho(scores, lengths, target=lengths[np.arange(400), chosen].mean(), grid=grid) == rho
    assert choose_rho(scores, lengths, target=5000, grid=grid) == 0.0
    assert choose_rho(scores, lengths, target=10, grid=grid) == 0.4
    assert choose_rho([[2, 1]], [[5, 9]], target=5, grid=[0.3, 0.1]) == 0.1  # a tie takes the smaller


@pytest.mark.parametrize("changes, match", [
    ({"rho": 0.5}, "rho"), ({"rho": -0.1}, "rho"), ({"rho": NAN}, "rho"),
    ({"scores": [[1.0, np.inf]]}, "scores"), ({"scores": [1.0, 2.0]}, "scores"),
    ({"lengths": [[1, NAN]]}, "lengths"), ({"lengths": [[1, 2, 3]]}, "lengths"), ({"lengths": [[1, -2]]}, "lengths"),
])
def test_invalid_input(changes, match):
    with pytest.raises(InputError, match=match):
        select_pairs(**{"scores": [[1.0, 2.0]], "lengths": [[1, 2]], "rho": 0.1, **changes})


@pytest.mark.parametrize("scores, target, grid, match", [
    ([[1, 2]], 5, [], "grid"), ([[1, 2]], 0, [0.1], "target"), ([[1, 1]], 5, [0.1], "scores"),
    ([[1, 2]], 5, [0.7], "rho"),
])
def test_invalid_choice_of_rho(scores, target, grid, match):
    with pytest.raises(InputError, match=match):
        choose_rho(scores, [[1, 2]], target=target, grid=grid)
