"""Figures of a policy and its reward model: closed forms, and what is left out without gold."""

import json

import numpy as np
import pytest

from rmkit.commands.sample import SampleConfig, sample
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data.synthetic.dataset import draw_prompts
from rmkit.evaluation import policy_metrics
from rmkit.evaluation.policy_metrics import gold_rewards, list_pairs, measure_policy, reward_metrics
from rmkit.models.scoring import load_scorer


def speak(*texts):
    return {"responses": [[{"role": "assistant", "content": text}] for text in texts]}


def test_pairs_are_of_different_responses():
    assert list_pairs(["a", "b", "a", "c"]).tolist() == [[0, 0, 1], [1, 3, 3]]
    assert list_pairs(["a", "a"]).shape == (2, 0)


def test_figures_of_two_prompts():
    rows = [speak("a", "b", "c"), speak("d", "d")]
    rewards = [np.array([1.0, 3.0, 0.0]), np.array([5.0, 5.0])]
    gold = [np.array([2.0, 4.0, 4.0]), np.array([1.0, 1.0])]
    reference = [np.array([3.0, 2.0, 2.0]), np.array([1.0, 0.0])]
    figures = reward_metrics(rows, rewards, gold, reference)
    # gaps of the first prompt's pairs: -2, 1, 3; true ones: -2, -2, 0. The second has one response.
    assert figures["spread"] == pytest.approx(np.sqrt((4 + 1 + 9) / 3))
    assert figures["gold_spread"] == pytest.approx(np.sqrt(8 / 3))
    assert (figures["accuracy"], figures["pairs"]) == (0.5, 2)
    assert figures["reward"] == pytest.approx(14 / 5) and figures["gold"] == pytest.approx(12 / 5)
    # first prompt: 2 against (3, 2, 2): 0 + 1/2 + 1/2; 4 wins all three times, twice. Second: 1 against (1, 0), twice.
    assert figures["win_rate"] == pytest.approx((7 / 9 + 3 / 4) / 2)


def test_figures_without_gold_and_without_pairs():
    none = gold_rewards([speak("a", "b")])
    assert reward_metrics([speak("a", "b")], [np.array([1.0, 0.0])], none, none) == {"reward": 0.5, "spread": 1.0}
    ones = [np.ones(2)]
    figures = reward_metrics([speak("a", "a")], ones, ones, ones)
    assert figures["spread"] is figures["accuracy"] is None and figures["win_rate"] == 0.5


def test_rows_without_a_request_have_no_part_in_what_is_gold():
    request = next(draw_prompts("train", 1))["request"]
    rows = [speak("a", "b"), {**speak("red.", "a blue lamp."), "request": request}]
    rewards = [np.array([9.0, 5.0]), np.array([1.0, 0.0])]
    gold, reference = [gold_rewards(rows)[0], np.array([2.0, 1.0])], [gold_rewards(rows)[0], np.array([0.0])]
    assert np.isnan(gold[0]).all() and not np.isnan(gold_rewards(rows)[1]).any()
    both, alone = reward_metrics(rows, rewards, gold, reference), reward_metrics(
        rows[1:], rewards[1:], gold[1:], reference[1:])
    assert both.pop("reward") == 3.75 and both.pop("spread") == pytest.approx(np.sqrt(17 / 2))
    assert both.items() < alone.items() and both["gold_rows"] == 1 and both["gold"] == 1.5 and both["win_rate"] == 1


def test_a_policy_is_at_no_distance_from_itself(tiny_base, tiny_reward_model, tmp_path, monkeypatch):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in draw_prompts("train", 3)))

    def draw(name, **settings):
        return str(sample(SampleConfig(data=str(prompts), model_name_or_path=str(tiny_base), max_new_tokens=5,
                                       output_dir=str(tmp_path / name), **settings)))

    arguments = {
        "samples": draw("a"), "reference_samples": draw("b", seed=1), "policy": str(tiny_base),
        "reference": str(tiny_base), "reward_model": str(tiny_reward_model), "output_dir": str(tmp_path / "out"),
    }
    loaded = []

    def load_and_note(path, **settings):
        loaded.append(path)
        return load_scorer(path, **settings)

    monkeypatch.setattr(policy_metrics, "load_scorer", load_and_note)
    figures = measure_policy(**arguments)
    assert loaded == [str(tiny_reward_model)] and figures["gold_rows"] == 3
    assert figures["kl"] == 0.0 and {"gold", "win_rate", "length", "duplicates", "accuracy"} < set(figures)
    assert measure_policy(**arguments) == figures == read_record(tmp_path / "out")["figures"]
    with pytest.raises(InputError, match="reference_samples: expected responses to the same prompts"):
        measure_policy(**{**arguments, "reference_samples": draw("c", prompts=2)})
