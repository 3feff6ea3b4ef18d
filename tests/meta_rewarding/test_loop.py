"""The loop on a tiny model: what each iteration writes, a killed run, replayed pairs, drift alerts, variants."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.meta_rewarding import MetaRewardConfig, meta_reward, replay_pairs
from rmkit.meta_rewarding.plan import LoopPlan

pytestmark = pytest.mark.slow
SETTINGS = """\
iterations: 2
judge_pairs: 1
prompts_per_iteration: 5
judge_prompt: synthetic
rho: [0.0, match_length]
max_length: 256
sample: {samples: 3, max_new_tokens: 8}
judge_llm: {samples: 3, max_new_tokens: 16}
meta_judge: {max_new_tokens: 16, max_judgments: 3}
dpo: {learning_rate: 1.0e-4, num_train_epochs: 2, per_device_train_batch_size: 4, use_cpu: true, disable_tqdm: true,
      save_steps: 1}
evaluation: {samples: 2, prompts: 3, max_new_tokens: 8}
drift: {score: {warn: null, stop: null}, top: {warn: null, stop: null}, length: {warn: 0.0001, stop: null},
        length_step: {warn: null, stop: null}, position: {warn: null, stop: null}}
"""


@pytest.fixture(scope="module")
def settings(tiny_policy, prompts_file):
    inputs = {"model_name_or_path": str(tiny_policy), "prompts": str(prompts_file),
              "evaluation_prompts": str(prompts_file)}
    judge = {"kind": "llm", "model_name_or_path": str(tiny_policy), "prompt": "synthetic", "max_new_tokens": 16}
    return {**yaml.safe_load(SETTINGS), **inputs, "compare": {"n_bootstrap": 20, "judge": judge}}


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """The folder of a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    meta_reward(MetaRewardConfig(**settings, output_dir=str(folder)))
    return folder


def read_report(folder):
    content = json.loads((folder / "report/report.json").read_text())
    return {name: content[name] for name in ("metrics", "iterations")}


def assert_equal_models(*folders):
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_each_iteration_writes(finished):
    first, second = (finished / f"iteration-{number}" for number in (1, 2))
    prompts = [[json.loads(line)["prompt"] for line in file.read_text().splitlines()]
               for file in sorted((finished / "prompts").glob("iteration-*.jsonl"))]
    assert [len(part) for part in prompts] == [5, 5] and not [prompt for prompt in prompts[0] if prompt in prompts[1]]
    assert (first / "meta_judgments/meta_judgments.jsonl").exists() and not (second / "meta_judgments").exists()
    pairs, again = replay_pairs(first / "pairs")
    assert pairs == again and {row["source"] for row in pairs} == {"actor", "judge"}
    for row in pairs:
        if row["source"] == "actor":
            assert row["score_chosen"] > row["score_rejected"]
        else:
            assert "Score:" in row["chosen"][0]["content"] and "Score:" in row["rejected"][0]["content"]
            assert row["prompt"][-1]["content"].endswith("How good is the response?")
    pairs, again = replay_pairs(second / "pairs")
    assert pairs == again and pairs
    dpo = read_record(second / "model")["config"]
    assert dpo["model_name_or_path"] == str(first / "model") and dpo["reference"] is None
    judge = read_record(second / "judgments")["config"]["judge"]
    assert judge["model_name_or_path"] == str(first / "model") and judge["samples"] == 3


def test_the_report_has_every_policy_and_iteration(finished):
    report = read_report(finished)
    before, after_1, after_2 = report["metrics"]
    assert before["kl"] == pytest.approx(0, abs=1e-6) and after_2["kl"] != 0
    assert "gold" not in before  # prompts without a request
    assert before["judged_win_rate"] is None and 0 <= after_2["judged_win_rate"] <= 1
    compared = read_record(finished / "compare")["comparison"]["policies"]
    assert after_1["judged_win_rate"] == compared["policy-1"]["win_rate"]
    assert after_2["arena"] == compared["policy-2"]["arena"]["score"]
    first, second = report["iterations"]
    assert [first["iteration"], second["iteration"]] == [1, 2]
    assert first["rho"] == 0 and second["rho"] in (0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48)
    assert first["pairs"]["judge"]["pairs"] >= 1 and "judge" not in second["pairs"]
    assert first["drift"]["first"] is not None and second["drift"]["first"] is None
    assert [alert["rule"] for alert in second["alerts"]] == ["length"] and not first["alerts"]
    page = (finished / "report/report.html").read_text()
    assert "<svg" in page and "after 2" in page and "warn in iteration 2: change of length" in page


