import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.preferences import sample_label_flips

GAPS = np.random.default_rng(0).normal(1.0, 2.0, 4000)
LENGTHS = np.random.default_rng(1).integers(-50, 51, 4000)


@given(st.sampled_from(["uniform", "small_gap", "longer"]), st.floats(0, 0.45), st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_flips_exactly_the_count_asked_for_and_the_same_ones_again(kind, rate, seed):
    flips = sample_label_flips(GAPS, kind=kind, rate=rate, seed=seed, length_difference=LENGTHS)
    assert flips.dtype == np.bool_
    assert flips.sum() == round(rate * len(GAPS))
    again = sample_label_flips(GAPS, kind=kind, rate=rate, seed=seed, length_difference=LENGTHS)
    np.testing.assert_array_equal(flips, again)


def test_another_seed_flips_others():
    first, second = (sample_label_flips(GAPS, kind="uniform", rate=0.3, seed=seed) for seed in (0, 1))
    assert (first != second).any()


def test_uniform_flips_do_not_look_at_the_gap():
    flips = sample_label_flips(GAPS, kind="uniform", rate=0.3, seed=3)
    assert abs(np.abs(GAPS[flips]).mean() - np.abs(GAPS[~flips]).mean()) < 0.15


def test_small_gaps_are_flipped_more_often_group_by_group():
    flips = sample_label_flips(GAPS, kind="small_gap", rate=0.3, seed=3)
    rates = [flips[group].mean() for group in np.array_split(np.argsort(np.abs(GAPS)), 5)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 2 * rates[-1]


@pytest.mark.parametrize("gaps", [np.zeros(10), np.array([1e300, 0, 0, 0, 0, 0, 0, 0, 0, 0]), np.arange(10) * 1e6])
def test_small_gap_holds_for_any_scale(gaps):
    assert sample_label_flips(gaps, kind="small_gap", rate=0.5, seed=0).sum() == 5


def test_longer_makes_the_longer_response_the_preferred_one():
    flips = sample_label_flips(GAPS, kind="longer", rate=0.3, seed=3, length_difference=LENGTHS)
    assert (LENGTHS[flips] < 0).all()
    after = np.where(flips, -LENGTHS, LENGTHS)
    assert (after > 0).mean() == pytest.approx((LENGTHS > 0).mean() + 0.3)


def test_longer_reaches_the_last_possible_flip_and_no_further():
    lengths = np.array([-1, -1, 0, 2])
    flips = sample_label_flips(np.ones(4), kind="longer", rate=0.5, seed=0, length_difference=lengths)
    np.testing.assert_array_equal(flips, [True, True, False, False])
    with pytest.raises(InputError, match="rate.*at most 2 flips.*3 at rate 0.75"):
        sample_label_flips(np.ones(4), kind="longer", rate=0.75, seed=0, length_difference=lengths)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"kind": "gaussian"}, "kind.*uniform, small_gap, longer"),
        ({"rate": 30}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"kind": "longer"}, "length_difference"),
        ({"kind": "longer", "length_difference": [1]}, "length_difference.*shape"),
        ({"gaps": [np.nan]}, "gaps.*finite"),
        ({"gaps": []}, "gaps"),
    ],
)
def test_refuses(changes, names):
    with pytest.raises(InputError, match=names):
        sample_label_flips(**{"gaps": GAPS, "kind": "uniform", "rate": 0.3, "seed": 0, **changes})
