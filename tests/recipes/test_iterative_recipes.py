"""Every recipe for iterative RLHF is executed for one round: its own keys, less data, less training, tiny models."""

import json
from pathlib import Path

import pytest

from rmkit.commands.iterate import IterateConfig, iterate
from rmkit.core.legacy_config import load_config, read_yaml

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
RECIPES = sorted((Path(__file__).parents[2] / "recipes/iterative_rlhf").glob("*.yaml"))
SMALL = {
    "rounds": 1, "evaluation": 3, "sample.prompts": 4, "sample.max_new_tokens": 5, "sample.samples": 2,
    "train.max_steps": 1, "train.per_device_train_batch_size": 4, "train.bf16": False, "train.disable_tqdm": True,
    "train.report_to": "none", "train.warmup_steps": 0, "reinforce.max_steps": 1, "reinforce.num_generations": 2,
    "reinforce.per_device_train_batch_size": 4, "reinforce.gradient_accumulation_steps": 1, "reinforce.bf16": False,
    "reinforce.max_completion_length": 5, "reinforce.disable_tqdm": True,
}
GOLD = {"train": 24, "validation": 4, "test": 2, "demonstrations": 24, "hidden": 32, "layers": 1}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe(path, tiny_pairs, tiny_base, tmp_path):
    recipe = read_yaml(path)
    changes = SMALL | {"output_dir": str(tmp_path / "out")}
    if recipe["data"] == "gold":
        changes |= {f"gold.{name}": size for name, size in GOLD.items()}
    else:
        pairs = tmp_path / "train.parquet"
        tiny_pairs.to_parquet(pairs)
        tiny_pairs.select(range(3)).to_parquet(tmp_path / "test.parquet")
        changes |= {"data": str(tmp_path), "model_name_or_path": str(tiny_base),
                    "evaluation_prompts": str(tmp_path / "test.parquet")}
    words = [word for key, value in changes.items() for word in (f"--{key}", json.dumps(value))]
    rounds = json.loads(iterate(load_config(IterateConfig, path, words)).read_text())["rounds"]
    assert list(rounds) == recipe["arms"] and all(len(figures) == 2 for figures in rounds.values())
    assert ("gold" in rounds["metarm"][1]) == (recipe["data"] == "gold")


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} == {"gold", "own"}
