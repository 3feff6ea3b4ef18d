"""The most disputed response (METHODS T12)."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.judges.meta_judge import highest_variance_response, score_variance

CALM = [5, 5, 4, 4, 3, 3, 5, 4, 4, 3, 5]
TORN = [5] * 6 + [1] * 5


def test_the_population_variance():
    assert score_variance([CALM, TORN]) == pytest.approx([0.62809917, 3.96694215], abs=1e-8)
    assert score_variance(CALM) != pytest.approx(np.var(CALM, ddof=1), abs=1e-3)
    assert score_variance(np.array([[CALM, TORN]] * 3)).shape == (3, 2)


def test_scores_that_are_missing_do_not_count():
    nan = np.nan
    assert score_variance([[1, nan, 3], [nan, nan, 4], [nan] * 3]) == pytest.approx([1, nan, nan], nan_ok=True)


def test_the_most_disputed_response():
    assert highest_variance_response([CALM, TORN], seed=0) == 1 and highest_variance_response([TORN, CALM], seed=0) == 0
    assert highest_variance_response([[1, np.nan], [2, np.nan]], seed=0) is None
    assert highest_variance_response([[np.nan, 9], [2, 2]], seed=0) == 1
    found = [highest_variance_response([CALM, TORN, TORN[::-1], CALM], seed=seed) for seed in range(40)]
    assert set(found) == {1, 2} and 10 < found.count(1) < 30


@pytest.mark.parametrize("scores", [[[1, np.inf]], [], 3.0])
def test_what_is_refused(scores):
    with pytest.raises(InputError, match="scores"):
        highest_variance_response(scores, seed=0)
