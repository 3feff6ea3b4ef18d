import json

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.judges.metrics import evaluate_judge, scores_to_preferences

NAN = np.nan


def run(preferences, labels=None, **changes):
    count = len(preferences)
    labels = np.ones(count) if labels is None else labels
    given = {"prompts": np.arange(count), "lengths": np.column_stack([np.arange(count), np.full(count, 2)])}
    found = evaluate_judge(preferences, labels, n_bootstrap=50, **(given | changes))
    json.dumps(found, allow_nan=False)
    return found


def test_a_few_pairs_by_hand():
    preferences = [
        [[1.0, 1.0], [1.0, NAN]],  # the first in either order, one answer unparsed
        [[1.0, 0.5], [0.0, 0.0]],  # the one shown first; mean 3/8
        [[1.0, 1.0], [0.0, 0.0]],  # the same, a tie
        [[NAN, NAN], [NAN, NAN]],
    ]
    found = run(preferences, [1, 1, -1, 1])
    assert found["missing"] == 5
    agreed = found["agreement"]
    assert (agreed["wins"], agreed["ties"], agreed["losses"], agreed["unjudged"]) == (1, 1, 1, 1)
    assert agreed["with_ties"] == 0.5 and agreed["low"] <= 0.5 <= agreed["high"]
    assert found["tie_rate"] == pytest.approx(1 / 3)
    position = found["position"]
    assert position["first"] == pytest.approx(5 / 6)
    assert (position["consistent"], position["first_twice"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found["length"]["pairs"] == 2 and found["length"]["longer"] == 0.5
    assert found["consistency"]["responses"] == 5
    assert found["consistency"]["equal"] == pytest.approx((1 + 0 + 1 + 1 + 1) / 5)
    assert found["scores"] is None


def test_missing_answers_do_not_move_agreement():
    generator = np.random.default_rng(0)
    preferences = generator.choice([0.0, 0.5, 1.0], (60, 2, 1))
    labels = generator.choice([1.0, -1.0], 60)
    more = run(np.concatenate([preferences, np.full((20, 2, 1), NAN)]), np.concatenate([labels, np.ones(20)]))
    alone = run(preferences, labels)
    assert more["agreement"]["with_ties"] == alone["agreement"]["with_ties"]
    assert more["agreement"]["unjudged"] == 20 and more["missing"] == 40
    as_ties = run(np.concatenate([preferences, np.full((20, 2, 1), 0.5)]), np.concatenate([labels, np.ones(20)]))
    assert as_ties["agreement"]["ties"] == alone["agreement"]["ties"] + 20


def test_planted_biases_lie_in_their_intervals():
    generator = np.random.default_rng(2)
    longer = generator.choice([1.0, -1.0], 3000)
    base = np.where(generator.random((3000, 2)) < 0.4, longer[:, None], generator.choice([1.0, -1.0], (3000, 2)))
    verdicts = np.where(generator.random((3000, 2)) < 0.2, [1.0, -1.0], base)
    found = run((verdicts[:, :, None] + 1) / 2, lengths=np.column_stack([10 + longer, np.full(3000, 10)]))
    assert found["position"]["low"] <= 0.6 <= found["position"]["high"]
    assert found["position"]["high"] - found["position"]["low"] < 0.05
    assert found["length"]["longer"] > 0.65


def test_calibration_against_votes():
    votes = np.random.default_rng(0).uniform(0, 1, 400)
    exact = run(votes[:, None, None], np.sign(votes - 0.5), votes=votes)
    assert exact["calibration"]["error"] == pytest.approx(0, abs=1e-12) and exact["calibration"]["brier"] == 0
    assert exact["position"] is None and exact["consistency"] is None
    assert exact["agreement"]["with_ties"] == 1 == exact["agreement"]["kappa"]
    sure = run((votes[:, None, None] > 0.5).astype(float), np.sign(votes - 0.5), votes=votes)
    assert sure["calibration"]["error"] > 0.2
    assert run(votes[:, None, None], np.full(400, NAN))["calibration"] is None


def test_a_judge_that_scores():
    scores = np.array([[[5, 5], [4, 3]], [[5, NAN], [5, 5]], [[2, 3], [NAN, NAN]], [[1, 1], [2, 4]]])
    preferences = scores_to_preferences(scores)
    np.testing.assert_array_equal(preferences[:, 0, 0], [1, 0.5, NAN, 0])
    found = run(preferences, scores=scores, top=5)
    assert found["scores"]["saturation"]["top"] == pytest.approx(5 / 13)
    assert found["scores"]["saturation"]["missing"] == 3
    assert found["scores"]["consistency"]["responses"] == 6
    assert run(preferences, scores=scores)["scores"]["saturation"] is None
    assert found["tie_rate"] == pytest.approx(1 / 3)


def test_without_parsed_answers_metrics_are_none():
    found = run(np.full((3, 2, 2), NAN))
    assert found["agreement"]["with_ties"] is None and found["agreement"]["low"] is None
    assert found["position"]["first"] is None and found["calibration"] is None and found["tie_rate"] is None
    one_prompt = run(np.ones((3, 1, 1)), prompts=["same"] * 3)
    assert one_prompt["agreement"]["with_ties"] == 1 and one_prompt["agreement"]["low"] is None


@pytest.mark.parametrize(
    ("preferences", "changes", "names"),
    [
        (np.ones((3, 2)), {}, "preferences.*order"),
        (np.ones((3, 3, 1)), {}, "one order or two"),
        (np.full((3, 1, 1), 5.0), {}, "preferences.*0, 1"),
        (np.ones((3, 1, 1)), {"labels": [1, 1]}, "labels.*shape"),
        (np.ones((3, 1, 1)), {"prompts": [1]}, "prompts.*shape"),
        (np.ones((3, 1, 1)), {"lengths": np.ones((3, 1))}, "lengths.*shape"),
        (np.ones((3, 1, 1)), {"scores": np.ones((3, 2)), "top": 5}, "scores.*side"),
    ],
)
def test_evaluate_judge_refuses(preferences, changes, names):
    with pytest.raises(InputError, match=names):
        run(preferences, **changes)


def test_means_of_the_same_scores_tie_and_others_do_not():
    """The sums of the first two differ in their last bit."""
    sides = [[[4.9, 4.9, 4.8], [4.8, 4.9, 4.9]], [[4.9, 4.9, 4.8], [4.8, 4.9, 4.90001]], [[3.0, NAN, NAN], [2, 3, 4]]]
    assert sum(sides[0][0]) != sum(sides[0][1])
    assert scores_to_preferences(sides)[:, 0, 0].tolist() == [0.5, 0, 0.5]
