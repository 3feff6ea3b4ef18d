"""Length-controlled win rates, against scikit-learn's own fits."""

import numpy as np
import pytest
import sklearn
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold

from rmkit.core.checks import InputError
from rmkit.metrics.length_control import alpaca_rate, length_controlled_rate


def draw(seed=0, pairs=300, length=1.0, shift=300.0, soft=False):
    """Preferences, differences and difficulty for a judge that likes length, and the true rate at equal length."""
    generator = np.random.default_rng(seed)
    differences, difficulty = generator.normal(shift, 400, pairs), generator.normal(size=pairs)
    level = 0.3 + 0.6 * difficulty
    probability = expit(level + length * np.tanh(differences / differences.std(ddof=1)))
    wins = (generator.random(pairs) < probability).astype(float)
    return (probability if soft else wins), differences, difficulty, float(expit(level).mean())


def double(features, wins):
    """Each pair twice, as a win and as a loss, by its weight."""
    return np.concatenate([features, features]), np.repeat([1, 0], len(wins)), np.concatenate([wins, 1 - wins])


def make_features(differences, difficulty):
    scaled = np.tanh(differences / differences.std(ddof=1))
    return np.stack([scaled] if difficulty is None else [scaled, difficulty], axis=1)


def test_closed_form():
    """Four pairs longer by 1, three of them won; four shorter by 1, one of them won: the model has its rates exactly.

    tanh(1 / std), with std = sqrt(8 / 7); logits are +- ln 3, so that a = 0 and b = ln 3 / tanh(1 / std).
    """
    result = length_controlled_rate([1, 1, 1, 0, 1, 0, 0, 0], [1] * 4 + [-1] * 4, ridge=1e-9)
    assert result.rate == pytest.approx(0.5) and result.intercept == pytest.approx(0, abs=1e-9)
    assert result.length == pytest.approx(np.log(3) / np.tanh(np.sqrt(7 / 8)))
    # Six of eight won by the longer, always longer: 3 of 4 at one length, 3 of 4 at twice that.
    alike = length_controlled_rate([1, 1, 1, 0, 1, 1, 1, 0], [1] * 4 + [2] * 4, ridge=1e-9)
    assert alike.rate == pytest.approx(0.75) and alike.length == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("with_difficulty", [False, True])
def test_the_fit_equals_scikit_learn(soft, with_difficulty):
    wins, differences, difficulty, _ = draw(soft=soft)
    given = difficulty if with_difficulty else None
    features = make_features(differences, given)
    model = LogisticRegression(C=1 / 0.5, solver="newton-cholesky", tol=1e-12)
    doubled, sides, weights = double(features, wins)
    model.fit(doubled, sides, sample_weight=weights)
    level = features * [0, 1][:features.shape[1]]
    result = length_controlled_rate(wins, differences, difficulty=given, ridge=0.5, n_bootstrap=2)
    assert result.rate == pytest.approx(model.predict_proba(level)[:, 1].mean(), abs=1e-8)
    assert [result.intercept, result.length] == pytest.approx([model.intercept_[0], model.coef_[0, 0]], abs=1e-7)
    assert result.difficulty == (pytest.approx(model.coef_[0, 1], abs=1e-7) if with_difficulty else None)


def log_loss(truth, probability, true_probability):
    """Log loss with preferences as labels; each pair is there twice."""
    likely = np.where(truth == 1, true_probability, 1 - true_probability)
    return -np.mean(likely * np.log(probability) + (1 - likely) * np.log(1 - probability))


@pytest.mark.parametrize("seed", range(4))
def test_alpaca_rate_equals_its_definition(seed):
    """liblinear's L1 without intercept, C by five folds of whole pairs, scored by log loss on the preferences."""
    wins, differences, difficulty, _ = draw(seed, pairs=150, soft=seed % 2 == 1)
    features = np.insert(make_features(differences, difficulty), 0, 1.0, axis=1)
    doubled, sides, weights = double(features, wins)
    with sklearn.config_context(enable_metadata_routing=True):
        score = make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)
        model = LogisticRegressionCV(
            l1_ratios=(1,), solver="liblinear", fit_intercept=False, cv=GroupKFold(5), random_state=123, tol=1e-9,
            max_iter=10_000, scoring=score.set_score_request(true_probability=True), use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)
        groups = np.tile(np.arange(len(wins)), 2)
        model.fit(doubled, sides, sample_weight=weights, groups=groups, true_probability=weights)
    expected = model.predict_proba(features * [1, 0, 1])[:, 1].mean()
    assert alpaca_rate(wins, differences, difficulty=difficulty) == pytest.approx(expected, abs=1e-6)


