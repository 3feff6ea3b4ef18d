import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.preferences import estimate_noise_rate, sample_label_flips

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
def test_flips_refuse(changes, names):
    with pytest.raises(InputError, match=names):
        sample_label_flips(**{"gaps": GAPS, "kind": "uniform", "rate": 0.3, "seed": 0, **changes})


SCORERS = {
    "sharp": lambda gaps, generator: gaps + generator.normal(0, 0.5, len(gaps)),
    "noisy": lambda gaps, generator: gaps + generator.normal(0, 1.0, len(gaps)),
    "saturating": lambda gaps, generator: np.tanh((gaps + generator.normal(0, 1.0, len(gaps))) / 1.5),
    "overconfident": lambda gaps, generator: (gaps + generator.normal(0, 1.0, len(gaps))) ** 3,
}


def simulate(rate, scorer, seed, pairs=4000):
    """Gaps as labelled: true gaps of half-normal size, seen by an imperfect scorer, then `rate` of labels turned."""
    generator = np.random.default_rng([seed, round(100 * rate)])
    gaps = SCORERS[scorer](np.abs(generator.normal(0, 2, pairs)), generator)
    return np.where(generator.random(pairs) < rate, -gaps, gaps)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_finds_the_planted_rate(rate, scorer):
    errors = [estimate_noise_rate(simulate(rate, scorer, seed), n_bootstrap=1).rate - rate for seed in range(5)]
    assert abs(np.mean(errors)) < 0.015
    assert np.max(np.abs(errors)) < 0.05


def test_the_share_of_disagreement_alone_would_not_do():
    gaps = simulate(0.1, "noisy", 0)
    assert (gaps <= 0).mean() > 0.2
    assert estimate_noise_rate(gaps, n_bootstrap=1).rate < 0.13


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truths = [rate for rate in (0.1, 0.2, 0.3, 0.4) for _ in range(8)]
    estimates = [estimate_noise_rate(simulate(rate, "noisy", seed, 2000), n_bootstrap=60, seed=seed)
                 for seed, rate in enumerate(truths)]
    covered = [found.low <= rate <= found.high for rate, found in zip(truths, estimates, strict=True)]
    assert np.mean(covered) >= 0.85
    assert np.mean([found.high - found.low for found in estimates]) < 0.1


def test_clean_labels_on_an_ambiguous_world_read_zero():
    generator = np.random.default_rng(0)
    gaps = generator.normal(0, 2, 5000)
    drawn = np.where(generator.random(5000) < 1 / (1 + np.exp(-gaps)), gaps, -gaps)
    assert (drawn < 0).mean() > 0.2
    assert estimate_noise_rate(drawn).low < 0.01
    assert estimate_noise_rate(drawn).rate < 0.03


def test_a_weak_scorer_errs_upwards():
    generator = np.random.default_rng(0)
    gaps = np.abs(generator.normal(0, 2, 4000)) + generator.normal(0, 4, 4000)
    assert estimate_noise_rate(gaps, n_bootstrap=1).rate > 0.05


def test_only_signs_and_ranks_enter():
    gaps = simulate(0.2, "noisy", 0, 1000)
    squashed = np.sign(gaps) * np.log1p(np.abs(gaps))
    assert estimate_noise_rate(gaps, n_bootstrap=5) == estimate_noise_rate(squashed, n_bootstrap=5)


def test_pairs_of_one_prompt_are_drawn_together():
    gaps = np.repeat(simulate(0.2, "noisy", 0, 500), 8)
    alone = estimate_noise_rate(gaps)
    together = estimate_noise_rate(gaps, groups=np.repeat(np.arange(500), 8))
    assert together.rate == alone.rate
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval():
    gaps = simulate(0.2, "noisy", 0, 500)
    assert estimate_noise_rate(gaps, seed=3, n_bootstrap=20) == estimate_noise_rate(gaps, seed=3, n_bootstrap=20)
    assert (
        estimate_noise_rate(gaps, seed=4, n_bootstrap=20).low != estimate_noise_rate(gaps, seed=3, n_bootstrap=20).low
    )


@pytest.mark.parametrize("gaps", [np.zeros(50), np.ones(50), -np.ones(50), np.array([1e4, -1e4])])
def test_extreme_gaps_give_a_rate_within_bounds(gaps):
    found = estimate_noise_rate(gaps, n_bootstrap=10)
    assert 0 <= found.low <= found.high <= 0.5
    assert 0 <= found.rate <= 0.5


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"gaps": [1.0, np.nan]}, "gaps.*finite"),
        ({"gaps": [[1.0, 2.0]]}, "gaps"),
        ({"groups": ["a"]}, "groups.*shape"),
        ({"groups": ["a", "a"]}, "groups.*two"),
        ({"n_bootstrap": 0}, "n_bootstrap"),
    ],
)
def test_the_rate_refuses(changes, names):
    with pytest.raises(InputError, match=names):
        estimate_noise_rate(**{"gaps": [1.0, 2.0], **changes})
