import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.preferences import estimate_noise_rate

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
def test_refuses(changes, names):
    with pytest.raises(InputError, match=names):
        estimate_noise_rate(**{"gaps": [1.0, 2.0], **changes})
