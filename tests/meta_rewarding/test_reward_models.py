"""Reward models as judges: policy pairs labelled by the members, and a loop with both judges."""

import json

import numpy as np
import pytest
import yaml
from datasets import load_dataset

from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.judges.judged_samples import JudgedSamples, read_judged
from rmkit.meta_rewarding import MetaRewardConfig, meta_reward, replay_pairs
from rmkit.meta_rewarding.reward_models import make_policy_pairs, most_disputed_pair, plan_reward_models
from rmkit.meta_rewarding.step_config import RewardEnsembleConfig

SETTINGS = """\
iterations: 2
judge_pairs: 1
judge: both
prompts_per_iteration: 4
judge_prompt: synthetic
evaluation_prompts: null
rho: [0.0]
max_length: 256
sample: {samples: 3, max_new_tokens: 8}
judge_llm: {samples: 2, max_new_tokens: 16}
meta_judge: {max_new_tokens: 16}
judge_rm:
  vote: {members: 3, folds: 0, heads: {epochs: 2}}
  repair: {recipe: soft, strength_scale: 1.0}
  train: {max_steps: 1, per_device_train_batch_size: 4, report_to: none, disable_tqdm: true, save_strategy: "no"}
  metarm: {meta_learning_rate: 0.05}
  continue_training: {learning_rate: 1.0e-4}
pairs: {weak_pairs: soft, weak_threshold: 100.0, margin_scale: 0.5}
dpo: {max_steps: 1, per_device_train_batch_size: 4, use_cpu: true, disable_tqdm: true}
"""


def make_judged(scores, texts=None):
    """Prompts whose responses have scores [prompt][response][member]."""
    array = np.array(scores, dtype=np.float64)
    texts = texts or [[f"{prompt} {response}" for response in range(array.shape[1])] for prompt in range(len(array))]
    prompts = [[{"role": "user", "content": f"prompt {prompt}"}] for prompt in range(len(array))]
    responses = [[[{"role": "assistant", "content": text}] for text in of_prompt] for of_prompt in texts]
    return JudgedSamples([f"p{prompt}" for prompt in range(len(array))], prompts, responses, array, array, {})


def test_the_pair_on_whose_gap_members_differ_most():
    judged = make_judged([[[1, 1, 1], [2, 2, 2], [0, 5, 9]], [[1, 2, 3], [1, 2, 4], [1, 2, 3]]],
                         [["a", "b", "c"], ["same", "other", " same"]])
    assert most_disputed_pair(judged, 0, 0) in ((0, 2), (1, 2))
    assert most_disputed_pair(judged, 1, 0) == (0, 1)  # the third repeats the first
    assert most_disputed_pair(make_judged([[[1, 2, 3], [3, 2, 1]]], [["a", "a"]]), 0, 0) is None


def test_policy_pairs_have_the_label_that_most_members_support():
    scores = [[[5, 4, 1], [1, 2, 3]], [[1, 2, 4], [4, 3, 2]], [[3, 3, 3], [3, 3, 3]]]
    rows, counts = make_policy_pairs(make_judged(scores), "iteration-1", seed=0)
    assert [(row["id"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        ("iteration-1:p0", "0 0", "0 1"), ("iteration-1:p1", "1 1", "1 0")]  # two members of three
    assert counts["pairs"] == 2 and sum(counts.values()) == 3
    rows, counts = make_policy_pairs(make_judged([[[1, 1, 1], [1, 1, 1]]], [["a", "a"]]), "x", seed=0)
    assert not rows and counts == {"fewer than two different responses": 1}


def test_a_loop_with_both_judges(tiny_policy, prompts_file, tiny_pairs, tmp_path):
    labelled, out = tmp_path / "labelled", tmp_path / "out"
    labelled.mkdir()
    pairs = tiny_pairs.remove_columns(["target", "margin"])
    pairs.to_parquet(labelled / "train.parquet")
    pairs.select(range(9)).to_parquet(labelled / "validation.parquet")
    settings = yaml.safe_load(SETTINGS)
    settings["judge_rm"]["data"] = str(labelled)
    meta_reward(MetaRewardConfig(
        **settings, output_dir=str(out), model_name_or_path=str(tiny_policy), prompts=str(prompts_file)
    ))
    first, second = out / "iteration-1", out / "iteration-2"
    new_pairs = load_dataset("parquet", data_files=str(first / "policy_pairs/train.parquet"), split="train")
    assert read_record(second / "pool")["rows"] == [24, len(new_pairs)] and len(new_pairs) >= 1
    assert set(new_pairs["id"]) <= {f"iteration-1:{name}" for name in read_judged(first / "rewards").ids}
    for member in range(3):
        record = read_record(second / f"reward/member-{member}")
        assert record["meta_data"]["rows_in"] == 4
        expected = {"data": second / "repaired", "meta_data": second / "samples/samples.jsonl",
                    "model_name_or_path": first / f"reward/member-{member}", "learning_rate": 1e-4}
        assert {key: record["config"][key] for key in expected} == {
            key: value if isinstance(value, float) else str(value) for key, value in expected.items()}
        assert read_record(first / f"reward/member-{member}")["config"]["model_name_or_path"] == str(tiny_policy)
    judged = read_judged(second / "rewards")
    assert judged.rewards.shape == judged.scores.shape == (4, 3, 3) and not np.isnan(judged.rewards).any()
    written, again = replay_pairs(first / "pairs")
    assert written == again and {row["source"] for row in written} <= {"actor", "judge"}
    judged = read_judged(first / "rewards")
    for row in written:
        if row["source"] == "judge":
            assert row["target"] == 1 and row["margin"] == 0
            continue
        prompt = judged.prompts.index(row["prompt"])
        chosen, rejected = (judged.responses[prompt].index(row[side]) for side in ("chosen", "rejected"))
        strength = float((judged.rewards[prompt, chosen] - judged.rewards[prompt, rejected]).mean())
        assert row["target"] == pytest.approx(1 / (1 + np.exp(-strength)))
        assert row["margin"] == pytest.approx(0.5 * strength)
    report = json.loads((out / "report/report.json").read_text())
    assert not report["metrics"] and len(report["iterations"]) == 2


def plan(folder, **settings):
    shared = {"seed": 0, "max_length": 128, "trust_remote_code": False}
    return plan_reward_models(RewardEnsembleConfig(**settings), data="d", model="m", samples="s", output_dir=folder,
                              previous=[], shared=shared)


@pytest.mark.parametrize("settings, match", [
    ({"members": 2}, "members: expected at least 3 with add_policy_pairs"),
    ({"score_min": 5.0}, "score_max: expected above score_min"),
    ({"vote": None, "repair": {"recipe": "soft"}}, "repair: expected nothing without a vote"),
    ({"train": {"learning_rat": 1}}, r"train\W+learning_rat"),
    ({"vote": {"members": 1}}, "members: expected"),
    ({"metarm": None, "train": {"meta_data": "x"}}, "train.meta_data: expected no value"),
])
def test_invalid_settings(tmp_path, settings, match):
    with pytest.raises(InputError, match=match):
        plan(tmp_path, **settings)


def test_one_plain_reward_model(tmp_path):
    steps = plan(tmp_path, vote=None, metarm=None, members=1, add_policy_pairs=False)
    assert list(steps) == ["pool", "member-0", "judge_rm"]
    training = steps["member-0"].args[0]
    assert training.data == str(tmp_path / "pool") and training.meta_data is None