def test_length_is_controlled():
    """A judge that likes length overrates a policy that writes longer; the controlled rate does not."""
    result = [(*draw(seed, pairs=2000, length=2.0), seed) for seed in range(3)]
    for wins, differences, difficulty, truth, seed in result:
        controlled = length_controlled_rate(wins, differences, difficulty=difficulty, seed=seed, n_bootstrap=2)
        assert wins.mean() > truth + 0.1
        assert controlled.rate == pytest.approx(truth, abs=0.04)
        assert alpaca_rate(wins, differences, difficulty=difficulty) == pytest.approx(truth, abs=0.05)
    inside = 0
    for seed in range(20):
        wins, differences, difficulty, truth = draw(seed, pairs=400)
        held = length_controlled_rate(wins, differences, difficulty=difficulty, seed=seed, n_bootstrap=100)
        inside += held.low < truth < held.high
    assert inside >= 16


def test_equal_lengths_give_the_plain_rate():
    wins, _, difficulty, _ = draw()
    for given in (None, difficulty):
        result = length_controlled_rate(wins, np.zeros(len(wins)), difficulty=given, n_bootstrap=2)
        assert result.rate == pytest.approx(wins.mean(), abs=1e-12) and result.length == 0
    result = length_controlled_rate([1, 1, 0, 1], [10, 10, 10, 10])  # nor does a constant difference
    assert (result.rate, result.length) == (pytest.approx(0.75), pytest.approx(0, abs=1e-9))


def test_exchanging_policy_and_baseline():
    wins, differences, difficulty, _ = draw(soft=True)
    there, back = (length_controlled_rate(side, sign * differences, difficulty=difficulty)
                   for side, sign in ((wins, 1), (1 - wins, -1)))
    assert there.rate + back.rate == pytest.approx(1, abs=1e-9)
    assert (there.low + back.high, there.high + back.low) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert alpaca_rate(wins, differences) + alpaca_rate(1 - wins, -differences) == pytest.approx(1, abs=1e-6)


def test_one_sided_pairs_give_the_plain_rate():
    result = length_controlled_rate([1, 1, 1], [5, -3, 40])
    assert result[:4] == (1.0, 1.0, 1.0, None)
    assert length_controlled_rate([0.0, 0.0], [5, -3]).rate == 0
    assert alpaca_rate(np.ones(10), np.arange(10)) > 0.99
    always_longer = length_controlled_rate([1, 0, 1, 0], [7, -7, 7, -7])  # length tells all: nothing is left
    assert always_longer.rate == pytest.approx(0.5) and np.isfinite(always_longer.length)


def test_the_bootstrap_draws_whole_prompts():
    wins, differences, _, _ = draw(pairs=100)
    alone = length_controlled_rate(wins, differences, seed=0)
    four = length_controlled_rate(np.tile(wins, 4), np.tile(differences, 4), groups=np.tile(np.arange(100), 4), seed=0)
    assert four.high - four.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert length_controlled_rate(wins, differences, groups=["one"] * 100)[1:3] == (None, None)


@pytest.mark.parametrize("changes, message", [
    ({"preferences": [1.5, 0]}, "preferences"), ({"preferences": [np.nan, 0]}, "preferences"),
    ({"differences": [1, 2, 3]}, "differences"), ({"difficulty": [1]}, "difficulty"), ({"groups": [1]}, "groups"),
    ({"ridge": 0}, "ridge"),
])
def test_invalid_arguments(changes, message):
    with pytest.raises(InputError, match=message):
        length_controlled_rate(**({"preferences": [1, 0], "differences": [1, 2]} | changes))
    with pytest.raises(InputError, match="groups"):
        alpaca_rate([1, 0, 1, 0], [1, 2, 3, 4])
