"""Every recipe for a whole run is executed in miniature: its own keys, with less data, less training, tiny models."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from rmkit.commands.run import GOLD, RunConfig, run
from rmkit.core.legacy_config import load_config, read_yaml
from rmkit.core.stage import read_record

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
RECIPES = Path(__file__).parents[2] / "recipes"
SECTIONS = {field.name for field in dataclasses.fields(RunConfig)} & {"read", "vote", "repair", "train"}
RUNS = sorted(path for path in RECIPES.glob("*.yaml") if SECTIONS & set(read_yaml(path)))
TRAINING = {
    "max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "processes": 1, "bf16": "false",
    "disable_tqdm": "true",
}
GOLD_SIZES = {"train": 60, "validation": 20, "test": 5, "demonstrations": 40, "hidden": 32, "layers": 2}


@pytest.fixture
def shrink(tiny_pairs, tiny_base, tmp_path):
    """shrink(recipe) -> the words that make a run of it small."""

    def list_words(path):
        recipe = read_yaml(path)
        changes = {"output_dir": tmp_path / "out", "vote.members": 2, "evaluate.n_bootstrap": 20}
        changes |= {f"train.{name}": value for name, value in TRAINING.items()}
        if recipe.get("vote", {}).get("kind") == "full":
            changes |= {f"vote.train.{name}": value for name, value in TRAINING.items()}
        else:
            changes["vote.heads.epochs"] = 1
        if recipe.get("vote", {}).get("folds", 5):
            changes["vote.folds"] = 2
        if GOLD in (recipe.get("data", GOLD), recipe.get("model_name_or_path", GOLD)):
            changes |= {f"gold.{name}": size for name, size in GOLD_SIZES.items()}
        if recipe.get("data", GOLD) != GOLD:
            for role in ("data", "read.validation", "read.test"):
                file = tmp_path / f"{role}.jsonl"
                file.write_text("\n".join(json.dumps(row) for row in tiny_pairs.remove_columns(["target", "margin"])))
                changes[role] = file
        if recipe.get("model_name_or_path", GOLD) != GOLD:
            changes["model_name_or_path"] = tiny_base
        return [word for key, value in changes.items() for word in (f"--{key}", str(value))]

    return list_words


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_recipe(path, shrink, tmp_path):
    config = load_config(RunConfig, path, shrink(path))
    report = run(config)
    assert (report / "report.html").stat().st_size > 10_000
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    record = read_record(tmp_path / "out/repaired")
    wanted = recipe.get("repair", {}).get("recipe", "validation")
    assert record["recipe"] == wanted or record["chosen_by"] == wanted == "validation"
    assert read_record(tmp_path / "out/votes")["loss"] == recipe.get("vote", {}).get("loss", "symmetric")


@pytest.mark.parametrize("name, beta, prototypes", [
    ("simcse", 1.0, None), ("simcse_difference", 1.0, None), ("swav", 0.1, 50), ("swav_difference", 0.5, 20),
])
def test_contrastive_recipes_have_the_papers_settings(name, beta, prototypes):
    """arXiv 2401.06080, Appendix B.2."""
    paper = {"contrastive": name, "contrastive_beta": beta, "dropout": 0.05, "learning_rate": 5e-6,
             "num_train_epochs": 1, "per_device_train_batch_size": 16}
    recipe = read_yaml(RECIPES / f"{name}.yaml")
    assert {key: recipe[key] for key in paper} == paper and recipe.get("prototypes") == prototypes


def test_every_recipe_is_for_a_run_a_judge_a_loop_or_for_training():
    judges = set(RECIPES.glob("judge*.yaml"))  # run by test_judge_recipes.py
    loops = set(RECIPES.glob("meta_rewarding*.yaml"))  # run by tests/meta_rewarding/test_meta_recipes.py
    others = {*RECIPES.glob("*.yaml")} - {*RUNS} - judges - loops  # run by tests/stages/test_training.py
    assert RUNS and all("learning_rate" in read_yaml(path) for path in others)
