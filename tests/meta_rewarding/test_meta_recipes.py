"""The loop's recipes, each executed for one iteration: its own keys, less data, less training, a tiny model."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from rmkit.cli import main
from rmkit.core.legacy_config import load_config
from rmkit.core.stage import read_record
from rmkit.meta_rewarding import MetaRewardConfig, replay_pairs
from rmkit.meta_rewarding.plan import plan_loop
from rmkit.training.zero import free_port

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {
    "iterations": 1, "prompts_per_iteration": 4, "max_length": 256, "sample.samples": 3, "language.samples": 3,
    "dpo.max_steps": 1, "dpo.per_device_train_batch_size": 4, "dpo.use_cpu": True, "dpo.disable_tqdm": True,
    "evaluation.prompts": 2, "evaluation.samples": 2,
}
SCHOOL = {"train": 8, "validation": 4, "test": 2, "prompts": 8, "evaluation": 4, "instructions": 8, "judgments": 8,
          "verdicts": 8, "hidden": 32, "layers": 1}


def spell(changes):
    return [word for key, value in changes.items() for word in (f"--{key}", json.dumps(value))]


def test_the_gold_world(player, tmp_path):
    changes = SMALL | {"output_dir": str(tmp_path / "out"), "model_name_or_path": str(player), "school": SCHOOL,
                       "sample.max_new_tokens": 8, "language.max_new_tokens": 16, "meta.max_new_tokens": 16,
                       "evaluation.max_new_tokens": 8}
    assert main(["meta-reward", str(RECIPES / "meta_rewarding_gold.yaml"), *spell(changes)]) == 0
    figures = json.loads((tmp_path / "out/report/report.json").read_text())["figures"]
    assert len(figures) == 2 and figures[0]["win_rate"] == 0.5
    assert {"gold", "win_rate_lc", "win_rate_interval", "spearman_language", "agreement_language"} <= set(figures[1])
    page = (tmp_path / "out/report/report.html").read_text()
    assert "win rate against the first policy" in page and "length-controlled" in page


def test_llama_by_a_server_that_is_started_for_each_model(player, prompts_file, tmp_path):
    port = free_port()
    server = [sys.executable, str(Path(__file__).with_name("scripted_server.py")), "{model}", port]
    ranked = tmp_path / "ranked.jsonl"
    ranked.write_text("".join(json.dumps({
        "prompt": f"What is {thing}?", "responses": ["It is so.", "Who knows?"], "ranks": [0, 1],
    }) + "\n" for thing in ("it", "red", "a lamp", "this", "that")))
    changes = SMALL | {
        "output_dir": str(tmp_path / "out"), "model_name_or_path": str(player), "prompts": str(prompts_file),
        "evaluation_prompts": str(prompts_file), "eft.data": str(ranked), "eft.validation_fraction": 0.0,
        "server.command": shlex.join(server), "server.base_url": f"http://127.0.0.1:{port}/v1",
        "server.patience": 60, "sft.use_cpu": True, "sft.disable_tqdm": True, "sft.max_steps": 1,
        "sft.processes": 1, "sft.bf16": False, "dpo.processes": 1, "dpo.bf16": False,
    }
    assert main(["meta-reward", str(RECIPES / "meta_rewarding_llama3_8b.yaml"), *spell(changes)]) == 0
    out = tmp_path / "out"
    lessons = read_record(out / "eft/lessons")["judgments"]
    assert lessons["train"] >= 1 and sum(lessons.values()) == 5 * 2 * 3
    for line in (out / "eft/lessons/train.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["prompt"][0]["content"].startswith("You grade") and "Score:" in row["completion"][0]["content"]
    assert read_record(out / "iteration-1/model")["config"]["model_name_or_path"] == str(out / "sft")
    pairs, again = replay_pairs(out / "iteration-1/pairs")
    assert pairs == again and {row["source"] for row in pairs} == {"actor", "judge"}


def test_the_papers_settings(tmp_path):
    config = load_config(MetaRewardConfig, RECIPES / "meta_rewarding_llama3_8b.yaml", ["--output_dir", str(tmp_path)])
    plan = plan_loop(config)
    assert [(one.pair.rho, one.pair.max_response, one.pair.max_judgment) for one in plan.iterations] == [
        (0.0, 2500, 1100), (0.32, None, 1000), (0.32, None, 1000), (0.4, None, 1000)]
    assert [one.battle is not None for one in plan.iterations] == [True, True, False, False]
    first = plan.iterations[0]
    assert (first.sample.samples, first.sample.temperature, first.sample.top_p) == (7, 0.8, 0.95)
    asked = first.judge.language_model
    assert (asked.samples, asked.temperature, asked.top_p, asked.question) == (11, 0.8, 0.95, "rubric")
    assert (first.dpo.learning_rate, first.dpo.beta, first.dpo.num_train_epochs) == (5e-6, 0.1, 10)
    assert first.dpo.per_device_train_batch_size * first.dpo.gradient_accumulation_steps * first.dpo.processes == 32
    assert first.dpo.reference is None and first.dpo.lr_scheduler_type == "cosine"
    assert first.dpo.deepspeed.endswith("zero3.json") and asked.base_url == first.sample.base_url
