"""The loop on a tiny model: what each iteration writes, a killed run, pairs made again, rules that stop, baselines."""

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
from rmkit.core.legacy_config import build_config
from rmkit.core.stage import read_record
from rmkit.meta_rewarding import MetaRewardConfig, meta_reward, replay_pairs
from rmkit.meta_rewarding.plan import plan_loop

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
SETTINGS = """\
iterations: 2
judge_pairs: 1
prompts_per_iteration: 5
question: gold
rho: [0.0, hold]
max_length: 256
sample: {samples: 3, max_new_tokens: 8}
language: {samples: 3, max_new_tokens: 16}
meta: {max_new_tokens: 16, most: 3}
dpo: {learning_rate: 1.0e-4, num_train_epochs: 2, per_device_train_batch_size: 4, use_cpu: true, disable_tqdm: true,
      save_steps: 1}
evaluation: {samples: 2, prompts: 3, max_new_tokens: 8}
drift: {score: {warn: null, stop: null}, top: {warn: null, stop: null}, length: {warn: 0.0001, stop: null},
        length_step: {warn: null, stop: null}, position: {warn: null, stop: null}}
"""


@pytest.fixture(scope="module")
def settings(player, prompts_file):
    places = {"model_name_or_path": str(player), "prompts": str(prompts_file), "evaluation_prompts": str(prompts_file)}
    judge = {"model_name_or_path": str(player), "question": "gold", "max_new_tokens": 16}
    return {**yaml.safe_load(SETTINGS), **places, "compare": {"n_bootstrap": 20, "language_model": judge}}


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """The folder of a whole run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    meta_reward(build_config(MetaRewardConfig, {**settings, "output_dir": str(folder)}, "test"))
    return folder


def read_report(folder):
    content = json.loads((folder / "report/report.json").read_text())
    return {name: content[name] for name in ("figures", "iterations")}


def test_each_iteration_writes_what_its_pairs_are_made_of(finished):
    first, second = (finished / f"iteration-{number}" for number in (1, 2))
    asked = [[json.loads(line)["prompt"] for line in file.read_text().splitlines()]
             for file in sorted((finished / "prompts").glob("iteration-*.jsonl"))]
    assert [len(own) for own in asked] == [5, 5] and not [one for one in asked[0] if one in asked[1]]
    assert (first / "battles/battles.jsonl").exists() and not (second / "battles").exists()
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
    configs = [read_record(folder / "model")["config"] for folder in (first, second)]
    assert configs[1]["model_name_or_path"] == str(first / "model") and configs[1]["reference"] is None
    judge = read_record(second / "judgments")["config"]["language_model"]
    assert judge["model_name_or_path"] == str(first / "model") and judge["samples"] == 3


def test_the_report_tells_of_every_policy_and_iteration(finished):
    report = read_report(finished)
    assert len(report["figures"]) == 3 and [row["iteration"] for row in report["iterations"]] == [1, 2]
    assert report["figures"][0]["kl"] == pytest.approx(0, abs=1e-6) and report["figures"][2]["kl"] != 0
    assert "gold" not in report["figures"][0]  # prompts without a request
    assert report["figures"][0]["judged_win_rate"] is None and 0 <= report["figures"][2]["judged_win_rate"] <= 1
    compared = read_record(finished / "compare")["comparison"]["policies"]
    assert report["figures"][1]["judged_win_rate"] == compared["policy-1"]["win_rate"]
    assert report["figures"][2]["arena"] == compared["policy-2"]["arena"]["score"]
    first, second = report["iterations"]
    assert first["rho"] == 0 and second["rho"] in (0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48)
    assert first["pairs"]["judge"]["pairs"] >= 1 and "judge" not in second["pairs"]
    assert first["drift"]["first"] is not None and second["drift"]["first"] is None
    assert [alarm["rule"] for alarm in second["alarms"]] == ["length"] and not first["alarms"]
    page = (finished / "report/report.html").read_text()
    assert "<svg" in page and "after 2" in page and "warn in iteration 2: change of length" in page


def test_a_replay_sees_a_changed_dataset(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished / "iteration-1", copy)
    record = json.loads((copy / "pairs/stage.json").read_text())
    record["config"] |= {"language": str(copy / "judgments"), "battles": str(copy / "battles")}
    (copy / "pairs/stage.json").write_text(json.dumps(record))
    written, again = replay_pairs(copy / "pairs")
    assert written == again
    lines = (copy / "battles/battles.jsonl").read_text().splitlines()
    (copy / "battles/battles.jsonl").write_text("\n".join(lines[:1]) + "\n")
    written, again = replay_pairs(copy / "pairs")
    assert written != again
    with pytest.raises(InputError, match="a finished stage `pair`"):
        replay_pairs(copy / "samples")


def test_killed_it_goes_on_to_the_same_end(settings, finished, tmp_path):
    place = tmp_path / "killed"
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump({**settings, "output_dir": str(place)}))
    command = [sys.executable, "-m", "rmkit", "meta-reward", str(tmp_path / "loop.yaml")]
    process = subprocess.Popen(command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(place.glob("iteration-1/model/checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (place / "iteration-1/model/stage.json").exists()
    meta_reward(build_config(MetaRewardConfig, {**settings, "output_dir": str(place)}, "test"))
    assert read_report(place) == read_report(finished)
    one, other = (load_file(folder / "iteration-2/model/model.safetensors") for folder in (place, finished))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_alarm_that_stops_ends_the_loop_before_its_training(settings, finished, tmp_path, capsys):
    place = tmp_path / "stopped"
    shutil.copytree(finished, place)
    drift = {**settings["drift"], "distinct": {"warn": -1.0, "stop": -1.0}}
    shutil.rmtree(place / "iteration-1/model")
    shutil.rmtree(place / "iteration-2")
    meta_reward(build_config(MetaRewardConfig, {**settings, "output_dir": str(place), "drift": drift}, "test"))
    report = read_report(place)
    assert len(report["iterations"]) == len(report["figures"]) == 1
    assert [alarm["level"] for alarm in report["iterations"][0]["alarms"]] == ["stop"]
    assert "stop in iteration 1" in capsys.readouterr().out
    assert not (place / "iteration-1/model").exists()


def test_dpo_on_a_fixed_set(settings, finished, tmp_path):
    fixed = {**settings, "output_dir": str(tmp_path / "fixed"), "iterations": 1, "evaluation_prompts": None,
             "compare": None, "fixed_pairs": str(finished / "iteration-1/pairs")}
    meta_reward(build_config(MetaRewardConfig, fixed, "test"))
    one, other = (load_file(folder / "iteration-1/model/model.safetensors")
                  for folder in (tmp_path / "fixed", finished))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert sorted(path.name for path in (tmp_path / "fixed").iterdir()) == ["iteration-1", "report"]


def test_arms_by_their_settings(settings, tmp_path):
    def plan(**changes):
        return plan_loop(
            build_config(MetaRewardConfig, {**settings, "output_dir": str(tmp_path / "o"), **changes}, "test")
        )

    own = plan(judge_pairs=0, rho=[0.1], max_response=[None]).iterations
    assert all(one.battle is None and one.pair.rho == 0.1 and one.pair.max_response is None for one in own)
    paper = plan(iterations=4, judge_pairs=2, rho=[0.0, 0.32, 0.32, 0.4]).iterations
    assert [one.pair.rho for one in paper] == [0.0, 0.32, 0.32, 0.4]
    assert [one.pair.max_response for one in paper] == [2500, None, None, None]
    assert [one.pair.max_judgment for one in paper] == [1100, 1000, 1000, 1000]
    assert [one.battle is not None for one in paper] == [True, True, False, False]
    assert len({one.sample.seed for one in paper}) == 4
    nothing = plan(iterations=0, compare=None)
    assert not nothing.iterations and len(nothing.measures) == 1
    taught = plan(sft={"data": "rows.jsonl"})
    assert taught.sft.data == "rows.jsonl" and taught.iterations[0].model == str(tmp_path / "o/sft")


def test_all_settings_are_checked_before_anything_starts(settings, tmp_path):
    for changes, match in (
        ({"dpo": {"learning_rat": 1}}, "dpo: learning_rat: expected a known key"),
        ({"language": {"question": "rubric"}}, "language: question: expected a key of the stage alone"),
        ({"language": {"sample": 2}}, "language: sample: expected a known key.* mean samples"),
        ({"meta": {"model_name_or_path": "x"}}, "meta: model_name_or_path: expected a key of the stage alone"),
        ({"meta": {"question": "rubric"}}, "meta: question: expected a key of the stage alone"),
        ({"evaluation_prompts": "gold"}, "evaluation_prompts: expected prompts to measure on, or null"),
        ({"sample": {"data": "x"}}, "sample: data: expected a key of the stage alone"),
        ({"question": "comparison"}, "question: expected one with a meta-judge"),
        ({"judge": "reward"}, "judge_pairs: expected 0 with the judge reward"),
        ({"rho": []}, "rho: expected a value for each iteration"),
        ({"rho": [0.5]}, "rho and grid: expected numbers in"),
        ({"iterations": -1}, "iterations: expected at least 0"),
        ({"iterations": 0}, "compare: expected evaluation_prompts and iterations"),
        ({"meta": {"most": 1}}, "most: expected at least 2"),
        ({"pairs": {"weak": "x"}}, "weak"),
    ):
        with pytest.raises(InputError, match=match):
            meta_reward(
                build_config(MetaRewardConfig, {**settings, "output_dir": str(tmp_path / "out"), **changes}, "test")
            )
    assert not (tmp_path / "out").exists()