def test_a_replay_sees_changed_inputs(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished / "iteration-1", copy)
    record = json.loads((copy / "pairs/stage.json").read_text())
    record["config"] |= {"llm_judgments": str(copy / "judgments"), "meta_judgments": str(copy / "meta_judgments")}
    (copy / "pairs/stage.json").write_text(json.dumps(record))
    written, again = replay_pairs(copy / "pairs")
    assert written == again
    file = copy / "meta_judgments/meta_judgments.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    written, again = replay_pairs(copy / "pairs")
    assert written != again
    with pytest.raises(InputError, match="output of `write_pairs`"):
        replay_pairs(copy / "samples")


def test_a_killed_run_continues_to_the_same_results(settings, finished, tmp_path):
    folder = tmp_path / "killed"
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump({**settings, "output_dir": str(folder)}))
    command = [sys.executable, "-m", "rmkit", "meta-reward", str(tmp_path / "loop.yaml")]
    process = subprocess.Popen(command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(folder.glob("iteration-1/model/checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "iteration-1/model/stage.json").exists()
    meta_reward(MetaRewardConfig(**settings, output_dir=str(folder)))
    assert read_report(folder) == read_report(finished)
    assert_equal_models(folder / "iteration-2/model", finished / "iteration-2/model")


def test_a_drift_alert_can_stop_the_loop_before_training(settings, finished, tmp_path, capsys):
    folder = tmp_path / "stopped"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "iteration-1/model")
    shutil.rmtree(folder / "iteration-2")
    drift = {**settings["drift"], "distinct": {"warn": -1.0, "stop": -1.0}}
    meta_reward(MetaRewardConfig(**{**settings, "output_dir": str(folder), "drift": drift}))
    report = read_report(folder)
    assert len(report["iterations"]) == len(report["metrics"]) == 1
    assert [alert["severity"] for alert in report["iterations"][0]["alerts"]] == ["stop"]
    assert "stop in iteration 1" in capsys.readouterr().out
    assert not (folder / "iteration-1/model").exists()


def test_offline_pairs(settings, finished, tmp_path):
    changes = {"output_dir": str(tmp_path), "iterations": 1, "evaluation_prompts": None, "compare": None,
               "offline_pairs": str(finished / "iteration-1/pairs")}
    meta_reward(MetaRewardConfig(**{**settings, **changes}))
    assert_equal_models(tmp_path / "iteration-1/model", finished / "iteration-1/model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iteration-1", "report"]


def test_variants_by_their_settings(settings, tmp_path):
    def plan(**changes):
        return LoopPlan(MetaRewardConfig(**{**settings, "output_dir": str(tmp_path), **changes}))

    def pair_settings(iterations, name):
        return [getattr(steps["pairs"].args[0], name) for steps in iterations]

    self_rewarding = plan(judge_pairs=0, rho=[0.1], max_response=[None]).iterations
    assert not any("meta_judge" in steps for steps in self_rewarding)
    assert pair_settings(self_rewarding, "rho") == [0.1, 0.1]
    assert pair_settings(self_rewarding, "max_response") == [None, None]
    without_training = plan(iterations=0, compare=None)
    assert not without_training.iterations and len(without_training.evaluations) == 1
    fine_tuned = plan(sft={"data": "rows.jsonl"})
    assert fine_tuned.setup["sft"].args[0].data == "rows.jsonl"
    assert fine_tuned.iterations[0]["sample"].args[0].model_name_or_path == str(tmp_path / "sft")


@pytest.mark.parametrize("changes, match", [
    ({"judge_llm": {"sample": 2}}, r"judge_llm\W+sample: expected a known key.* mean .*samples"),
    ({"meta_judge": {"model_name_or_path": "x"}}, r"meta_judge.model_name_or_path: expected no value"),
    ({"meta_judge": {"max_judgments": 1}}, "max_judgments: expected int >= 2"),
    ({"evaluation_prompts": "synthetic"}, "evaluation_prompts: expected prompts to evaluate on, or null"),
    ({"judge_prompt": "pairwise"}, "prompt: expected one that scores"),
    ({"judge": "reward_model"}, "judge_pairs: expected 0 with judge reward_model"),
    ({"judge": "both"}, "judge_rm.data: expected labelled pairs"),
    ({"rho": []}, "rho: expected list"),
    ({"rho": [0.5]}, "rho and rho_grid: expected numbers in"),
    ({"iterations": -1}, "iterations: expected int >= 0"),
    ({"iterations": 0}, "compare: expected evaluation_prompts and iterations"),
    ({"pairs": {"weak_pairs": "x"}}, "pairs.weak_pairs: expected one of keep"),
])
def test_settings_are_checked_before_anything_starts(settings, tmp_path, changes, match):
    with pytest.raises(InputError, match=match):
        meta_reward(MetaRewardConfig(**{**settings, "output_dir": str(tmp_path / "out"), **changes}))
    assert not (tmp_path / "out").exists()
