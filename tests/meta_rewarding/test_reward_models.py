"""Reward models that follow the policy: fresh pairs by the members' own verdicts, and a loop that they judge."""

import json

import numpy as np
import pytest
import yaml
from datasets import load_dataset

from rmkit.core.checks import InputError
from rmkit.core.legacy_config import build_config
from rmkit.core.stage import read_record
from rmkit.judges.results import JudgedSamples, read_judged
from rmkit.meta_rewarding import MetaRewardConfig, meta_reward, replay_pairs
from rmkit.meta_rewarding.reward_models import UpdateRewardModelsConfig, find_gap, make_fresh

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
SETTINGS = """\
iterations: 2
judge_pairs: 1
judge: both
prompts_per_iteration: 4
question: gold
rho: [0.0]
max_length: 256
sample: {samples: 3, max_new_tokens: 8}
language: {samples: 2, max_new_tokens: 16}
meta: {max_new_tokens: 16}
reward:
  vote: {members: 3, folds: 0, heads: {epochs: 2}}
  repair: {recipe: soft, strength_scale: 1.0}
  train: {max_steps: 1, per_device_train_batch_size: 4, report_to: none, disable_tqdm: true, save_strategy: "no"}
  meta: {meta_learning_rate: 0.05}
  update: {learning_rate: 1.0e-4}
pairs: {weak: soft, threshold: 100.0, margin_scale: 0.5}
dpo: {max_steps: 1, per_device_train_batch_size: 4, use_cpu: true, disable_tqdm: true}
"""


def make_judged(scores, texts=None):
    """Prompts whose responses have scores [prompt][response][member]."""
    texts = texts or [[f"{prompt} {response}" for response in range(len(own))] for prompt, own in enumerate(scores)]
    array = np.array(scores, dtype=np.float64)
    prompts = [[{"role": "user", "content": f"prompt {place}"}] for place in range(len(array))]
    responses = [[[{"role": "assistant", "content": text}] for text in own] for own in texts]
    return JudgedSamples([f"p{place}" for place in range(len(array))], prompts, responses, array, array, {})


def test_the_gap_on_which_members_differ_most():
    judged = make_judged([[[1, 1, 1], [2, 2, 2], [0, 5, 9]], [[1, 2, 3], [1, 2, 4], [1, 2, 3]]],
                         [["a", "b", "c"], ["same", "other", " same"]])
    assert find_gap(judged, 0, 0) in ((0, 2), (1, 2))
    assert find_gap(judged, 1, 0) == (0, 1)  # the third repeats the first
    assert find_gap(make_judged([[[1, 2, 3], [3, 2, 1]]], [["a", "a"]]), 0, 0) is None


def test_fresh_pairs_take_the_verdict_that_the_others_bear_out():
    scores = [[[5, 4, 1], [1, 2, 3]], [[1, 2, 4], [4, 3, 2]], [[3, 3, 3], [3, 3, 3]]]
    rows, why = make_fresh(make_judged(scores), "iteration-1", seed=0)
    assert [(row["id"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        ("iteration-1:p0", "0 0", "0 1"), ("iteration-1:p1", "1 1", "1 0")]  # two members of three
    assert why["pairs"] == 2 and sum(why.values()) == 3
    rows, why = make_fresh(make_judged([[[1, 1, 1], [1, 1, 1]]], [["a", "a"]]), "x", seed=0)
    assert not rows and why == {"fewer than two different responses": 1}


def test_a_loop_with_both_judges(player, prompts_file, tiny_pairs, tmp_path):
    labelled, out = tmp_path / "labelled", tmp_path / "out"
    labelled.mkdir()
    plain = tiny_pairs.remove_columns(["target", "margin"])
    plain.to_parquet(labelled / "train.parquet")
    plain.select(range(9)).to_parquet(labelled / "validation.parquet")
    settings = yaml.safe_load(SETTINGS)
    settings["reward"]["data"] = str(labelled)
    places = {"output_dir": str(out), "model_name_or_path": str(player), "prompts": str(prompts_file),
              "evaluation_prompts": None}
    meta_reward(build_config(MetaRewardConfig, {**settings, **places}, "test"))
    first, second = out / "iteration-1", out / "iteration-2"
    fresh = load_dataset("parquet", data_files=str(first / "fresh/train.parquet"), split="train")
    assert read_record(second / "pool")["rows"] == [24, len(fresh)] and len(fresh) >= 1
    assert set(fresh["id"]) <= {f"iteration-1:{name}" for name in read_judged(first / "rewards").ids}
    for member in range(3):
        record = read_record(second / f"reward/member-{member}")
        assert record["meta_data"]["rows_in"] == 4 and record["config"]["data"] == str(second / "repaired")
        assert record["config"]["meta_data"] == str(second / "samples/samples.jsonl")
        assert record["config"]["learning_rate"] == 1e-4
        assert record["config"]["model_name_or_path"] == str(first / f"reward/member-{member}")
        assert read_record(first / f"reward/member-{member}")["config"]["model_name_or_path"] == str(player)
    judged = read_judged(second / "rewards")
    assert judged.rewards.shape == judged.scores.shape == (4, 3, 3) and not np.isnan(judged.rewards).any()
    pairs, again = replay_pairs(first / "pairs")
    assert pairs == again and {row["source"] for row in pairs} <= {"actor", "judge"}
    rewards = read_judged(first / "rewards")
    for row in pairs:
        if row["source"] == "judge":
            assert row["target"] == 1 and row["margin"] == 0
            continue
        place = rewards.prompts.index(row["prompt"])
        chosen, rejected = (rewards.responses[place].index(row[side]) for side in ("chosen", "rejected"))
        strength = float((rewards.rewards[place, chosen] - rewards.rewards[place, rejected]).mean())
        assert row["target"] == pytest.approx(1 / (1 + np.exp(-strength)))
        assert row["margin"] == pytest.approx(0.5 * strength)
    report = json.loads((out / "report/report.json").read_text())
    assert not report["figures"] and len(report["iterations"]) == 2


def test_refusals(tmp_path):
    settings = {"data": "d", "samples": "s", "model_name_or_path": "m", "output_dir": str(tmp_path)}
    for changes, match in (
        ({"members": 2}, "members: expected at least 1, and 3 for fresh pairs"),
        ({"vote": None, "repair": {"recipe": "soft"}}, "repair: expected nothing without a vote"),
        ({"train": {"learning_rat": 1}}, "train: learning_rat"),
        ({"vote": {"members": 1}}, "members: expected 2 or more"),
        ({"meta": {"meta_learning_rate": -1}}, "meta_learning_rate"),
        ({"meta": {"learning_rate": 1}}, "meta: learning_rate: expected a known key.* mean meta_learning_rate"),
        ({"meta": {"meta_data": "x"}}, "meta: meta_data: expected a key of the stage alone"),
        ({"meta": None, "train": {"meta_data": "x"}}, "train: meta_data: expected a key of the stage alone"),
    ):
        with pytest.raises(InputError, match=match):
            UpdateRewardModelsConfig(**{**settings, **changes})
    plain = UpdateRewardModelsConfig(**settings, vote=None, meta=None, members=1, fresh=False)
    (training,) = plain.plan_trainings()
    assert training.data == str(tmp_path / "pool") and training.meta_data is None
