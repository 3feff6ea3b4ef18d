import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import expit

from rmkit.core.checks import InputError
from rmkit.preferences import calibrate_scale, preference_strength

GAPS = np.array([[1, -0.5, 2], [0.5, -1.5, 2.5], [1.5, -1, 3], [1, 0, 2.5]])
REWARDS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-100, 100))


def test_strength_is_mean_population_std_and_agreement():
    strength = preference_strength(GAPS + 7.0, np.full_like(GAPS, 7.0))
    np.testing.assert_allclose(strength.mean, [1, -0.75, 2.5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(strength.std, [0.35355339, 0.55901699, 0.35355339], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(strength.agreement, [1, 0, 1])


def test_unbiased_std_is_not_ours():
    strength = preference_strength(GAPS, np.zeros_like(GAPS))
    unbiased = [0.40824829, 0.64549722, 0.40824829]
    np.testing.assert_allclose(GAPS.std(axis=0, ddof=1), unbiased, atol=1e-8)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(strength.std, unbiased, atol=1e-3)


def test_tie_agrees_with_nobody():
    assert preference_strength([[0.0], [1.0]], [[0.0], [0.0]]).agreement == [0.5]


@given(REWARDS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_agrees_with_a_slow_loop_and_turns_with_the_pair(chosen, random):
    rejected = np.array([[random.uniform(-10, 10) for _ in row] for row in chosen])
    ours = preference_strength(chosen, rejected)
    for pair in range(chosen.shape[1]):
        gaps = [float(c - r) for c, r in zip(chosen[:, pair], rejected[:, pair], strict=True)]
        mean = sum(gaps) / len(gaps)
        assert ours.mean[pair] == pytest.approx(mean, abs=1e-9)
        assert ours.std[pair] == pytest.approx((sum((g - mean) ** 2 for g in gaps) / len(gaps)) ** 0.5, abs=1e-9)
        assert ours.agreement[pair] == pytest.approx(sum(g > 0 for g in gaps) / len(gaps))
    turned = preference_strength(rejected, chosen)
    np.testing.assert_allclose(turned.mean, -ours.mean, atol=1e-12)
    np.testing.assert_allclose(turned.std, ours.std, atol=1e-9)


@pytest.mark.parametrize(
    ("chosen", "rejected", "names"),
    [
        (np.zeros(3), np.zeros(3), "rewards_chosen.*member, pair"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "rewards_chosen.*filled"),
        (np.zeros((2, 3)), np.zeros((1, 3)), "rewards_rejected.*shape"),
        (np.zeros((2, 3)), np.zeros((2, 1)), "rewards_rejected.*shape"),
        ([[1.0, np.nan]], [[0.0, 0.0]], "rewards_chosen.*1 NaN or infinite of 2"),
        ([[1.0, 2.0]], [[0.0, np.inf]], "rewards_rejected.*finite"),
        ([["a"]], [[0.0]], "rewards_chosen.*numbers"),
        ([[1.0], [1.0, 2.0]], [[0.0]], "rewards_chosen.*numbers"),
    ],
)
def test_refuses_what_it_cannot_average(chosen, rejected, names):
    with pytest.raises(InputError, match=names):
        preference_strength(chosen, rejected)


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
