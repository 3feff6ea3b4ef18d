"""Length-controlled selection of chosen and rejected responses (METHODS 2.4, T11)."""

from fractions import Fraction

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.meta_rewarding.actor_selection import choose_rho, select_pairs

SCORES, LENGTHS = (4.5, 4.4, 4.2, 3.0, 2.0), (2000, 1500, 900, 1200, 2600)
NAN = np.nan


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
    assert tuple(select_pairs([scores], [lengths], rho=rho)[0]) == (pair or (-1, -1))


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


VALID = {"scores": [[1.0, 2.0]], "lengths": [[1, 2]]}


@pytest.mark.parametrize("function, arguments, match", [
    *((select_pairs, {"rho": rho}, "rho") for rho in (0.5, -0.1, NAN)),
    *((select_pairs, {"rho": 0.1, "scores": scores}, "scores") for scores in ([[1.0, np.inf]], [1.0, 2.0])),
    *((select_pairs, {"rho": 0.1, "lengths": lengths}, "lengths") for lengths in ([[1, NAN]], [[1, 2, 3]], [[1, -2]])),
    (choose_rho, {"target": 5, "grid": []}, "grid"), (choose_rho, {"target": 0, "grid": [0.1]}, "target"),
    (choose_rho, {"target": 5, "grid": [0.1], "scores": [[1, 1]]}, "scores"),
    (choose_rho, {"target": 5, "grid": [0.7]}, "rho"),
])
def test_invalid_input(function, arguments, match):
    with pytest.raises(InputError, match=match):
        function(**VALID | arguments)
