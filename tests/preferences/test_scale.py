"""The scale that turns strengths into log-odds of the labels."""

import numpy as np
import pytest
from scipy.special import expit

from rmkit.core.checks import InputError
from rmkit.preferences import calibrate_scale


def draw_gaps(scale, pairs, seed=0):
    """Gaps whose labels are right with probability sigmoid(scale * |gap|)."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(size=pairs)
    return np.where(rng.random(pairs) < expit(scale * np.abs(gaps)), np.abs(gaps), -np.abs(gaps))


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_finds_the_scale_that_the_labels_were_drawn_with(scale):
    assert calibrate_scale(draw_gaps(scale, 20_000)) == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_voters_units_do_not_matter(unit):
    gaps = draw_gaps(1.0, 500)
    assert calibrate_scale(unit * gaps) * unit == pytest.approx(calibrate_scale(gaps), rel=1e-4)


def test_one_gap_size_has_a_closed_form():
    gaps = np.repeat([2.0, -2.0], [80, 20])
    target = 101 / 102
    right = 0.8 * target + 0.2 * (1 - target)
    assert calibrate_scale(gaps) == pytest.approx(np.log(right / (1 - right)) / 2, rel=1e-4)


def test_voters_that_the_labels_never_contradict_get_a_finite_scale():
    for pairs in (3, 100):
        assert expit(calibrate_scale(np.full(pairs, 0.5)) * 0.5) == pytest.approx((pairs + 1) / (pairs + 2), rel=1e-4)


def test_voters_that_the_labels_contradict_as_often_as_not_get_none():
    assert calibrate_scale([1.0, -1.0]) == calibrate_scale([-1.0, 0.5]) == calibrate_scale([0.0, 0.0]) == 0.0
    with pytest.raises(InputError, match="gaps"):
        calibrate_scale([1.0, np.nan])
