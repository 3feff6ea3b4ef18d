import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from rmkit.core.checks import InputError
from rmkit.metrics import Battles, bradley_terry, rate_league, wins_from_list, wins_from_verdicts

ZEROS = np.zeros((2, 2))


def draw(seed, shape=(3, 5, 5), position=0.8, tie=-0.5):
    """Verdicts [.., player, player] of the model itself, and the ratings behind them."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, 1, shape[:-1])
    truth -= truth.mean(axis=-1, keepdims=True)
    logit = truth[..., :, None] - truth[..., None, :] + position
    odds = np.exp(np.stack([logit / 2, np.full_like(logit, tie), -logit / 2], axis=-1))
    drawn = generator.random(shape)[..., None] < np.cumsum(odds / odds.sum(-1, keepdims=True), axis=-1)
    return np.where(drawn[..., 0], 1.0, np.where(drawn[..., 1], 0.0, -1.0)), truth


def slow_fit(battles, ridge, position, tie):
    """The penalised likelihood of one set of prompts, written out and given to a general optimiser."""
    prompts, players = battles.ties.shape[:2]

    def loss(x):
        ratings = x[:prompts * players].reshape(prompts, players)
        place, log_tie = x[-2] * position, x[-1]
        total = ridge / 2 * ((ratings**2).sum() + position * place**2 + tie * log_tie**2)
        for prompt in range(prompts):
            for m in range(players):
                for n in range(players):
                    u = ratings[prompt, m] - ratings[prompt, n] + place
                    odds = np.array([np.exp(u / 2), np.exp(log_tie) * tie, np.exp(-u / 2)])
                    first, even, second = (part[prompt, m, n] for part in battles)
                    if tie:
                        total -= np.dot([first, even, second], np.log(odds / odds.sum()))
                    else:
                        total -= np.dot([first + even / 2, second + even / 2], np.log(odds[::2] / odds[::2].sum()))
        return total

    return minimize(loss, np.zeros(prompts * players + 2), tol=1e-9).x


@pytest.mark.parametrize(("position", "tie"), [(True, False), (False, True), (True, True)])
def test_equals_a_general_optimiser(position, tie):
    battles = wins_from_verdicts(draw(0, (2, 4, 4))[0])
    found = bradley_terry(battles, ridge=0.1, position=position, tie=tie)
    slow = slow_fit(battles, 0.1, position, tie)
    np.testing.assert_allclose(found.ratings.ravel(), slow[:8], atol=1e-4)
    for term, place, asked in ((found.position, -2, position), (found.tie, -1, tie)):
        assert (term is None) is not asked
        if asked:
            assert term.shape == () and term == pytest.approx(slow[place], abs=1e-4)


def test_two_players_in_closed_form():
    first_wins = np.array([[0.0, 6], [4, 0]])
    second_wins = np.array([[0.0, 2], [3, 0]])
    found = bradley_terry(Battles(first_wins, ZEROS, second_wins), ridge=0, position=True)
    gap, place = (np.log(6 / 2) - np.log(4 / 3)) / 2, (np.log(6 / 2) + np.log(4 / 3)) / 2
    assert found.ratings[0] - found.ratings[1] == pytest.approx(gap, abs=1e-8)
    assert found.position == pytest.approx(place, abs=1e-8) and found.separable
    upper = np.array([[0, 1.0], [0, 0]])
    tied = bradley_terry(Battles(6 * upper, 4 * upper, 2 * upper), ridge=0, tie=True)
    assert tied.ratings[0] - tied.ratings[1] == pytest.approx(np.log(3), abs=1e-8)
    assert tied.tie == pytest.approx(np.log(4 / np.sqrt(12)), abs=1e-8)


def test_no_term_changes_nothing_where_positions_are_alike():
    verdicts, _ = draw(1, position=0.0)
    even = np.where(np.isnan(verdicts), np.nan, verdicts)
    battles = wins_from_verdicts(even)
    mirrored = Battles(*(part + other.swapaxes(-1, -2) for part, other in zip(battles, battles[::-1], strict=True)))
    found = bradley_terry(mirrored, ridge=0.05, position=True)
    assert found.position == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found.ratings, bradley_terry(mirrored.matrix(), ridge=0.05).ratings, atol=1e-8)


def test_terms_are_shared_by_prompts_and_each_sets_own():
    verdicts = np.stack([draw(seed, (40, 5, 5), position)[0] for seed, position in ((0, 1.2), (1, -0.7))])
    found = bradley_terry(wins_from_verdicts(verdicts), ridge=0.01, position=True, tie=True)
    assert found.position.shape == (2,) and found.ratings.shape == (2, 40, 5)
    for place in range(2):
        alone = bradley_terry(wins_from_verdicts(verdicts[place]), ridge=0.01, position=True, tie=True)
        assert found.position[place] == pytest.approx(alone.position, abs=1e-7)
        np.testing.assert_allclose(found.ratings[place], alone.ratings, atol=1e-7)
    assert found.position[0] > 0.8 and found.position[1] < -0.4
    assert abs(found.tie[0] + 0.5) < 0.4


def test_a_biased_schedule_needs_the_position_term():
    generator = np.random.default_rng(0)
    truth = np.array([0.9, 0.4, -0.3, -1.0])
    places = np.array(np.nonzero(~np.eye(4, dtype=bool)))
    schedule = expit(3 * (places[0] - places[1]))  # the weak are mostly shown first
    first, second = places[:, generator.choice(12, 20000, p=schedule / schedule.sum())]
    verdicts = np.where(generator.random(20000) < expit(truth[first] - truth[second] + 0.85), 1, -1)
    battles = wins_from_list(first, second, verdicts, players=4)
    fair = bradley_terry(battles, ridge=0.01, position=True)
    assert np.abs(fair.ratings - truth).max() < 0.1
    assert fair.position == pytest.approx(0.85, abs=0.1)
    assert np.abs(bradley_terry(battles, ridge=0.01).ratings - truth).max() > 0.4


def test_says_where_position_and_ratings_cannot_be_told_apart():
    always = Battles(np.array([[0, 3.0], [0, 0]]), ZEROS, np.array([[0, 1.0], [0, 0]]))
    found = bradley_terry(always, ridge=0.01, position=True)
    assert not found.separable
    with pytest.raises(InputError, match="ridge.*position from ratings"):
        bradley_terry(always, ridge=0, position=True)
    circle = np.zeros((3, 3))
    circle[0, 1] = circle[1, 2] = circle[2, 0] = 1  # no order explains a circle
    assert bradley_terry(Battles(circle, circle, circle), ridge=0.01, position=True).separable
    chain = np.triu(np.ones((4, 4)), 1)
    chain[0, 2:] = chain[1, 3] = 0
    assert not bradley_terry(Battles(chain, chain, chain), ridge=0.01, position=True).separable


@pytest.mark.parametrize(
    ("battles", "terms"),
    [
        (Battles(np.array([[0, 3.0], [3, 0]]), ZEROS, ZEROS), {"position": True}),
        (Battles(np.array([[0, 3.0], [1, 0]]), ZEROS, np.array([[0, 3.0], [1, 0]])), {"tie": True}),
        (Battles(ZEROS, np.array([[0, 3.0], [1, 0]]), ZEROS), {"tie": True}),
    ],
)
def test_terms_that_run_away_need_a_ridge(battles, terms):
    with pytest.raises(InputError, match="ridge.*finite"):
        bradley_terry(battles, ridge=0, **terms)
    found = bradley_terry(battles, ridge=0.01, **terms)
    assert 1 < abs(found.position if "position" in terms else found.tie) < 20


def test_intervals_of_a_league_hold_the_truth():
    held, width = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        truth = np.array([0.8, 0.1, -0.9])
        first = generator.integers(0, 3, 400)
        second = (first + generator.integers(1, 3, 400)) % 3
        verdicts = np.where(generator.random(400) < expit(truth[first] - truth[second] + 0.5), 1.0, -1.0)
        verdicts[::10] = np.nan
        league = rate_league(first, second, verdicts, players=3, ridge=0.01, position=True, seed=seed, n_bootstrap=200)
        rows = np.column_stack([league.ratings, league.position])
        held.append((rows[1] <= [*truth, 0.5]) & ([*truth, 0.5] <= rows[2]))
        width.append(rows[2] - rows[1])
        assert (rows[1] < rows[0]).all() and (rows[0] < rows[2]).all() and league.tie is None
    assert 0.88 <= np.mean(held) <= 0.99
    assert np.mean(width) < 0.6


def test_battles_of_a_group_are_drawn_together():
    first, second = np.tile([0, 1], 150), np.tile([1, 0], 150)
    verdicts = np.repeat(np.random.default_rng(0).choice([1.0, -1.0], 30), 10) * np.tile([1, -1], 150)
    widths = [np.ptp(rate_league(first, second, verdicts, players=2, ridge=0.01, seed=0, n_bootstrap=200,
                                 groups=groups).ratings[1:, 0]) for groups in (None, np.arange(300) // 10)]
    assert widths[1] > 2 * widths[0]


def test_drawing_kinds_of_battles_is_drawing_battles():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 3, 300)
    second = (first + generator.integers(1, 3, 300)) % 3
    verdicts = generator.choice([1.0, 0.0, -1.0, np.nan], 300, p=[0.5, 0.1, 0.3, 0.1])
    kinds, single = (rate_league(first, second, verdicts, players=3, ridge=0.1, seed=0, tie=True, n_bootstrap=2000,
                                 groups=groups) for groups in (None, np.arange(300)))
    np.testing.assert_allclose(kinds.ratings[0], single.ratings[0], atol=1e-9)
    np.testing.assert_allclose(kinds.ratings, single.ratings, atol=0.04)
    np.testing.assert_allclose(kinds.tie, single.tie, atol=0.08)
    assert np.ptp(kinds.ratings[1:], axis=0).min() > 0.3


def test_a_league_refuses():
    battles = {"first": [0, 1], "second": [1, 0], "verdicts": [1, 1]}
    for changes, names in (({"groups": [0]}, "groups.*2 battles"), ({"verdicts": [1, np.nan]}, "groups.*two"),
                           ({"verdicts": [np.nan] * 2}, "^verdicts: expected at least one.*NaN throughout"),
                           ({"first": [0, 7]}, "first.*0 to 1")):
        with pytest.raises(InputError, match=names):
            rate_league(**(battles | changes), players=2, ridge=0.1, seed=0)
