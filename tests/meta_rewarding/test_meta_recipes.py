"""The loop's recipes, each run for one iteration with less data, less training and a tiny model."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from rmkit.cli import main
from rmkit.core.config import load_config
from rmkit.core.stage import read_record
from rmkit.meta_rewarding import MetaRewardConfig, replay_pairs
from rmkit.meta_rewarding.plan import LoopPlan
from rmkit.training.zero import free_port

pytestmark = pytest.mark.slow
RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {
    "iterations": 1, "prompts_per_iteration": 4, "max_length": 256, "sample.samples": 3, "judge_llm.samples": 3,
    "dpo.max_steps": 1, "dpo.per_device_train_batch_size": 4, "dpo.use_cpu": True, "dpo.disable_tqdm": True,
    "evaluation.prompts": 2, "evaluation.samples": 2,
}
SIZES = {"train": 8, "validation": 4, "test": 2, "prompts": 8, "evaluation_prompts": 4, "demonstrations": 0,
         "judgments": 0, "verdicts": 0}


def run_recipe(name, tmp_path, changes):
    """Run a recipe with changes; returns the output folder."""
    changes = SMALL | changes | {"output_dir": str(tmp_path / "out")}
    words = [word for key, value in changes.items() for word in (f"--{key}", json.dumps(value))]
    assert main(["meta-reward", str(RECIPES / f"meta_rewarding_{name}.yaml"), *words]) == 0
    return tmp_path / "out"


def test_synthetic(tiny_policy, tmp_path):
    out = run_recipe("synthetic", tmp_path, {
        "model_name_or_path": str(tiny_policy), "synthetic": SIZES, "sample.max_new_tokens": 8,
        "judge_llm.max_new_tokens": 16, "meta_judge.max_new_tokens": 16, "evaluation.max_new_tokens": 8,
    })
    before, after = json.loads((out / "report/report.json").read_text())["metrics"]
    assert before["win_rate"] == 0.5
    assert {"gold", "win_rate_lc", "win_rate_interval", "spearman_llm", "agreement_llm"} <= set(after)
    page = (out / "report/report.html").read_text()
    assert "win rate against the first policy" in page and "length-controlled" in page


def test_llama_with_a_server_that_is_started_for_each_model(tiny_policy, prompts_file, tmp_path):
    port = free_port()
    server = [sys.executable, str(Path(__file__).with_name("scripted_server.py")), "{model}", port]
    ranked = tmp_path / "ranked.jsonl"
    ranked.write_text("".join(json.dumps({
        "prompt": f"What is {thing}?", "responses": ["It is so.", "Who knows?"], "ranks": [0, 1],
    }) + "\n" for thing in ("it", "red", "a lamp", "this", "that")))
    out = run_recipe("llama3_8b", tmp_path, {
        "model_name_or_path": str(tiny_policy), "prompts": str(prompts_file), "evaluation_prompts": str(prompts_file),
        "eft.data": str(ranked), "eft.validation_fraction": 0.0, "server.command": shlex.join(server),
        "server.base_url": f"http://127.0.0.1:{port}/v1", "server.startup_timeout": 60, "sft.use_cpu": True,
        "sft.disable_tqdm": True, "sft.max_steps": 1, "sft.num_processes": 1, "sft.bf16": False,
        "dpo.num_processes": 1, "dpo.bf16": False,
    })
    counts = read_record(out / "eft/data")["judgments"]
    assert counts["train"] >= 1 and sum(counts.values()) == 5 * 2 * 3
    for line in (out / "eft/data/train.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["prompt"][0]["content"].startswith("You grade") and "Score:" in row["completion"][0]["content"]
    assert read_record(out / "iteration-1/model")["config"]["model_name_or_path"] == str(out / "sft")
    pairs, again = replay_pairs(out / "iteration-1/pairs")
    assert pairs == again and {row["source"] for row in pairs} == {"actor", "judge"}


def test_llama_has_the_papers_settings(tmp_path):
    config = load_config(MetaRewardConfig, RECIPES / "meta_rewarding_llama3_8b.yaml", ["--output_dir", str(tmp_path)])
    iterations = LoopPlan(config).iterations
    assert [(pairs.rho, pairs.max_response, pairs.max_judgment)
            for pairs in (steps["pairs"].args[0] for steps in iterations)] == [
        (0.0, 2500, 1100), (0.32, None, 1000), (0.32, None, 1000), (0.4, None, 1000)]
    assert ["meta_judge" in steps for steps in iterations] == [True, True, False, False]
    sample, judge, dpo = (iterations[0][name].args[0] for name in ("sample", "judge_llm", "dpo"))
    assert (sample.samples, sample.temperature, sample.top_p) == (7, 0.8, 0.95)
    assert [judge.judge[key] for key in ("samples", "temperature", "top_p", "prompt")] == [11, 0.8, 0.95, "additive_5"]
    assert judge.judge["base_url"] == sample.base_url
    assert (dpo.learning_rate, dpo.beta, dpo.num_train_epochs) == (5e-6, 0.1, 10)
    assert dpo.per_device_train_batch_size * dpo.gradient_accumulation_steps * dpo.num_processes == 32
    assert dpo.reference is None and dpo.lr_scheduler_type == "cosine" and dpo.deepspeed.endswith("zero3.json")
