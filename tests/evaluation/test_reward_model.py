import json

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.evaluation.reward_model import evaluate_pairs


def evaluate(chosen, rejected=None, **changes):
    count = len(chosen)
    arguments = {
        "prompts": np.arange(count), "sources": ["one"] * count,
        "chosen_lengths": np.full(count, 10), "rejected_lengths": np.full(count, 10), "n_bootstrap": 50, **changes,
    }
    return evaluate_pairs(chosen, np.zeros(count) if rejected is None else rejected, **arguments)


def test_numbers_by_hand():
    metrics = evaluate([2.0, 0.0, -1.0, 1.0], [1.0, 0.0, 1.0, -1.0])
    assert (metrics["pairs"], metrics["accuracy"], metrics["tie_rate"]) == (4, 0.625, 0.25)
    assert metrics["rewards"]["gap"] == {"mean": 0.25, "std": pytest.approx(np.std([1, 0, -2, 2])), "min": -2, "max": 2}
    assert metrics["rewards"]["chosen"]["mean"] == 0.5 and metrics["rewards"]["rejected"]["max"] == 1
    assert metrics["log_loss"] == pytest.approx(np.mean(np.log1p(np.exp([-1, 0, 2, -2]))))
    assert metrics["accuracy_low"] <= 0.625 <= metrics["accuracy_high"]


def test_accuracy_by_source_and_by_strength():
    metrics = evaluate([1.0, -1.0, 0.0], sources=["b", "a", "a"], strength=[0.5, -3.0, 0.1])
    assert metrics["by_source"] == {
        "a": {"pairs": 2, "accuracy": 0.25, "tie_rate": 0.5}, "b": {"pairs": 1, "accuracy": 1, "tie_rate": 0},
    }
    assert [group["accuracy"] for group in metrics["by_strength"]] == [0, 0.5, 1]
    assert [group["strength_low"] for group in metrics["by_strength"]] == [-3, 0.1, 0.5]


def test_ten_groups_by_strength():
    generator = np.random.default_rng(0)
    metrics = evaluate(generator.normal(0.3, 1, 997), strength=generator.normal(size=997))
    groups = metrics["by_strength"]
    assert len(groups) == 10
    assert sum(group["pairs"] * group["accuracy"] for group in groups) / 997 == pytest.approx(metrics["accuracy"])
    assert {group["pairs"] for group in groups} == {99, 100}
    assert all(earlier["strength_high"] <= later["strength_low"]
               for earlier, later in zip(groups, groups[1:], strict=False))


def test_length_bias_by_hand():
    metrics = evaluate([1.0, -1.0, 0.0, 1.0, -1.0], chosen_lengths=[100, 50, 20, 100, 30],
                       rejected_lengths=[91, 100, 10, 100, 60])
    length = metrics["length"]
    assert length["chosen_longer"] == (1 + 0 + 1 + 0.5 + 0) / 5
    assert length["model_prefers_longer"] == (1 + 1 + 0.5 + 1) / 4
    assert length["matched"] == {"pairs": 2, "accuracy": 1, "tie_rate": 0}
    assert length["gap_correlation"] == pytest.approx(np.corrcoef([4.5, 1.5, 3, 4.5, 1.5], [4, 1, 5, 3, 2])[0, 1])


def test_length_bias_of_a_model_that_scores_length():
    generator = np.random.default_rng(0)
    chosen, rejected = generator.integers(1, 500, (2, 400))
    length = evaluate(chosen, rejected, chosen_lengths=chosen, rejected_lengths=rejected)["length"]
    assert length["gap_correlation"] == pytest.approx(1) and length["model_prefers_longer"] == 1


def test_undefined_values_are_none():
    metrics = evaluate([1e4, 1e4], [-1e4, -1e4], prompts=["p", "p"], chosen_lengths=[10, 10], rejected_lengths=[90, 90])
    assert metrics["accuracy_low"] is metrics["by_strength"] is metrics["length"]["gap_correlation"] is None
    assert metrics["length"]["matched"] == {"pairs": 0, "accuracy": None, "tie_rate": None}
    assert evaluate([1.0, 2.0])["length"]["model_prefers_longer"] is None
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_interval_widens_when_pairs_share_prompts():
    gaps = np.repeat(np.random.default_rng(0).choice([-1.0, 1.0], 60), 10)
    widths = []
    for prompts in (np.arange(600), np.repeat(np.arange(60), 10)):
        metrics = evaluate(gaps, prompts=prompts, n_bootstrap=300)
        widths.append(metrics["accuracy_high"] - metrics["accuracy_low"])
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("changes, message", [
    ({"prompts": ["p"]}, "prompts.*shape"),
    ({"sources": ["s"] * 3}, "sources"),
    ({"chosen_lengths": [1]}, "chosen_lengths.*shape"),
    ({"rejected_lengths": [1, -1]}, "lengths.*negative"),
    ({"strength": [1.0]}, "strength.*shape"),
    ({"rejected": [0.0, np.nan]}, "rewards_rejected.*finite"),
    ({"rejected": [[0.0, 0.0]]}, "rewards_rejected"),
])
def test_invalid_arguments(changes, message):
    with pytest.raises(InputError, match=message):
        evaluate([1.0, 2.0], **changes)
